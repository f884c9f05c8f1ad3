"""When to run a pass: soon after something changed, after a failure with capped back-off, and now and then anyway.

Events only say "look again". Any number of them between two passes make one pass.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


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


@dataclass(slots=True)
class Loop:
    """Runs `one_pass` for ever. It returns the seconds until it wants to look again (None: no wish) and raises one of
    `failures` when what it needs was not to be had; anything else is a bug and ends the process.
    """

    one_pass: Callable[[], Awaitable[float | None]]
    failures: tuple[type[Exception], ...]
    on_failure: Callable[[Exception], None]
    rhythm: Rhythm = Rhythm()
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        retry = self.rhythm.retry_first
        while True:
            began = time.process_time()
            try:
                pause = await self.one_pass()
                retry = self.rhythm.retry_first
            except self.failures as error:
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
