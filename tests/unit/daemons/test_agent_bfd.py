"""The agent with a bfdd beside it: a path that fails ends its BGP session, and nothing else does."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from announcer.core.model import IPAddress, TearDown
from tests.builders import Raw, endpoints, group, ip, metallb, node, peer, service
from tests.fakes.bfd import FakeBfd
from tests.unit.daemons.test_agent import NET, TOR, VIRTUAL, Rig, run
from tests.unit.daemons.test_agent import rig as plain_rig
from tests.waiting import stays, until

OTHER = ip("10.111.111.253")
CLUSTER: tuple[Raw, ...] = (
    node("n1"),
    group(),
    metallb("BFDProfile", "fast", receiveInterval=100, transmitInterval=100),
    peer(bfdProfile="fast"),
    peer("other", str(OTHER)),
    service(addresses=[str(VIRTUAL)]),
    endpoints(),
)


@asynccontextmanager
async def rig() -> AsyncIterator[tuple[Rig, FakeBfd]]:
    """With routes at both peers, and the path to the first one watched and up."""
    async with plain_rig(*CLUSTER) as made:
        bfd = FakeBfd(lambda: made.agent.loop.wake(), time.monotonic)
        made.agent.bfd = bfd
        await made.passes(1)
        await until(lambda: bfd.asked is not None and bfd.asked.sessions, what="a session of bfdd")
        bfd.set_up(TOR)
        await until(lambda: has_route(made, TOR) and has_route(made, OTHER), what="routes at both peers")
        yield made, bfd


def has_route(made: Rig, address: IPAddress) -> bool:
    return address in peers(made) and NET in made.sidecar.wire(address)


def peers(made: Rig) -> set[IPAddress]:
    return made.sidecar.addresses()


def sessions(made: Rig) -> dict[str, Any]:
    status = made.store.statuses[("NodeAnnouncement", "", "n1")]
    return {one["peerAddress"]: one["bfd"] for one in status["sessions"]}


def test_failed_path_ends_its_session_until_it_is_up_again() -> None:
    async def test() -> None:
        async with rig() as (made, bfd):
            await until(lambda: sessions(made) == {str(TOR): "up", str(OTHER): ""}, what="the report")
            bfd.fail(TOR)
            await until(lambda: peers(made) == {OTHER}, what="one peer")
            assert TearDown(peer_address=TOR) in made.sidecar.applied
            assert has_route(made, OTHER)
            await until(lambda: sessions(made)[str(TOR)] == "down: detection time expired", what="the report")
            bfd.set_up(TOR)
            await until(lambda: has_route(made, TOR), what="the route again")

    run(test)


def test_bfdd_that_is_away_ends_nothing_and_is_named() -> None:
    async def test() -> None:
        async with rig() as (made, bfd):
            bfd.set_away()
            errors = ("NodeAnnouncement", "", "n1")
            await until(lambda: "does not answer" in str(made.store.statuses[errors]["errors"]), what="the report")
            await stays(lambda: has_route(made, TOR), seconds=0.1)
            assert sessions(made)[str(TOR)] == "unknown"

    run(test)
