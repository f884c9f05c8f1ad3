"""The session with a real ExaBGP, its bridge and a real FRR: what is proven is what the router has."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from announcer.core.model import (
    UNKNOWN,
    AdvertiseRoutes,
    DesiredPeer,
    IPAddress,
    ObservedBgp,
    ObservedPeer,
    Route,
    SetPeers,
    WithdrawRoutes,
)
from announcer.core.report.sessions import SLACK
from announcer.exabgp import ExabgpError, ExabgpSession
from announcer.exabgp.config import configuration
from tests.builders import ip, net
from tests.integration.exabgp import V4, V6, Router, Sidecar, router_and_sidecar
from tests.waiting import until

pytestmark = pytest.mark.netns
SECONDS = 30.0
THOUSAND = tuple(Route(prefix=net(f"10.50.{i // 250}.{i % 250}/32")) for i in range(1000))
THOUSAND_V6 = tuple(Route(prefix=net(f"fd00:50::{i:x}/128")) for i in range(1000))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[Router, Sidecar]]:
    with router_and_sidecar(tmp_path) as pair:
        yield pair


@asynccontextmanager
async def connected(sidecar: Sidecar, *peers: DesiredPeer) -> AsyncIterator[ExabgpSession]:
    """A session whose peers are all established."""
    session = ExabgpSession(sidecar.directory, lambda: None)
    task = asyncio.create_task(session.run())
    try:
        await session.apply(SetPeers(peers=peers))
        await until(lambda: established(session) == len(peers), seconds=SECONDS, what="sessions")
        yield session
    finally:
        task.cancel()
        await asyncio.wait({task})


def seen(session: ExabgpSession, address: IPAddress) -> ObservedPeer | None:
    observed = session.observed()
    peers = observed.peers if isinstance(observed, ObservedBgp) else ()
    return next((peer for peer in peers if peer.peer_address == address), None)


def peer_of(session: ExabgpSession) -> ObservedPeer:
    found = seen(session, V4.peer_address)
    assert found is not None
    return found


def since(session: ExabgpSession) -> datetime:
    found = peer_of(session).since
    assert found is not None
    return found


def established(session: ExabgpSession) -> int:
    observed = session.observed()
    return sum(peer.is_established for peer in observed.peers) if isinstance(observed, ObservedBgp) else -1


def is_proven(session: ExabgpSession, address: IPAddress, *routes: Route) -> bool:
    peer = seen(session, address)
    return peer is not None and {a.route for a in peer.routes.values()} == set(routes) and not peer.pending


async def advertise(session: ExabgpSession, peer: DesiredPeer, *routes: Route) -> None:
    await session.apply(AdvertiseRoutes(peer_address=peer.peer_address, routes=routes))
    await until(lambda: is_proven(session, peer.peer_address, *routes), seconds=SECONDS, what="proof")


async def router_has(router: Router, *routes: Route, version: int = 4) -> None:
    prefixes = {str(route.prefix) for route in routes}
    await until(lambda: router.rib(version).keys() == prefixes, seconds=SECONDS, what="the router's routes")


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_thousand_routes_of_each_family_are_proven_and_in_the_rib(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar, V4, V6) as session:
            for peer, routes in ((V4, THOUSAND), (V6, THOUSAND_V6)):
                await advertise(session, peer, *routes)
                await router_has(router, *routes, version=peer.peer_address.version)
                await session.apply(WithdrawRoutes(peer_address=peer.peer_address, routes=routes))
                await until(lambda a=peer.peer_address: is_proven(session, a), seconds=SECONDS)  # type: ignore[misc]
                await router_has(router, version=peer.peer_address.version)

    run(test)


def test_attributes_arrive_and_change(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()
    route = Route(prefix=net("10.50.0.1/32"), communities=frozenset({"64512:7", "large:1:2:3"}))
    draining = Route(prefix=route.prefix, communities=route.communities | {"65535:0"})

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            await advertise(session, V4, route)
            await router_has(router, route)
            (path,) = router.rib()["10.50.0.1/32"]
            assert (path["origin"], path["path"], path["nexthops"][0]["ip"]) == ("IGP", "64512", "10.9.0.2")
            await advertise(session, V4, draining)
            await until(lambda: router.rib()["10.50.0.1/32"][0].get("locPrf") == 0, what="GRACEFUL_SHUTDOWN (RFC 8326)")

    run(test)


def test_killed_exabgp_is_proven_again_by_the_same_session(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            await advertise(session, V4, *THOUSAND)
            sidecar.kill()
            await until(lambda: session.observed() is UNKNOWN, what="not known")
            await router_has(router)
            sidecar.start()
            await until(lambda: established(session) == 1, seconds=SECONDS, what="the session")
            await advertise(session, V4, *THOUSAND)
            await router_has(router, *THOUSAND)

    run(test)


def test_killed_bridge_comes_back_and_everything_is_learned_again(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            await advertise(session, V4, *THOUSAND)
            os.kill(sidecar.bridge_pid(), signal.SIGKILL)
            await until(lambda: session.observed() is UNKNOWN, what="not known")
            await until(lambda: is_proven(session, V4.peer_address, *THOUSAND), seconds=SECONDS, what="learning")
            assert router.established_count("10.9.0.2") == 1

    run(test)


def test_new_session_learns_what_the_router_has(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            await advertise(session, V4, *THOUSAND)
        async with connected(sidecar, V4) as successor:
            assert is_proven(successor, V4.peer_address, *THOUSAND)
            await router_has(router, *THOUSAND)
            assert router.established_count("10.9.0.2") == 1

    run(test)


def test_peers_come_and_go_without_a_flap_of_others(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar) as session:
            await session.apply(SetPeers(peers=(V4,)))
            await until(lambda: established(session) == 1, seconds=SECONDS, what="the first peer")
            await advertise(session, V4, *THOUSAND)
            since = seen(session, V4.peer_address)
            await session.apply(SetPeers(peers=(V4, V6)))
            await until(lambda: established(session) == 2, seconds=SECONDS, what="the second peer")
            assert seen(session, V4.peer_address) == since
            await advertise(session, V6, *THOUSAND_V6)
            await session.apply(SetPeers(peers=(V4,)))
            await until(lambda: seen(session, V6.peer_address) is None, seconds=SECONDS, what="one peer")
            await router_has(router, version=6)
            assert is_proven(session, V4.peer_address, *THOUSAND)
            assert router.established_count("10.9.0.2") == 1

    run(test)


def test_configuration_that_exabgp_refuses_flaps_no_session_and_blocks_no_later_change(
    lab: tuple[Router, Sidecar],
) -> None:
    """ExaBGP 5.0.15 by itself would take no configuration after one with a mistake, nor start with it."""
    router, sidecar = lab
    sidecar.start()
    refused = replace(V6, peer_asn=2**40)

    async def test() -> None:
        async with connected(sidecar, V4, V6) as session:
            await advertise(session, V4, *THOUSAND)
            for _ in range(2):
                await session.apply(SetPeers(peers=(V4, refused)))
                await until(lambda: session._rejection, seconds=SECONDS, what="the refusal")
                with pytest.raises(ExabgpError, match='"1099511627776" is an invalid ASN'):
                    await session.apply(SetPeers(peers=(V4, refused)))
                assert established(session) == 2
                await session.apply(SetPeers(peers=(V4,)))
                await until(lambda: seen(session, V6.peer_address) is None, seconds=SECONDS, what="one peer")
                await session.apply(SetPeers(peers=(V4, V6)))
                await until(lambda: established(session) == 2, seconds=SECONDS, what="both peers")
            assert is_proven(session, V4.peer_address, *THOUSAND)
            assert router.established_count("10.9.0.2") == 1
            await session.apply(SetPeers(peers=(V4, refused)))
            await until(lambda: session._rejection, seconds=SECONDS, what="the refusal")
            with pytest.raises(ExabgpError):
                await session.apply(SetPeers(peers=(V4, refused)))
            sidecar.kill()
            await until(lambda: session.observed() is UNKNOWN, what="not known")
            sidecar.start()
            await until(lambda: established(session) == 2, seconds=SECONDS, what="what it took last")

    run(test)


def test_black_holed_session_ends_with_the_router_having_what_is_proven(lab: tuple[Router, Sidecar]) -> None:
    """Changes that are sent into the hole are proven to be sent, not to arrive: the next session brings them."""
    router, sidecar = lab
    sidecar.start()
    peer = replace(V4, hold_time_seconds=3)
    kept, gone, fresh = THOUSAND[:100], THOUSAND[100:200], THOUSAND[200:300]

    async def test() -> None:
        async with connected(sidecar, peer) as session:
            await advertise(session, peer, *kept, *gone)
            await router_has(router, *kept, *gone)
            router.cut()
            await session.apply(WithdrawRoutes(peer_address=peer.peer_address, routes=gone))
            await advertise(session, peer, *kept, *fresh)
            await until(lambda: established(session) == 0, seconds=SECONDS, what="the hold time")
            router.cut(is_cut=False)
            await until(lambda: is_proven(session, peer.peer_address, *kept, *fresh), seconds=SECONDS, what="proof")
            await router_has(router, *kept, *fresh)

    run(test)


def test_why_a_session_ended_is_what_the_router_said(lab: tuple[Router, Sidecar]) -> None:
    """The Shutdown Communication of RFC 9003 survives the attempts to connect that follow, and the next session."""
    router, sidecar = lab
    sidecar.start()
    said = "planned work, call Bärbel"

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            first = since(session)
            router.configure("router bgp 64513", f"neighbor 10.9.0.2 shutdown message {said}")
            await until(lambda: established(session) == 0, seconds=SECONDS, what="the end")
            ended = f'NOTIFICATION received: 6/2 Cease, Administrative Shutdown: "{said}"'
            down_since = since(session)
            assert peer_of(session).last_error == ended
            await until(lambda: sidecar.closed_count() >= 3, seconds=SECONDS, what="attempts that the router ends")
            assert (peer_of(session).last_error, since(session)) == (ended, down_since)
            router.configure("router bgp 64513", "no neighbor 10.9.0.2 shutdown")
            await until(lambda: established(session) == 1, seconds=SECONDS, what="the session again")
            up_since = since(session)
            assert first < down_since < up_since
            assert peer_of(session).last_error.startswith("NOTIFICATION received: ")
        async with connected(sidecar, V4) as successor:
            assert abs(since(successor) - up_since) <= SLACK
            router.clear()
            told = "NOTIFICATION received: 6/4 Cease, Administrative Reset"
            await until(lambda: peer_of(successor).last_error == told, seconds=SECONDS, what="the reset")

    run(test)


def test_hold_time_that_runs_out_is_the_notification_that_we_send(lab: tuple[Router, Sidecar]) -> None:
    router, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar, replace(V4, hold_time_seconds=3)) as session:
            router.cut()
            await until(lambda: established(session) == 0, seconds=SECONDS, what="the hold time")
            assert peer_of(session).last_error == "NOTIFICATION sent: 4/0 Hold Timer Expired"

    run(test)


def test_family_that_the_router_does_not_take_is_not_among_those_agreed(lab: tuple[Router, Sidecar]) -> None:
    _, sidecar = lab
    sidecar.start()

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            await until(lambda: peer_of(session).families == frozenset({4}), seconds=SECONDS, what="families")

    run(test)


@pytest.mark.parametrize("peers", [(), (V4,), (V6, V4)])
def test_configuration_is_valid_to_exabgp(tmp_path: Path, peers: tuple[DesiredPeer, ...]) -> None:
    path = tmp_path / "exabgp.conf"
    path.write_text(configuration(peers, ("/bin/cat", str(tmp_path / "bridge.sock"))), encoding="ascii")
    argv = [str(Path(sys.executable).parent / "exabgp"), "validate", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_start_script_gives_up_without_a_configuration(tmp_path: Path) -> None:
    run_script = Path(__file__).parents[2] / "exabgp" / "run"
    done = subprocess.run([run_script, tmp_path, "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 75
    assert "is the agent running" in done.stderr


def test_ipv6_over_an_ipv4_session_needs_a_next_hop(lab: tuple[Router, Sidecar]) -> None:
    """FRR takes both families over one session once both are activated."""
    router, sidecar = lab
    sidecar.start()
    router.configure("router bgp 64513", "address-family ipv6 unicast", "neighbor 10.9.0.2 activate")
    route = Route(prefix=net("fd00:50::/64"), next_hop=ip("fd00:9::2"))

    async def test() -> None:
        async with connected(sidecar, V4) as session:
            await advertise(session, V4, route)
            await router_has(router, route, version=6)

    run(test)
