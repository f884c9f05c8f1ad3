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

    After a pass, `rest` times the processor time that it took go by before the next, `rest_most` at most: in a cluster
    of thousands of Services, whose events never end, passes must not take all of a processor.
    """

    gather: float = 0.003
    resync: float = 30.0
    retry_first: float = 0.1
    retry_most: float = 5.0
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
class Loop:
    """Runs `one_pass` for ever. It returns the seconds until it wants to look again (None: no wish) and raises one of
    `failures` when what it needs was not to be had; anything else is a bug and ends the process.
    """

    one_pass: Callable[[], Awaitable[float | None]]
    failures: tuple[type[Exception], ...]
    on_failure: Callable[[Exception], None]
    rhythm: Rhythm = Rhythm()
    ran: Ran = field(default_factory=Ran)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        retry = self.rhythm.retry_first
        while True:
            began, began_at = time.process_time(), time.monotonic()
            try:
                pause = await self.one_pass()
                self.ran.well(time.monotonic() - began_at)
                retry = self.rhythm.retry_first
            except self.failures as error:
                self.ran.badly(error)
                self.on_failure(error)
                pause = retry * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
                retry = min(retry * 2, self.rhythm.retry_most)
            took = time.process_time() - began
            await self._wait(min(pause or self.rhythm.resync, self.rhythm.resync), took)

    async def _wait(self, seconds: float, took: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(max(self.rhythm.gather, min(took * self.rhythm.rest, self.rhythm.rest_most)))
        self._woken.clear()
