"""`announcer` as it is, with a heartbeat beside it: how late does its event loop get round to a task that is due?

    python -m bench.heartbeat FILE agent|allocator ...

FILE is written once a second: seconds of lateness, the worst and how many beats were later than 100 ms, and the
processor time used. A beat is due every 10 ms. What other processes take of the processors counts as lateness too.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from announcer.cli import main

BEAT_SECONDS, LATE_SECONDS = 0.01, 0.1


async def beat(file: Path) -> None:
    worst, late, beats, written = 0.0, 0, 0, time.monotonic()
    while True:
        due = time.monotonic() + BEAT_SECONDS
        await asyncio.sleep(BEAT_SECONDS)
        now = time.monotonic()
        worst, late, beats = max(worst, now - due), late + (now - due > LATE_SECONDS), beats + 1
        if now - written >= 1.0:
            told = {"worst": worst, "late": late, "beats": beats, "cpu": time.process_time()}
            fresh = file.with_suffix(".new")  # whoever reads it finds a whole one
            fresh.write_text(json.dumps(told), encoding="ascii")
            fresh.replace(file)
            written = now


async def beside(work: Coroutine[Any, Any, int], file: Path) -> int:
    beating = asyncio.ensure_future(beat(file))
    try:
        return await work
    finally:
        beating.cancel()


if __name__ == "__main__":
    plain_run: Any = asyncio.run
    replacement: Any = lambda work: plain_run(beside(work, Path(sys.argv[1])))  # noqa: E731
    asyncio.run = replacement
    sys.exit(main(sys.argv[2:]))
