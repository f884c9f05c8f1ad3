"""The session against a scripted bridge on a real Unix socket: learning, changes, deadlines, losses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from announcer.core.model import (
    UNKNOWN,
    AdvertiseRoutes,
    DesiredPeer,
    IPNetwork,
    ObservedBgp,
    ObservedPeer,
    Route,
    SetPeers,
    TearDown,
    WithdrawRoutes,
)
from announcer.exabgp import ExabgpError, ExabgpSession, Timing
from tests.builders import ip, net
from tests.fakes.bridge import FakeBridge, Neighbor
from tests.waiting import stays, until

PEER = ip("10.9.0.1")
ROUTE = Route(prefix=net("10.1.0.1/32"))
ADVERTISE = AdvertiseRoutes(peer_address=PEER, routes=(ROUTE,))
WITHDRAW = WithdrawRoutes(peer_address=PEER, routes=(ROUTE,))
SLOW_LEARNER = Timing(tick=0.01, learn=0.05, retry_first=0.01, reload_first=0.01)
QUICK = Timing(tick=0.01, confirm=0.05, flush=0.05, retry_first=0.01, reload_first=0.01, reload_most=0.02, wake=0.0)
TOR = DesiredPeer(
    name="tor",
    my_asn=64512,
    peer_asn=64513,
    peer_address=PEER,
    local_address=ip("10.9.0.2"),
    router_id=IPv4Address("10.9.0.2"),
)


@asynccontextmanager
async def running(
    directory: Path, timing: Timing = QUICK, wake: Callable[[], None] = lambda: None
) -> AsyncIterator[ExabgpSession]:
    session = ExabgpSession(directory, wake, timing=timing)
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        task.cancel()
        await asyncio.wait({task})


def seen(session: ExabgpSession) -> ObservedPeer:
    observed = session.observed()
    assert isinstance(observed, ObservedBgp)
    return observed.peers[0]


def has(session: ExabgpSession, *prefixes: str) -> bool:
    """Known, established, nothing in flight, and exactly these on the wire."""
    if session.observed() is UNKNOWN:
        return False
    peer = seen(session)
    return peer.is_established and not peer.pending and set(peer.routes) == {net(prefix) for prefix in prefixes}


def run(test: Callable[[], object]) -> None:
    coroutine = test()
    assert asyncio.iscoroutine(coroutine)
    asyncio.run(coroutine)


def test_session_is_unknown_without_a_bridge_and_refuses_routes(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as session:
            assert session.observed() is UNKNOWN
            with pytest.raises(ExabgpError):
                await session.apply(ADVERTISE)

    run(test)


def test_session_learns_what_was_advertised_before(tmp_path: Path) -> None:
    async def test() -> None:
        neighbor = Neighbor(adj_rib_out=["10.1.0.1/32", "10.1.0.2/32"])
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": neighbor}), running(tmp_path) as session:
            await until(lambda: has(session, "10.1.0.1/32", "10.1.0.2/32"))

    run(test)


def test_session_advertises_and_withdraws_and_wakes(tmp_path: Path) -> None:
    async def test() -> None:
        woken: list[bool] = []
        wakes = lambda: woken.append(True)  # noqa: E731
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}), running(tmp_path, wake=wakes) as session:
            await until(lambda: has(session))
            woken.clear()
            await session.apply(ADVERTISE)
            assert seen(session).pending == {ROUTE.prefix}
            await until(lambda: has(session, "10.1.0.1/32") and woken)
            await session.apply(WITHDRAW)
            await until(lambda: has(session))

    run(test)


def test_session_is_unknown_after_a_loss_and_learns_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as session:
            async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}):
                await until(lambda: has(session))
            await until(lambda: session.observed() is UNKNOWN)
            async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor(adj_rib_out=["10.1.0.9/32"])}):
                await until(lambda: has(session, "10.1.0.9/32"))

    run(test)


def test_loss_leaves_the_session_with_no_request_to_be_cancelled(tmp_path: Path) -> None:
    """Else a connection that takes too long later would end it for good (CPython 3.11)."""

    async def test() -> None:
        session = ExabgpSession(tmp_path, lambda: None, timing=QUICK)
        task = asyncio.create_task(session.run())
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}):
            await until(lambda: has(session))
        await until(lambda: session.observed() is UNKNOWN)
        assert task.cancelling() == 0
        task.cancel()
        await asyncio.wait({task})

    run(test)


def test_session_that_goes_down_takes_no_routes_until_it_is_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            bridge.set_established("10.9.0.1", is_established=False)
            await until(lambda: not seen(session).is_established)
            assert seen(session).last_error == "peer reset"
            with pytest.raises(ExabgpError):
                await session.apply(ADVERTISE)
            bridge.set_established("10.9.0.1", is_established=True)
            bridge.send("10.9.0.1", "10.1.0.1/32")
            await until(lambda: has(session, "10.1.0.1/32"))

    run(test)


def test_peer_that_is_to_end_while_another_ends_is_torn_down_in_the_same_wait(tmp_path: Path) -> None:
    async def test() -> None:
        neighbors = {"10_9_0_1": Neighbor(), "10_9_0_3": Neighbor()}
        timing = replace(QUICK, farewell=60.0)
        async with FakeBridge.serving(tmp_path, **neighbors) as bridge, running(tmp_path, timing) as session:
            await until(lambda: has(session))
            await session.apply(TearDown(peer_address=PEER))
            await until(lambda: "neighbor 10.9.0.1 teardown 10" in bridge.heard)
            await session.apply(TearDown(peer_address=ip("10.9.0.3")))
            await until(lambda: "neighbor 10.9.0.3 teardown 10" in bridge.heard)
            for peer in bridge.neighbors:
                bridge.set_established(peer, is_established=False)
            await session.apply(SetPeers(peers=(TOR,)))
            await until(lambda: "bridge reload" in bridge.heard)
            assert sum("teardown" in line for line in bridge.heard) == 2

    run(test)


def test_one_change_per_prefix_is_in_flight(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            bridge.is_deaf = True
            for action in (ADVERTISE, WITHDRAW, ADVERTISE):
                await session.apply(action)
            await until(lambda: any("nlri" in line for line in bridge.heard))
            assert len([line for line in bridge.heard if "nlri" in line]) == 1

    run(test)


def test_change_that_is_not_sent_in_time_is_flushed(tmp_path: Path) -> None:
    async def test() -> None:
        neighbor = Neighbor()
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": neighbor}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            bridge.loses_updates = True
            await session.apply(ADVERTISE)
            await until(lambda: seen(session).last_error and not seen(session).pending)
            neighbor.adj_rib_out = ["10.1.0.1/32"]
            await session.apply(ADVERTISE)
            await until(lambda: has(session, "10.1.0.1/32"))
            assert bridge.heard.count("neighbor 10.9.0.1 flush adj-rib out") >= 2

    run(test)


def test_line_that_exabgp_refuses_is_shown_at_once_and_costs_no_flush(tmp_path: Path) -> None:
    async def test() -> None:
        told: list[frozenset[IPNetwork]] = []
        serving = FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()})
        async with serving as bridge, running(tmp_path, wake=lambda: told.append(refused(session))) as session:
            await until(lambda: has(session))
            bridge.refuses = True
            flushes = bridge.heard.count("neighbor 10.9.0.1 flush adj-rib out")
            told.clear()
            await session.apply(ADVERTISE)
            await until(lambda: told)
            assert told[0] == {ROUTE.prefix}
            assert seen(session).pending
            await until(lambda: not seen(session).pending)
            bridge.refuses = False
            await session.apply(ADVERTISE)
            await until(lambda: has(session, "10.1.0.1/32"))
            assert not refused(session)
            assert bridge.heard.count("neighbor 10.9.0.1 flush adj-rib out") == flushes

    run(test)


def refused(session: ExabgpSession) -> frozenset[IPNetwork]:
    observed = session.observed()
    return frozenset() if observed is UNKNOWN else seen(session).refused


def test_unanswered_line_ends_the_connection(tmp_path: Path) -> None:
    async def test() -> None:
        timing = Timing(tick=0.01, answer=0.1, retry_first=0.01)
        serving = FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()})
        async with serving as bridge, running(tmp_path, timing) as session:
            await until(lambda: has(session))
            bridge.is_deaf = True
            await session.apply(ADVERTISE)
            await until(lambda: session.observed() is UNKNOWN)
            bridge.is_deaf = False
            await until(lambda: has(session))

    run(test)


def test_peer_that_never_says_everything_holds_up_no_other(tmp_path: Path) -> None:
    async def test() -> None:
        neighbors = {"10_9_0_1": Neighbor(says_end_of_rib=False), "10_9_0_3": Neighbor(adj_rib_out=["10.1.0.1/32"])}
        async with FakeBridge.serving(tmp_path, **neighbors), running(tmp_path, SLOW_LEARNER) as session:
            await until(lambda: session.observed() is not UNKNOWN)
            observed = session.observed()
            assert isinstance(observed, ObservedBgp)
            assert [peer.is_established for peer in observed.peers] == [False, True]

    run(test)


def test_family_that_the_peer_has_not_agreed_to_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        v6 = Route(prefix=net("fd00::/64"))
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}), running(tmp_path) as session:
            await until(lambda: has(session))
            with pytest.raises(ExabgpError, match="ipv6 unicast"):
                await session.apply(AdvertiseRoutes(peer_address=PEER, routes=(ROUTE, v6)))
            await until(lambda: has(session, "10.1.0.1/32"))

    run(test)


def test_queue_of_lines_is_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}), running(tmp_path) as session:
            await until(lambda: has(session))
            many = tuple(
                Route(prefix=net(f"10.1.{i // 256}.{i % 256}/32"), communities=frozenset({f"1:{i}"}))
                for i in range(5001)
            )
            with pytest.raises(ExabgpError, match="wait"):
                await session.apply(AdvertiseRoutes(peer_address=PEER, routes=many))

    run(test)


# -- the configuration -----------------------------------------------------------------------------------------------


def test_configuration_is_written_once_with_or_without_exabgp(tmp_path: Path) -> None:
    async def test() -> None:
        session = ExabgpSession(tmp_path / "new", lambda: None)
        await session.apply(SetPeers(peers=(TOR,)))
        path = tmp_path / "new" / "exabgp.next"
        first = path.stat()
        await session.apply(SetPeers(peers=(TOR,)))
        assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (first.st_ino, 0o600)
        path.write_text("somebody's own", encoding="ascii")
        await session.apply(SetPeers(peers=(TOR,)))
        assert "neighbor 10.9.0.1 {" in path.read_text(encoding="ascii")

    run(test)


@pytest.mark.parametrize(("how", "named"), [({"keeps": frozenset({PEER})}, 1), ({"keeps_others": True}, 2), ({}, 0)])
def test_peers_that_are_to_stay_stay_as_they_are_written(tmp_path: Path, how: dict[str, Any], named: int) -> None:
    async def test() -> None:
        session = ExabgpSession(tmp_path, lambda: None)
        await session.apply(SetPeers(peers=(TOR, replace(TOR, peer_address=ip("10.9.0.3")))))
        await session.apply(SetPeers(peers=(), **how))
        text = (tmp_path / "exabgp.next").read_text(encoding="ascii")
        assert text.count("\nneighbor ") == named
        assert ("neighbor 10.9.0.1 {" in text) is (named > 0)

    run(test)


def test_configuration_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def test() -> None:
        with pytest.raises(ExabgpError):
            await ExabgpSession(tmp_path / "file", lambda: None).apply(SetPeers(peers=()))

    run(test)


def test_reload_is_asked_for_once_where_it_works_and_never_without_need(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            for _ in range(3):
                await session.apply(SetPeers(peers=(TOR,)))
                await until(lambda: bridge.heard[-2:] == ["show neighbor json", "show neighbor configuration"])
            assert bridge.heard.count("bridge reload") == 1

    run(test)


def test_reload_that_is_lost_is_asked_for_again_and_becomes_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            bridge.loses_reloads = True
            await session.apply(SetPeers(peers=(TOR,)))
            await until(lambda: bridge.heard.count("bridge reload") >= 5)
            with pytest.raises(ExabgpError, match="does not take"):
                await session.apply(SetPeers(peers=(TOR,)))
            bridge.loses_reloads = False
            reloads = bridge.heard.count("bridge reload")
            await until(lambda: bridge.heard.count("bridge reload") > reloads)
            await until(session._is_configured, what="what ExaBGP says of its configuration")
            await session.apply(SetPeers(peers=(TOR,)))

    run(test)


def test_configuration_that_exabgp_refuses_is_told_and_holds_no_other_up(tmp_path: Path) -> None:
    other, third = (replace(TOR, hold_time_seconds=seconds) for seconds in (30, 60))

    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            await session.apply(SetPeers(peers=(TOR,)))
            await until(lambda: bridge.heard.count("bridge reload") == 1)
            bridge.rejects = "line 7: no such thing"
            await session.apply(SetPeers(peers=(other,)))
            await until(lambda: session._rejection)
            with pytest.raises(ExabgpError, match=r"refuses .*exabgp.next: line 7: no such thing"):
                await session.apply(SetPeers(peers=(other,)))
            await stays(lambda: bridge.heard.count("bridge reload") == 2, seconds=0.2)
            assert "hold-time 90;" in (tmp_path / "exabgp.conf").read_text("ascii")
            bridge.rejects = ""
            await session.apply(SetPeers(peers=(third,)))
            await until(lambda: "hold-time 60;" in (tmp_path / "exabgp.conf").read_text("ascii"))
            await session.apply(SetPeers(peers=(third,)))
            assert bridge.heard.count("bridge reload") == 3

    run(test)


def test_configuration_that_was_refused_is_tried_again_after_a_while(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge,
            running(tmp_path, timing=replace(QUICK, rejected=0.1)) as session,
        ):
            await until(lambda: has(session))
            bridge.rejects = "not now"
            await session.apply(SetPeers(peers=(TOR,)))
            await until(lambda: session._rejection)
            with pytest.raises(ExabgpError, match="not now"):
                await session.apply(SetPeers(peers=(TOR,)))
            bridge.rejects = ""
            await until(lambda: (tmp_path / "exabgp.conf").exists() and not session._rejection)
            await session.apply(SetPeers(peers=(TOR,)))

    run(test)


def test_refusal_of_what_was_wanted_before_is_nothing_to_what_is_wanted_now(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            await session.apply(SetPeers(peers=(TOR,)))
            bridge.say('{"bridge": "rejected", "description": "announcer-0", "error": "of another time"}')
            bridge.set_established("10.9.0.1", is_established=False)  # so that what was said before it has been heard
            await until(lambda: not seen(session).is_established)
            await session.apply(SetPeers(peers=(TOR,)))

    run(test)


def test_configuration_that_the_bridge_cannot_read_is_told_with_why(tmp_path: Path) -> None:
    async def test() -> None:
        async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge, running(tmp_path) as session:
            await until(lambda: has(session))
            bridge.rejects, bridge.is_blind = "exabgp.next: Permission denied", True
            await session.apply(SetPeers(peers=(TOR,)))
            await until(lambda: session._rejection)
            with pytest.raises(ExabgpError, match="Permission denied"):
                await session.apply(SetPeers(peers=(TOR,)))

    run(test)


def test_reload_is_never_asked_for_without_a_file(tmp_path: Path) -> None:
    """ExaBGP 5.0.15 would end its bridge for good."""

    async def test() -> None:
        async with running(tmp_path) as session:
            await session.apply(SetPeers(peers=(TOR,)))
            (tmp_path / "exabgp.next").unlink()
            async with FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge:
                await until(lambda: has(session))
                await stays(lambda: "bridge reload" not in bridge.heard, seconds=0.1)
                await session.apply(SetPeers(peers=(TOR,)))
                await until(lambda: "bridge reload" in bridge.heard)

    run(test)
