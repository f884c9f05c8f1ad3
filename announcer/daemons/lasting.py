"""Tasks that last as long as their daemon: one that ends, however, takes the daemon with it, and its supervisor, the
kubelet, starts another. A TaskGroup by itself takes a task that was cancelled from within for one that is done, and
nobody would notice that a daemon no longer does that part.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn


async def all_lasting(parts: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run all parts, by name, until this is cancelled or one of them ends."""
    async with asyncio.TaskGroup() as tasks:
        for name, part in parts.items():
            tasks.create_task(_lasting(part, name), name=name)


async def _lasting(part: Coroutine[Any, Any, None], name: str) -> NoReturn:
    task = asyncio.create_task(part, name=name)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if not task.cancelled():
        task.result()
    raise RuntimeError(f"{name} has ended, which it never does by itself")
