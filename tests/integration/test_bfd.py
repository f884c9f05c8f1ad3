"""Sessions of two real bfdd: what is asked for is what they run, and what happens to the path is what is seen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from announcer.bfd import Bfdd, BfdError, Timing
from announcer.core.model import (
    UNKNOWN,
    BfdSession,
    BfdSettings,
    BfdState,
    Diagnostic,
    ObservedBfd,
    SetBfd,
    Unknown,
)
from tests.builders import ip
from tests.integration.bfdd import Daemon, daemon
from tests.integration.netns import Namespace, cable, namespace
from tests.waiting import stays, until

pytestmark = pytest.mark.netns
SECONDS = 15.0
FAST = BfdSettings(receive_milliseconds=100, transmit_milliseconds=100)
NEAR = BfdSession(peer_address=ip("10.9.0.1"), local_address=ip("10.9.0.2"), settings=FAST)
NEAR_V6 = BfdSession(peer_address=ip("fd00:9::1"), local_address=ip("fd00:9::2"), settings=FAST)
FAR = BfdSession(
    peer_address=ip("10.9.0.1"),
    local_address=ip("10.9.0.2"),
    is_multihop=True,
    settings=replace(FAST, detect_multiplier=5, is_passive=True, minimum_ttl=200),
)
EVERY = frozenset({NEAR.peer_address, NEAR_V6.peer_address})


@dataclass(frozen=True, slots=True)
class Pair:
    """A node, whose bfdd is ours, and a router."""

    node: Namespace
    tor: Namespace
    ours: Daemon
    theirs: Daemon

    def cut(self, host: Namespace, *, is_cut: bool = True) -> None:
        """What `host` sends reaches nobody, while it goes on to hear."""
        other = "10.9.0.1" if host is self.node else "10.9.0.2"
        if is_cut:
            host.ip("neigh", "replace", other, "lladdr", "02:00:00:00:09:99", "dev", "eth0", "nud", "permanent")
        else:
            host.ip("neigh", "delete", other, "dev", "eth0")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with namespace() as node, namespace() as tor:
        cable(node, "eth0", tor, "eth0")
        for host, last in ((node, "2"), (tor, "1")):
            host.ip("address", "add", f"10.9.0.{last}/24", "dev", "eth0")
            host.ip("address", "add", f"fd00:9::{last}/64", "dev", "eth0", "nodad")
        with daemon(node) as ours, daemon(tor) as theirs:
            yield Pair(node, tor, ours, theirs)


@asynccontextmanager
async def connected(where: Daemon, *sessions: BfdSession) -> AsyncIterator[Bfdd]:
    bfdd = Bfdd(where.directory, lambda: None, timing=Timing(resync=0.3))
    task = asyncio.create_task(bfdd.run())
    try:
        if sessions:
            await bfdd.apply(SetBfd(sessions=sessions))
        await until(lambda: bfdd.observed() is not UNKNOWN, seconds=SECONDS, what=f"bfdd: {bfdd.problem}")
        yield bfdd
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def both(pair: Pair, *sessions: BfdSession) -> AsyncIterator[tuple[Bfdd, Bfdd]]:
    """Ours and the router's, with these sessions up."""
    mirrored = [replace(s, peer_address=s.local_address, local_address=s.peer_address) for s in sessions]
    mirrored = [replace(s, settings=replace(s.settings, is_passive=False)) for s in mirrored]
    async with connected(pair.theirs, *mirrored) as theirs, connected(pair.ours, *sessions) as ours:
        await until(lambda: states(ours) == [BfdState.UP] * len(sessions), seconds=SECONDS, what="sessions that are up")
        yield ours, theirs


def seen(bfdd: Bfdd) -> tuple[ObservedBfd, ...]:
    observed = bfdd.observed()
    return () if isinstance(observed, Unknown) else observed


def states(bfdd: Bfdd) -> list[BfdState]:
    return [one.state for one in seen(bfdd)]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_sessions_of_every_kind_come_up_and_go(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR, NEAR_V6, FAR) as (ours, _):
            for kept in (SetBfd(sessions=(NEAR_V6,), keeps_others=True), SetBfd(sessions=(), keeps=EVERY)):
                await ours.apply(kept)
                await stays(lambda: len(states(ours)) == 3, seconds=0.5, what="three sessions")
            await ours.apply(SetBfd(sessions=(NEAR_V6,)))
            await until(lambda: [s.peer_address for s in seen(ours)] == [ip("fd00:9::1")], what="one session")
            assert states(ours) == [BfdState.UP]

    run(test)


