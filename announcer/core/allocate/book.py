"""Who has which address while one allocation is computed, and the lowest address that a Service may still get.

Two Services may have one address when all of this holds (MetalLB's rules, and PureLB's, whose sharers must also be of
one namespace or allow each other's by name):

| | |
|---|---|
| key | both have the same, from the same family of annotations |
| ports | none in common; the protocol is part of a port |
| backend | both policy Cluster, or both Local with the same pods |
"""

from collections.abc import Iterable

from announcer.core.model import AddressRange, IPAddress, Pool, Service


class Book:
    """Filling a pool is linear: below a range's cursor nothing is free in this computation."""

    def __init__(self, blocked: Iterable[IPAddress]) -> None:
        self._blocked = frozenset(blocked)
        self._users: dict[IPAddress, list[Service]] = {}
        self._by_key: dict[str, set[IPAddress]] = {}
        self._cursors: dict[AddressRange, int] = {}
        self._used: dict[AddressRange, int] = {}

    def take(self, address: IPAddress, home: AddressRange, service: Service) -> None:
        users = self._users.setdefault(address, [])
        if not users:
            self._used[home] = self._used.get(home, 0) + 1
        if all(user.key != service.key for user in users):
            users.append(service)
        if service.sharing_key:
            self._by_key.setdefault(service.sharing_key, set()).add(address)

    def conflict(self, address: IPAddress, service: Service) -> str:
        """Why the Service can't have the address; empty where it can, or has it already."""
        if address in self._blocked:
            return "a Service that is refused for a mistake has it"
        others = (user for user in self._users.get(address, ()) if user.key != service.key)
        return next((why for user in others if (why := _quarrel(user, service))), "")

    def shared(self, pool: Pool, family: int, service: Service) -> IPAddress | None:
        """The lowest address that others of the same sharing key have and that this one may have too."""
        known = self._by_key.get(service.sharing_key, ()) if service.sharing_key else ()
        found = (a for a in known if a.version == family and any(a in r for r in pool.ranges))
        fits = (a for a in found if not is_avoided(a, pool) and not self.conflict(a, service))
        return min(fits, key=int, default=None)

    def free(self, pool: Pool, ranges: Iterable[AddressRange]) -> tuple[IPAddress, AddressRange] | None:
        """The lowest free address of the first range that has one; with balances_ranges, of the least used range."""
        order = sorted(ranges, key=lambda r: self._used.get(r, 0)) if pool.balances_ranges else ranges
        for found in order:
            address = self._lowest(pool, found)
            if address is not None:
                return address, found
        return None

    def _lowest(self, pool: Pool, found: AddressRange) -> IPAddress | None:
        make, offset = type(found.first), self._cursors.get(found, 0)
        first = int(found.first)
        while offset < found.size:
            address = make(first + offset)
            if address not in self._users and address not in self._blocked and not is_avoided(address, pool):
                self._cursors[found] = offset  # the caller may not take it after all, so the cursor stays on it
                return address
            offset += 1
        self._cursors[found] = offset
        return None


def is_avoided(address: IPAddress, pool: Pool) -> bool:
    """MetalLB's avoidBuggyIPs: IPv4 addresses that end in .0 or .255."""
    return pool.avoid_buggy_addresses and address.version == 4 and int(address) & 255 in {0, 255}


def _quarrel(user: Service, service: Service) -> str:
    if not service.sharing_key or user.sharing_key != service.sharing_key:
        return f"{user.key} has it"
    if not _may_meet(user, service):
        return f"{user.key} has it, under the same sharing key but in a namespace that doesn't share with this one"
    ports = user.ports & service.ports
    if ports:
        protocol, port = min(ports)
        return f"{user.key} shares it and has port {port}/{protocol} already"
    if user.backend != service.backend:
        return f"{user.key} shares it, and policy Local needs the same pods behind both"
    return ""


def _may_meet(user: Service, service: Service) -> bool:
    if user.sharing_key.startswith("metallb ") or user.ref.namespace == service.ref.namespace:
        return True
    pairs = ((user, service), (service, user))
    return all({"*", other.ref.namespace} & one.shares_with for one, other in pairs)
