"""Who has which address while one allocation is computed, and the lowest address that a Service may still get.

Two Services may have one address when all of this holds (MetalLB's rules, and PureLB's, and our own on namespaces):

| | |
|---|---|
| key | both have the same, from the same family of annotations |
| ports | none in common; the protocol is part of a port |
| backend | both policy Cluster, or both Local with the same pods |
| namespace | the same, or each allows the other's by name; MetalLB's key allows all where nothing is said |

Nothing is given back while a Book is in use. So what was found full or in conflict stays so, and is looked at once:
neither a full pool nor a crowd of sharers makes the next answer dearer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from announcer.core.model import AddressRange, Homes, IPAddress, Pool, Reason, Service, ServiceKey

Conflict = tuple[Reason, str]


@dataclass(slots=True)
class _Holding:
    """One address that Services have: they agree in key and backend, and no two have a port in common."""

    first: Service
    users: set[ServiceKey] = field(default_factory=set)
    ports: dict[tuple[str, int], Service] = field(default_factory=dict)
    parties: dict[tuple[str, frozenset[str]], Service] = field(default_factory=dict)
    """By namespace and the namespaces it shares with."""


@dataclass(slots=True)
class _Stock:
    """What is left of a range: nothing below `offset`. `users` are counted where the pool balances its ranges."""

    range: AddressRange
    offset: int = 0
    users: int = 0


@dataclass(slots=True)
class _Search:
    """Addresses of a sharing key that one kind of Service may have, lowest first; `seen` of the key's are looked at."""

    seen: int = 0
    fits: list[tuple[int, IPAddress]] = field(default_factory=list)


class Book:
    def __init__(self, homes: Homes, blocked: Iterable[IPAddress]) -> None:
        self._homes, self._blocked = homes, frozenset(blocked)
        self._holdings: dict[IPAddress, _Holding] = {}
        self._by_key: dict[str, list[IPAddress]] = {}
        self._searches: dict[object, _Search] = {}
        self._by_range: dict[AddressRange, _Stock] = {}
        self._stocks: dict[tuple[str, int], list[_Stock]] = {}
        """Of a pool and family: those that may have something left, in their order."""

    def take(self, address: IPAddress, service: Service) -> None:
        """There is no conflict."""
        holding = self._holdings.get(address)
        if holding is None:
            holding = self._holdings[address] = _Holding(service)
            home = self._homes.of(address)
            if home and home[0].balances_ranges:
                self._stock(home[1]).users += 1
            if service.sharing_key:
                self._by_key.setdefault(service.sharing_key, []).append(address)
        holding.users.add(service.key)
        holding.ports |= dict.fromkeys(service.ports, service)
        holding.parties.setdefault((service.ref.namespace, service.shares_with), service)

    def conflict(self, address: IPAddress, service: Service) -> Conflict | None:
        """Why the Service can't have the address; None where it can, or has it already."""
        if address in self._blocked and address not in service.status_addresses:
            return Reason.ADDRESS_IN_USE, "a Service that is refused for a mistake, or of another class, has it"
        holding = self._holdings.get(address)
        return _quarrel(holding, service) if holding and service.key not in holding.users else None

    def shared(self, pool: Pool, family: int, service: Service) -> IPAddress | None:
        """The lowest address that others of the same sharing key have and that this one may have too."""
        known = self._by_key.get(service.sharing_key)
        if known is None:
            return None
        kind = (pool.name, family, service.sharing_key, service.ports, service.backend)
        search = self._searches.setdefault((*kind, service.ref.namespace, service.shares_with), _Search())
        for address in known[search.seen :]:
            home = self._homes.of(address) if address.version == family else None
            if home and home[0] is pool and not is_avoided(address, pool):
                heappush(search.fits, (int(address), address))
        search.seen = len(known)
        while search.fits and self.conflict(search.fits[0][1], service):
            heappop(search.fits)
        return search.fits[0][1] if search.fits else None

    def free(self, pool: Pool, family: int) -> IPAddress | None:
        """The lowest free address of the first range that has one; with balances_ranges, of the least used range."""
        if (pool.name, family) not in self._stocks:
            self._stocks[pool.name, family] = [self._stock(r) for r in pool.ranges if r.first.version == family]
        stocks = self._stocks[pool.name, family]
        while stocks:
            stock = min(stocks, key=lambda s: s.users) if pool.balances_ranges else stocks[0]
            if address := self._lowest(pool, stock):
                return address
            stocks.remove(stock)
        return None

    def free_of(self, pool: Pool, found: AddressRange) -> IPAddress | None:
        return self._lowest(pool, self._stock(found))

    def _stock(self, found: AddressRange) -> _Stock:
        return self._by_range.setdefault(found, _Stock(found))

    def _lowest(self, pool: Pool, stock: _Stock) -> IPAddress | None:
        """The caller may not take it after all, so the offset stays on it."""
        make, first, size = type(stock.range.first), int(stock.range.first), stock.range.size
        while stock.offset < size:
            address = make(first + stock.offset)
            if address not in self._holdings and address not in self._blocked and not is_avoided(address, pool):
                return address
            stock.offset += 1
        return None


def is_avoided(address: IPAddress, pool: Pool) -> bool:
    """MetalLB's avoidBuggyIPs: IPv4 addresses that end in .0 or .255."""
    return pool.avoid_buggy_addresses and address.version == 4 and int(address) & 255 in {0, 255}


def _quarrel(holding: _Holding, service: Service) -> Conflict | None:
    first = holding.first
    if not service.sharing_key or first.sharing_key != service.sharing_key:
        return Reason.ADDRESS_IN_USE, f"{first.key} has it"
    if stranger := next((user for user in holding.parties.values() if not _may_meet(user, service)), None):
        text = f"{stranger.key} has it, under the same sharing key but in a namespace that doesn't share with this one"
        return Reason.SHARING_CONFLICT, text
    if port := min((port for port in service.ports if port in holding.ports), default=None):
        return Reason.SHARING_CONFLICT, f"{holding.ports[port].key} shares it and has port {port[1]}/{port[0]} already"
    if first.backend != service.backend:
        return Reason.SHARING_CONFLICT, f"{first.key} shares it, and policy Local needs the same pods behind both"
    return None


def _may_meet(user: Service, service: Service) -> bool:
    if user.ref.namespace == service.ref.namespace:
        return True
    return _admits(user, service) and _admits(service, user)


def _admits(one: Service, other: Service) -> bool:
    if not one.shares_with and one.sharing_key.startswith("metallb "):
        return True
    return bool({"*", other.ref.namespace} & one.shares_with)
