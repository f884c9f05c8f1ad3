"""When to run a pass: soon after something changed, after a failure with capped back-off, and now and then anyway.

Events only say "look again". Any number of them between two passes make one pass.
"""

import asyncio
import random
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """Seconds. `gather` lets a burst of events become one pass; `resync` runs one although nothing happened.

    In a cluster of thousands of Services, whose events never end, passes must not take all of a processor: beyond
    `at_once` seconds of its time they rest for `rest` times what they take, `rest_most` at a time.
    """

    gather: float = 0.003
    resync: float = 30.0
    retry_first: float = 0.1
    retry_most: float = 5.0
    at_once: float = 0.008
    rest: float = 3.0
    rest_most: float = 1.0


BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, inf)


@dataclass(slots=True)
class Ran:
    """How passes went: how many that ended well took no longer than each of BOUNDS, and `seconds` together.

    `failure` is what the last one failed with, empty where it didn't.
    """

    within: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))
    seconds: float = 0.0
    failures: int = 0
    failure: str = ""

    def well(self, seconds: float) -> None:
        first = bisect_left(BOUNDS, seconds)
        self.within[first:] = [count + 1 for count in self.within[first:]]
        self.seconds, self.failure = self.seconds + seconds, ""

    def badly(self, error: Exception) -> None:
        self.failures, self.failure = self.failures + 1, str(error)


@dataclass(slots=True)
class Budget:
    """Processor time that passes may take now: `rhythm.at_once`, less what they took and has not come again since."""

    rhythm: Rhythm
    left: float = field(init=False)
    seen: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.rhythm.at_once

    def spend(self, took: float, now: float) -> None:
        """A pass that ends now took so much; its own duration brings nothing. No more is owed than one rest brings:
        what was long ago must not keep a short pass waiting.
        """
        self._fill(now - took)
        self.left, self.seen = max(self.left - took, -self.rhythm.rest_most / self.rhythm.rest), now

    def rest(self, now: float) -> float:
        """Seconds until the next pass may begin."""
        self._fill(now)
        return min(max(0.0, -self.left * self.rhythm.rest), self.rhythm.rest_most)

    def _fill(self, now: float) -> None:
        since = max(0.0, now - self.seen)
        self.left = min(self.rhythm.at_once, self.left + since / self.rhythm.rest)
        self.seen = max(self.seen, now)


@dataclass(slots=True)
class Loop:
    """Runs `one_pass` for ever. It returns the seconds until it wants to look again (None: no wish) and raises one of
    `failures` when what it needs was not to be had; anything else is a bug and ends the process.
    """

    one_pass: Callable[[], Awaitable[float | None]]
    failures: tuple[type[Exception], ...]
    on_failure: Callable[[Exception], None]
    rhythm: Rhythm = Rhythm()
    ran: Ran = field(default_factory=Ran)
    is_minor: bool = False
    """Whether nothing but minor news has come since the pass before this one began."""
    _is_major: bool = True
    _budget: Budget = field(init=False)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._budget = Budget(self.rhythm)

    def wake(self, *, is_minor: bool = False) -> None:
        """There is news. Minor ones a pass may find to be none."""
        self._is_major |= not is_minor
        self._woken.set()

    async def run(self) -> None:
        retry = self.rhythm.retry_first
        while True:
            began, began_at = time.process_time(), time.monotonic()
            self.is_minor, self._is_major = not self._is_major, False
            try:
                pause = await self.one_pass()
                self.ran.well(time.monotonic() - began_at)
                retry = self.rhythm.retry_first
            except self.failures as error:
                self.ran.badly(error)
                self.on_failure(error)
                pause = retry * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
                retry = min(retry * 2, self.rhythm.retry_most)
            self._budget.spend(time.process_time() - began, time.monotonic())
            await self._wait(min(pause or self.rhythm.resync, self.rhythm.resync))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            self._is_major = True
            return
        await asyncio.sleep(max(self.rhythm.gather, self._budget.rest(time.monotonic())))
        self._woken.clear()
