"""Where a pass computes: what is little in the loop's own turn, all else in a thread, as a fail-over can't wait for it.

What takes time is every Service on every node: 50 on 300 nodes 60 ms, which is more than a beat of ownership may be
late. Handing little to a thread takes as long as computing it.
"""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from announcer.core.model import Snapshot

P = ParamSpec("P")
T = TypeVar("T")
FEW_SERVICES: Final = 50
FEW_PLACES: Final = 1000
"""Services times nodes: some 5 ms."""


def is_little(snapshot: Snapshot) -> bool:
    count = len(snapshot.services)
    return count <= FEW_SERVICES and count * len(snapshot.nodes) <= FEW_PLACES


async def aside(snapshot: Snapshot, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    if is_little(snapshot):
        return function(*args, **options)
    return await asyncio.to_thread(function, *args, **options)
