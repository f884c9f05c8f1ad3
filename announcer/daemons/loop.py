"""When to run a pass: soon after something changed, after a failure with capped back-off, and now and then anyway.

Events only say "look again". Any number of them between two passes make one pass.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """Seconds. `gather` lets a burst of events become one pass; `resync` runs one although nothing happened."""

    gather: float = 0.003
    resync: float = 30.0
    retry_first: float = 0.1
    retry_most: float = 5.0


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
            try:
                pause = await self.one_pass()
                retry = self.rhythm.retry_first
            except self.failures as error:
                self.on_failure(error)
                pause = retry * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
                retry = min(retry * 2, self.rhythm.retry_most)
            await self._wait(min(pause or self.rhythm.resync, self.rhythm.resync))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self.rhythm.gather)
        self._woken.clear()
