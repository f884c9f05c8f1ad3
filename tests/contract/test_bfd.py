"""One contract for the two bfdd: the real one alone in a namespace, and the fake that tests of daemons run on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from announcer.core.model import BfdSession, BfdState, IPAddress, SetBfd, Unknown
from announcer.daemons.edges import Bfd
from tests.builders import ip
from tests.fakes.bfd import FakeBfd
from tests.integration.bfdd import daemon
from tests.integration.netns import namespace
from tests.integration.test_bfd import connected
from tests.waiting import until

BOTH = pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=pytest.mark.netns)])
ONE, OTHER = (BfdSession(peer_address=ip(f"10.9.0.{n}"), local_address=ip("10.9.0.9")) for n in (1, 2))


@asynccontextmanager
async def bfdd(kind: str) -> AsyncIterator[Bfd]:
    """Whose sessions are known."""
    if kind == "fake":
        yield FakeBfd(lambda: None, time.monotonic)
        return
    with namespace() as node, daemon(node) as running:
        node.ip("address", "add", "10.9.0.9/24", "dev", "lo")
        async with connected(running) as made:
            yield made


def peers(made: Bfd) -> list[IPAddress]:
    observed = made.observed()
    assert not isinstance(observed, Unknown)
    return [one.peer_address for one in observed]


@BOTH
def test_sessions_are_those_asked_for_and_those_that_are_to_stay(kind: str) -> None:
    both = [ONE.peer_address, OTHER.peer_address]

    async def test() -> None:
        async with bfdd(kind) as made:
            for action, left in (
                (SetBfd(sessions=(ONE, OTHER)), both),
                (SetBfd(sessions=(ONE,), keeps_others=True), both),
                (SetBfd(sessions=(ONE,), keeps=frozenset({OTHER.peer_address})), both),
                (SetBfd(sessions=(OTHER,)), both[1:]),
                (SetBfd(sessions=()), []),
            ):
                await made.apply(action)
                await until(lambda left=left: peers(made) == left, what=f"{left}")  # type: ignore[misc]

    asyncio.run(test())


@BOTH
def test_session_that_nobody_answers_is_down_and_no_failure(kind: str) -> None:
    async def test() -> None:
        async with bfdd(kind) as made:
            await made.apply(SetBfd(sessions=(ONE,)))
            await until(lambda: peers(made) == [ONE.peer_address], what="the session")
            observed = made.observed()
            assert not isinstance(observed, Unknown)
            assert [(one.state, one.has_failed) for one in observed] == [(BfdState.DOWN, False)]

    asyncio.run(test())
