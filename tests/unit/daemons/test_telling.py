"""What daemons say of themselves, on fakes, and that serving it is in nobody's way."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from announcer.core import own
from announcer.daemons import telling
from announcer.daemons.allocator import Allocator, Alone
from announcer.daemons.process import run_until_told
from announcer.metrics import Address, TlsFiles
from tests.builders import group, node, service
from tests.fakes.store import FakeStore
from tests.unit.daemons.test_agent import TOR, earlier, rig, run
from tests.waiting import until


def test_agent_tells_what_it_does() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            await until(lambda: not telling.agent_unready(found.agent))
            state = telling.node_state(found.agent)
            assert state.addresses == {("virtual", "Advertised"): 1, ("local", "Holding"): 1}
            assert state.services == {"announced": 2, "pending": 0, "unannounced": 0}
            assert (state.held, state.moves[own.Cause.UNHELD]) == (1, 1)
            assert state.peers == {"established": 1, "down": 0}
            assert state.routes == {"proven": 1, "pending": 0, "refused": 0}
            assert state.sessions == {str(TOR): 1}
            assert state.session_routes[str(TOR), "proven"] == 1
            found.sidecar.set_established(TOR, is_established=False)
            await until(lambda: telling.node_state(found.agent).sessions == {str(TOR): 0})
            assert telling.node_state(found.agent).sessions_ended == {str(TOR): 1}
            assert state.frames["eth0"]["sent"] > 0
            assert state.process.passes.buckets[-1][1] > 0
            assert not any(state.failed_actions.values())

    run(test)


def test_agent_that_knows_nothing_yet_is_not_ready() -> None:
    async def test() -> None:
        async with rig() as found:
            found.store.is_synced = False
            assert telling.agent_unready(found.agent) == ("the store has not been read yet: lists are on their way",)
            assert not telling.node_state(found.agent).process.store.is_synced

    run(test)


def test_doubt_at_the_start_and_hold_of_the_store_are_one_metric() -> None:
    async def test() -> None:
        async with rig(node("n1"), addresses=earlier()) as found:
            await until(found.agent.doubts)
            assert telling.node_state(found.agent).process.store.is_held
            assert "held back since" in telling.agent_unready(found.agent)[0]
            found.agent.release()
            await until(lambda: not telling.agent_unready(found.agent))
            assert not telling.node_state(found.agent).process.store.is_held
            found.store.is_held = True
            assert telling.node_state(found.agent).process.store.is_held

    run(test)


def test_sidecar_that_is_silent_is_not_known_and_not_zero() -> None:
    async def test() -> None:
        async with rig() as found:
            found.sidecar.is_silent = True
            assert telling.node_state(found.agent).peers is None

    run(test)


class Follower(Alone):
    def is_leader(self) -> bool:
        return False


def test_allocator_tells_pools_and_services_while_it_leads() -> None:
    async def test() -> None:
        store = FakeStore(
            group("web", "10.1.0.0/30", "10.1.0.0/24"), service("a", pool="web"), service("b", pool="none")
        )
        allocator = Allocator(store, Alone())
        assert telling.allocator_unready(allocator) == ("no pass has come to its end yet",)
        running = asyncio.ensure_future(allocator.run())
        await until(lambda: not telling.allocator_unready(allocator))
        state = telling.cluster_state(allocator)
        assert state.is_leader
        assert state.services == {"assigned": 1, "refused": 1}
        assert state.pools["web", "ipv4", "assigned"] == 1
        assert allocator.held() == ""
        store.is_held = True
        assert allocator.held() == "2026-01-02T03:04:05Z held"
        allocator.leadership = Follower()
        assert telling.cluster_state(allocator).pools == {}
        assert telling.allocator_unready(allocator) == ()
        running.cancel()
        await asyncio.wait({running})

    run(test)


def test_farewell_waits_for_nobody_who_is_being_served() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            server = telling.agent_server(Address(host="127.0.0.1", port=0), None, found.agent)
            assert server is not None
            said: list[float] = []
            clock: Callable[[], float] = asyncio.get_running_loop().time

            async def work() -> None:
                await until(lambda: server.port)
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"GET /metrics HTTP/1.1\r\n")
                await writer.drain()
                os.kill(os.getpid(), signal.SIGTERM)
                said.append(clock())
                try:
                    await asyncio.Event().wait()
                finally:
                    writer.close()

            async def farewell() -> None:
                said.append(clock())

            async with asyncio.timeout(5):
                await run_until_told(lambda: telling.beside(work, server), farewell)
            assert said[1] - said[0] < 0.5

    run(test)


@pytest.mark.parametrize("process", ["agent", "allocator"])
def test_both_processes_serve_by_the_files_that_they_are_given(process: str, caplog: pytest.LogCaptureFixture) -> None:
    files = TlsFiles(certificate=Path("/none/tls.crt"), key=Path("/none/tls.key"))
    address = Address(host="127.0.0.1", port=0)

    async def test() -> None:
        async with rig() as found:
            allocator = Allocator(FakeStore(), Alone())
            agent = process == "agent"
            server = telling.agent_server(address, files, found.agent) if agent else None
            server = server or telling.allocator_server(address, files, allocator)
            assert server is not None
            running = asyncio.ensure_future(server.run())
            await until(lambda: "--metrics-cert /none/tls.crt" in "".join(str(vars(one)) for one in caplog.records))
            running.cancel()
            await asyncio.wait({running})

    run(test)
