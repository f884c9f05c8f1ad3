"""Waiting for a condition with a deadline, in tests that run real time: never sleep and hope."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], *, seconds: float = 5.0, what: str = "the condition") -> None:
    """Return as soon as `condition()` is true; fail the test when it isn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        await asyncio.sleep(0.002)


async def stays(condition: Callable[[], object], *, seconds: float, what: str = "the condition") -> None:
    """Fail as soon as `condition()` is false within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"{what} did not stay true for {seconds} s")
        await asyncio.sleep(0.01)
