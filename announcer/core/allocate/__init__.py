"""An address for every Service of type LoadBalancer, or the Reason why it gets none.

First every Service keeps what its status says, as far as it still may have it; only then does anybody get something
new. So neither input order, nor a new Service, nor a restart ever moves an address, and an address that somebody else
wrote is adopted. Those that request addresses are served first, then the oldest, then by namespace and name.

| ipFamilyPolicy | gets |
|---|---|
| SingleStack | one address of the first of ipFamilies |
| PreferDualStack | one of each from one pool; of the first family, or else the second, where no pool has both |
| RequireDualStack | one of each from one pool, or nothing |

All addresses of a Service come from one pool. One that it may not keep is replaced; one that it may keep stays, also
while its companion changes.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from announcer.core.allocate.book import Book, is_avoided
from announcer.core.allocate.choice import Choice, NoChoice
from announcer.core.allocate.wishes import PREFER, STEPS, families, has_family, is_twin, takes_all
from announcer.core.model import (
    POOL_KINDS,
    AddressRange,
    Announce,
    Fence,
    Homes,
    IPAddress,
    Pool,
    Reason,
    Service,
    ServiceKey,
    Snapshot,
)

CLASSES = frozenset({"", "purelb.io/purelb", "purelb.io/purelbv2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The addresses of a Service in the order of its families. `pool` is empty where the pool is not known any more."""

    service: ServiceKey
    addresses: tuple[IPAddress, ...]
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    service: ServiceKey
    reason: Reason
    message: str


Decision = Assignment | Refusal
_Addresses = tuple[IPAddress, ...]


def allocate(snapshot: Snapshot, *, classes: Set[str] = CLASSES) -> Mapping[ServiceKey, Decision]:
    """One Decision per Service of type LoadBalancer of a class of ours; other Services don't appear.

    Who gives an address up may make room for somebody: then it is decided again, so that no later pass has to.
    """
    balanced = [s for s in snapshot.services if s.is_load_balancer]
    services = sorted((s for s in balanced if s.load_balancer_class in classes), key=_seniority)
    foreign = (a for s in balanced if s.load_balancer_class not in classes for a in s.status_addresses)
    blocked = snapshot.in_use.union(foreign)
    while True:
        allocation = _Allocation(snapshot, blocked)
        decisions = allocation.decide(services)
        if not allocation.has_room_again:
            return {key: decisions[key] for key in sorted(decisions)}
        services = [replace(s, status_addresses=_addresses(decisions[s.key])) for s in services]


def lost_pools(snapshot: Snapshot) -> Set[str]:
    """Names of objects that may be pools, but can't be understood."""
    return {ref.name for ref in snapshot.refused if ref.kind in POOL_KINDS}


def is_unsure(service: Service, lost: Set[str], homes: Homes) -> bool:
    """Whether an object that can't be understood may be, or is by name, the pool of what the Service has."""
    if not lost or not service.status_addresses:
        return False
    is_named = service.requested_pool != "" and service.requested_pool in lost
    return is_named or not all(map(homes.of, service.status_addresses))


def _seniority(service: Service) -> tuple[bool, str, ServiceKey]:
    return not service.requested_addresses, service.created, service.key


def _addresses(decision: Decision) -> _Addresses:
    return decision.addresses if isinstance(decision, Assignment) else ()


