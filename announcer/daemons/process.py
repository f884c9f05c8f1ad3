"""Running a daemon until it is told to stop."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Final

log = logging.getLogger(__name__)
CLOSING_SECONDS: Final = 5.0
"""As long as a write to the API server may take."""
THREADS: Final = 2
WHOLE_SECONDS: Final = 3600.0
PORTION: Final = 20_000
"""New objects after which they are looked at, in some 2 ms."""
NEVER: Final = 2**30
TURN_SECONDS: Final = 0.0002


def take_turns_often() -> None:
    """Let no thread that computes keep the others waiting for the interpreter for long.

    Each frame that is sent gives the interpreter away, and beside a pass that computes it comes back only after a turn:
    with Python's own, 5 ms for each of a thousand addresses that are taken over.
    """
    sys.setswitchinterval(TURN_SECONDS)


def use_few_threads() -> None:
    """What a daemon computes in threads comes one after the other, and one looks at files meanwhile. Each further
    thread would keep memory of its own (arenas of malloc), with ten thousand Services 11 MB in all.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="computing"))


async def collect_garbage() -> None:
    """For ever: what is new, in portions; the whole only every WHOLE_SECONDS.

    By itself Python looks at everything once much has been made, which is when much is alive: with ten thousand
    Services that takes 40 to 60 ms in which all threads stand still, several times in a row, and makes fail-overs late.
    What outlives the portion that it was in and becomes a cycle of garbage later stays until the whole is looked at.
    """
    before = gc.get_threshold()
    gc.set_threshold(PORTION, NEVER, NEVER)
    try:
        while True:
            await asyncio.sleep(WHOLE_SECONDS)
            gc.collect()
    finally:
        gc.set_threshold(*before)


def prepare() -> None:
    """The interpreter of a daemon, within its loop."""
    take_turns_often()
    use_few_threads()


async def run_until_told(
    work: Callable[[], Awaitable[None]],
    farewell: Callable[[], Awaitable[None]],
    on_hangup: Callable[[], None] | None = None,
    *,
    before_end: Callable[[], Coroutine[object, object, None]] | None = None,
) -> None:
    """Run `work`, which never ends by itself; SIGTERM and SIGINT cancel it, then comes `farewell`.

    `work` goes on during `before_end`, which gets CLOSING_SECONDS at most. SIGHUP calls `on_hangup`.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    if on_hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    working = asyncio.ensure_future(work())
    collecting = asyncio.ensure_future(collect_garbage())
    telling = asyncio.ensure_future(told.wait())
    await asyncio.wait({working, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    collecting.cancel()
    if working.done():
        working.result()
        return
    if before_end is not None:
        closing = asyncio.ensure_future(before_end())
        await asyncio.wait({closing, working}, timeout=CLOSING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
    working.cancel()
    await asyncio.wait({working})
    await farewell()