def test_settings_are_those_asked_for_also_once_they_change(pair: Pair) -> None:
    """As bfdd itself has them in its configuration, where what is usual isn't shown."""
    slow = BfdSettings(
        receive_milliseconds=1000,
        transmit_milliseconds=700,
        detect_multiplier=7,
        echo_milliseconds=80,
        is_echoing=True,
        is_passive=True,
        minimum_ttl=200,
    )
    common = {"receive-interval 1000", "transmit-interval 700", "detect-multiplier 7", "passive-mode"}
    near = common | {"echo transmit-interval 80", "echo receive-interval 80", "echo-mode"}
    fast = {"receive-interval 100", "transmit-interval 100"}
    steps = [(slow, near, common | {"minimum-ttl 200"}), (FAST, fast, fast), (BfdSettings(), set(), set())]

    async def test() -> None:
        async with connected(pair.ours) as ours:
            for settings, of_near, of_far in steps:
                wanted = SetBfd(sessions=tuple(replace(s, settings=settings) for s in (NEAR, FAR)))
                await ours.apply(wanted)
                kinds = {"": of_near, " multihop": of_far}
                told = {f"peer 10.9.0.1{kind} local-address 10.9.0.2": lines for kind, lines in kinds.items()}
                await until(lambda told=told: pair.ours.running() == told, what=f"{told}")  # type: ignore[misc]
                await ours.apply(wanted)

    run(test)


def test_cable_that_is_cut_is_a_failure_within_the_detection_time(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR) as (ours, theirs):
            pair.tor.ip("link", "set", "eth0", "down")
            await until(
                lambda: all(s.has_failed for b in (ours, theirs) for s in seen(b)), seconds=2.0, what="failures"
            )
            pair.tor.ip("link", "set", "eth0", "up")
            await until(lambda: states(ours) == [BfdState.UP], seconds=SECONDS, what="recovery")
            assert 0 < seen(ours)[0].outage < SECONDS

    run(test)


@pytest.mark.parametrize("end", ["node", "tor"])
def test_path_that_is_dead_in_one_direction_is_a_failure_at_both_ends(pair: Pair, end: str) -> None:
    async def test() -> None:
        async with both(pair, NEAR) as (ours, theirs):
            pair.cut(getattr(pair, end))
            await until(
                lambda: all(s.has_failed for b in (ours, theirs) for s in seen(b)), seconds=3.0, what="failures"
            )

    run(test)


def test_router_that_is_told_to_stop_is_no_failure(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR) as (ours, _):
            pair.theirs.configure("peer 10.9.0.2 local-address 10.9.0.1", "shutdown")
            await until(lambda: states(ours) == [BfdState.DOWN], seconds=SECONDS, what="Down")
            assert not seen(ours)[0].has_failed

    run(test)


def test_session_that_is_removed_is_no_failure_to_the_router(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR) as (ours, theirs):
            await ours.apply(SetBfd(sessions=()))
            await until(lambda: states(theirs) == [BfdState.DOWN], seconds=SECONDS, what="Down")
            assert not seen(theirs)[0].has_failed
            await until(lambda: seen(ours) == (), seconds=SECONDS, what="none is left here")

    run(test)


def test_session_that_never_was_up_is_no_failure(pair: Pair) -> None:
    async def test() -> None:
        async with connected(pair.ours, NEAR) as ours:
            await until(lambda: states(ours) == [BfdState.DOWN], what="the session")
            await stays(lambda: not seen(ours)[0].has_failed, seconds=1.0, what="no failure")

    run(test)


def test_bfdd_that_is_killed_is_not_known_and_gets_its_sessions_again(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR, FAR) as (ours, _):
            pair.ours.kill()
            await until(lambda: ours.observed() is UNKNOWN, what="not known")
            assert "does not answer" in ours.problem
            pair.ours.start()
            await until(lambda: states(ours) == [BfdState.UP] * 2, seconds=SECONDS, what="the sessions again")

    run(test)


def test_failure_that_is_older_than_the_agent_is_seen_by_it(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR):
            pair.tor.ip("link", "set", "eth0", "down")
        async with connected(pair.ours) as successor:
            await until(lambda: [s.has_failed for s in seen(successor)] == [True], what="the failure")
            assert seen(successor)[0].diagnostic is Diagnostic.DETECTION_TIME_EXPIRED

    run(test)


def test_session_that_somebody_removes_is_put_again(pair: Pair) -> None:
    async def test() -> None:
        async with both(pair, NEAR) as (ours, _):
            pair.ours.configure("no peer 10.9.0.1 local-address 10.9.0.2")
            await until(lambda: states(ours) != [BfdState.UP], seconds=SECONDS, what="that it is gone")
            await until(lambda: states(ours) == [BfdState.UP], seconds=SECONDS, what="the session again")

    run(test)


def test_what_bfdd_refuses_is_said(pair: Pair) -> None:
    """A session that bfdd has no settings for; others are put all the same."""
    wrong = SetBfd(sessions=(replace(NEAR, settings=replace(FAST, receive_milliseconds=1)), NEAR_V6))

    async def test() -> None:
        async with connected(pair.ours) as ours:
            await ours.apply(wrong)
            await until(lambda: len(seen(ours)) == 2, what="the other session")
            with pytest.raises(BfdError, match=r"10\.9\.0\.1: bfdd refused 'receive-interval 1'"):
                await ours.apply(wrong)

    run(test)