class _Allocation:
    def __init__(self, snapshot: Snapshot, blocked: Set[IPAddress]) -> None:
        self.homes, self.choice = Homes(snapshot.pools), Choice(snapshot)
        self.book = Book(self.homes, blocked)
        self.lost_pools = lost_pools(snapshot)
        self.subnets = {n for report in snapshot.reports for link in report.links for n in link.subnets}
        self.has_room_again = False

    def decide(self, services: Sequence[Service]) -> dict[ServiceKey, Decision]:
        kept = {service.key: self._keep(service) for service in services if service.status_addresses}
        decisions: dict[ServiceKey, Decision] = {}
        for service in services:
            had = kept.get(service.key, ())
            decision = decisions[service.key] = self._complete(service, had)
            self.has_room_again |= not set(had) <= set(_addresses(decision))
        return decisions

    # -- keeping ---------------------------------------------------------------------------------------------------

    def _keep(self, service: Service) -> _Addresses:
        """The addresses of the status that the Service may go on having, taken. All are of one pool."""
        had = dict.fromkeys(service.status_addresses)
        if is_unsure(service, self.lost_pools, self.homes):
            return self._take(service, [a for a in had if not self.book.conflict(a, service)])
        kept: dict[IPAddress, tuple[Pool, AddressRange]] = {}
        for address in sorted(had, key=lambda a: a not in service.requested_addresses):
            home = self.homes.of(address)
            if home and self._may_keep(service, address, home[0], tuple(kept)):
                others = ((pool, (other, found)) for other, (pool, found) in kept.items())
                if all(p is home[0] and not is_twin(service, p, o, (address, home[1])) for p, o in others):
                    kept[address] = home
        return self._take(service, kept)

    def _may_keep(self, service: Service, address: IPAddress, pool: Pool, kept: _Addresses) -> bool:
        if service.requested_pool in self.choice.pools and service.requested_pool != pool.name:
            return False
        asked = service.requested_addresses
        if asked and address not in asked and has_family(asked, address.version):
            return False
        is_retroactive = pool.admission is not None and pool.admission.fence is Fence.ONE_WAY  # PureLB's are not
        if is_retroactive and not self.choice.may_be_listed(pool, service):
            return False
        if is_avoided(address, pool) or address.version not in families(service, pool, (*kept, address)):
            return False
        return self.book.conflict(address, service) is None

    # -- giving ----------------------------------------------------------------------------------------------------

    def _complete(self, service: Service, kept: _Addresses) -> Decision:
        if kept and is_unsure(service, self.lost_pools, self.homes):
            return Assignment(service=service.key, addresses=kept, pool="")
        if service.requested_addresses:
            return self._requested(service, kept)
        if kept and (home := self.homes.of(kept[0])) and (found := self._beside(service, home[0], kept)):
            return found
        steps = self.choice.steps(service)
        if isinstance(steps, NoChoice):
            return Refusal(service=service.key, reason=steps.reason, message=steps.message)
        for step in steps:
            for part in STEPS[service.family_policy]:
                for pool in step:
                    if found := self._fill(service, pool, (), families(service, pool)[part]):
                        return found
        return _exhausted(service, [pool for step in steps for pool in step])

    def _beside(self, service: Service, pool: Pool, have: _Addresses) -> Assignment | None:
        """`have` and what is missing beside it; PreferDualStack is content without."""
        wanted = families(service, pool, have)
        found = self._fill(service, pool, have, wanted)
        if found or service.family_policy is not PREFER:
            return found
        return self._fill(service, pool, have, tuple(f for f in wanted if has_family(have, f)))

    def _fill(self, service: Service, pool: Pool, have: _Addresses, wanted: tuple[int, ...]) -> Assignment | None:
        """`have` and what is missing of the wanted families, taken; None, and nothing taken, where one can't be had."""
        addresses = list(have)
        for family in wanted:
            addresses += self._missing(service, pool, family, have)
            if not has_family(addresses, family):
                return None
        ordered = sorted(addresses, key=lambda a: wanted.index(a.version))
        return self._assignment(service, pool, ordered) if ordered else None

    def _missing(self, service: Service, pool: Pool, family: int, have: _Addresses) -> list[IPAddress]:
        if takes_all(service, pool):
            wanted = [r for r in pool.ranges if r.first.version == family and self._is_usable(pool, r)]
            empty = (r for r in wanted if not any(a in r for a in have))
            return [address for r in empty if (address := self.book.free_of(pool, r))]
        if has_family(have, family):
            return []
        found = self.book.shared(pool, family, service) or self.book.free(pool, family)
        return [found] if found else []

    def _is_usable(self, pool: Pool, found: AddressRange) -> bool:
        """multiPool: a range that is to be held locally counts only where some node has its subnet."""
        return pool.announce is not Announce.LOCAL or found.subnet in self.subnets

    def _take(self, service: Service, addresses: Iterable[IPAddress]) -> _Addresses:
        taken = tuple(addresses)
        for address in taken:
            self.book.take(address, service)
        return taken

    def _assignment(self, service: Service, pool: Pool, addresses: Iterable[IPAddress]) -> Assignment:
        return Assignment(service=service.key, addresses=self._take(service, addresses), pool=pool.name)

    # -- requests --------------------------------------------------------------------------------------------------

    def _requested(self, service: Service, kept: _Addresses) -> Decision:
        """Every requested address or nothing; a dual-stack Service that asks for one gets its companion too."""
        asked, pools = service.requested_addresses, dict[str, Pool]()
        for address in asked:
            home = self.homes.of(address)
            if refusal := self._why_not(service, address, home[0] if home else None, kept):
                return refusal
            pools |= {home[0].name: home[0]} if home else {}
        if len(pools) > 1:
            message = f"asks for addresses of several pools: {', '.join(sorted(pools))}; all must be of one"
            return Refusal(service=service.key, reason=Reason.ADDRESS_NOT_IN_POOL, message=message)
        (pool,) = pools.values()
        companions = (a for a in kept if a not in asked and any(a in r for r in pool.ranges))
        return self._beside(service, pool, (*asked, *companions)) or _exhausted(service, [pool])

    def _why_not(self, service: Service, address: IPAddress, pool: Pool | None, kept: _Addresses) -> Refusal | None:
        where = f"pool {service.requested_pool!r}" if service.requested_pool else "any pool"
        if pool is None or service.requested_pool not in {"", pool.name}:
            return _refusal(service, Reason.ADDRESS_NOT_IN_POOL, f"asks for {address}, which does not lie in {where}")
        if address not in kept and not self.choice.admits(pool, service):
            message = f"asks for {address} of pool {pool.name!r}, which is not for this Service"
            return _refusal(service, Reason.POOL_NOT_ADMITTED, message)
        if address.version not in families(service, pool):
            stated = " and ".join(f"IPv{family}" for family in families(service, pool))
            return _refusal(service, Reason.ADDRESS_FAMILY, f"asks for {address}, but its ipFamilies are {stated}")
        if is_avoided(address, pool):
            message = f"asks for {address}, which avoidBuggyIPs of pool {pool.name!r} leaves out"
            return _refusal(service, Reason.ADDRESS_NOT_IN_POOL, message)
        if conflict := self.book.conflict(address, service):
            return _refusal(service, conflict[0], f"asks for {address}: {conflict[1]}")
        return None


def _exhausted(service: Service, pools: list[Pool]) -> Refusal:
    wanted = sorted({family for pool in pools for family in families(service, pool)})
    shown = " and ".join(f"IPv{family}" for family in wanted)
    names = ", ".join(dict.fromkeys(pool.name for pool in pools))
    return _refusal(service, Reason.POOL_EXHAUSTED, f"no free {shown} address in: {names}")


def _refusal(service: Service, reason: Reason, message: str) -> Refusal:
    return Refusal(service=service.key, reason=reason, message=message)
