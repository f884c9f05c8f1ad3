"""Ranges in the order of their addresses: which one an address lies in, and which ones another overlaps."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from announcer.core.model.basics import IPAddress
from announcer.core.model.objects import AddressRange, Pool

Home = tuple[Pool, AddressRange]


class Homes:
    """Of pools that don't overlap. A look-up takes the logarithm of the number of ranges."""

    def __init__(self, pools: Iterable[Pool] = ()) -> None:
        self._homes: dict[int, list[Home]] = {4: [], 6: []}
        for pool in pools:
            for found in pool.ranges:
                self._homes[found.first.version].append((pool, found))
        for homes in self._homes.values():
            homes.sort(key=_first)

    def add(self, pool: Pool, found: AddressRange) -> None:
        """`found` overlaps no range that is here."""
        homes = self._homes[found.first.version]
        homes.insert(bisect_right(homes, int(found.first), key=_first), (pool, found))

    def of(self, address: IPAddress) -> Home | None:
        homes = self._homes[address.version]
        at = bisect_right(homes, int(address), key=_first) - 1
        return homes[at] if at >= 0 and int(address) <= int(homes[at][1].last) else None

    def overlapping(self, found: AddressRange) -> list[Home]:
        homes = self._homes[found.first.version]
        begin = bisect_left(homes, int(found.first), key=_last)
        return homes[begin : bisect_right(homes, int(found.last), key=_first)]


def _first(home: Home) -> int:
    return int(home[1].first)


def _last(home: Home) -> int:
    return int(home[1].last)
