"""Running a daemon until it is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable


async def run_until_told(
    work: Callable[[], Awaitable[None]],
    farewell: Callable[[], Awaitable[None]],
    on_hangup: Callable[[], None] | None = None,
) -> None:
    """Run `work`, which never ends by itself; SIGTERM and SIGINT cancel it, then comes `farewell`.

    SIGHUP calls `on_hangup`.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    if on_hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    working = asyncio.ensure_future(work())
    telling = asyncio.ensure_future(told.wait())
    await asyncio.wait({working, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if working.done():
        working.result()
        return
    working.cancel()
    await asyncio.wait({working})
    await farewell()
