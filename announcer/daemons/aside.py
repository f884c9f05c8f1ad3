"""Where a pass computes: what is little in the loop's own turn, all else in a thread, as a fail-over can't wait for it.

What takes time is every Service on every node, 50 on 300 nodes 60 ms, which is more than a beat of ownership may be
late, and every endpoint, 2,000 a millisecond. Handing little to a thread takes as long as computing it.
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
FEW_ENDPOINTS: Final = 10_000
"""As long as that."""
FEW_SLICES: Final = 2000
"""Counting the endpoints of more takes a tenth of a millisecond, several times a pass."""


def is_little(snapshot: Snapshot) -> bool:
    count, slices = len(snapshot.services), snapshot.endpoint_slices
    if count > FEW_SERVICES or count * len(snapshot.nodes) > FEW_PLACES or len(slices) > FEW_SLICES:
        return False
    return sum(len(one.endpoints) for one in slices) <= FEW_ENDPOINTS


async def aside(snapshot: Snapshot, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    if is_little(snapshot):
        return function(*args, **options)
    return await asyncio.to_thread(function, *args, **options)
