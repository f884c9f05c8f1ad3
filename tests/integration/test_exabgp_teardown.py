"""A session that is ended because of BFD: what the router is told, and that no other session notices."""

import asyncio
from pathlib import Path

import pytest

from announcer.core.model import Route, SetPeers, TearDown
from announcer.exabgp import Timing, lines
from tests.builders import net
from tests.fakes.bridge import FakeBridge, Neighbor
from tests.integration.exabgp import V4, V6, router_and_sidecar
from tests.integration.test_exabgp_router import (
    SECONDS,
    advertise,
    connected,
    established,
    is_proven,
    router_has,
    seen,
)
from tests.integration.test_exabgp_session import running
from tests.waiting import stays, until

pytestmark = pytest.mark.netns
ROUTE, ROUTE_V6 = Route(prefix=net("10.50.0.1/32")), Route(prefix=net("fd00:50::1/128"))


def test_session_is_ended_with_its_reason_and_the_peer_is_left_out_and_comes_back(tmp_path: Path) -> None:
    with router_and_sidecar(tmp_path) as (router, sidecar):
        sidecar.start()

        async def test() -> None:
            async with connected(sidecar, V4, V6) as session:
                await advertise(session, V4, ROUTE)
                await advertise(session, V6, ROUTE_V6)
                since = seen(session, V6.peer_address)
                router.log_notifications()
                await session.apply(TearDown(peer_address=V4.peer_address))
                await session.apply(SetPeers(peers=(V6,), left_out=frozenset({V4.peer_address})))
                await until(lambda: seen(session, V4.peer_address) is None, seconds=SECONDS, what="one peer")
                assert "10.9.0.2 6/10 (Cease/BFD Down)" in router.notifications()
                await router_has(router)
                await stays(lambda: router.rib() == {}, seconds=1.5, what="no route")
                await session.apply(SetPeers(peers=(V4, V6)))
                await until(lambda: established(session) == 2, seconds=SECONDS, what="both peers")
                await advertise(session, V4, ROUTE)
                await router_has(router, ROUTE)
                assert seen(session, V6.peer_address) == since
                assert is_proven(session, V6.peer_address, ROUTE_V6)
                assert router.established_count("fd00:9::2") == 1

        asyncio.run(test())


@pytest.mark.parametrize(("ends", "farewell"), [(True, 30.0), (False, 0.5)])
def test_configuration_waits_for_the_end_of_the_session_for_a_while(
    tmp_path: Path, ends: bool, farewell: float
) -> None:
    timing = Timing(tick=0.01, farewell=farewell, retry_first=0.01, reload_first=0.01)

    async def test() -> None:
        async with (
            FakeBridge.serving(tmp_path, **{"10_9_0_1": Neighbor()}) as bridge,
            running(tmp_path, timing) as session,
        ):
            await until(lambda: established(session) == 1, what="the session")
            await session.apply(TearDown(peer_address=V4.peer_address))
            await session.apply(SetPeers(peers=(V6,)))
            await until(lambda: "neighbor 10.9.0.1 teardown 10" in bridge.heard, what="teardown")
            await stays(lambda: lines.RELOAD not in bridge.heard, seconds=0.2, what="no reload")
            if ends:
                bridge.set_established("10.9.0.1", is_established=False)
            await until(lambda: lines.RELOAD in bridge.heard, what="reload")

    asyncio.run(test())


def test_peer_that_is_left_out_does_not_stay_because_others_do(tmp_path: Path) -> None:
    with router_and_sidecar(tmp_path) as (_, sidecar):
        sidecar.start()

        async def test() -> None:
            async with connected(sidecar, V4, V6) as session:
                left_out = frozenset({V4.peer_address})
                await session.apply(SetPeers(peers=(), keeps_others=True, left_out=left_out))
                await until(lambda: seen(session, V4.peer_address) is None, seconds=SECONDS, what="one peer")
                assert established(session) == 1

        asyncio.run(test())
