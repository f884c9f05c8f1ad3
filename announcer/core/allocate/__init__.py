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

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from announcer.core.allocate.book import Book, is_avoided
from announcer.core.allocate.choice import Choice, NoChoice
from announcer.core.model import (
    AddressRange,
    Announce,
    Fence,
    IPAddress,
    IPFamilyPolicy,
    IPNetwork,
    Pool,
    Reason,
    Service,
    ServiceKey,
    Snapshot,
)

CLASSES = frozenset({"", "purelb.io/purelb", "purelb.io/purelbv2"})
SINGLE, PREFER, REQUIRE = IPFamilyPolicy


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


def allocate(snapshot: Snapshot, *, classes: Set[str] = CLASSES) -> Mapping[ServiceKey, Decision]:
    """One Decision per Service of type LoadBalancer of a class of ours; other Services don't appear."""
    services = [s for s in snapshot.services if s.is_load_balancer and s.load_balancer_class in classes]
    return _Allocation(snapshot).decide(sorted(services, key=_seniority))


def pool_of(address: IPAddress, pools: Iterable[Pool]) -> tuple[Pool, AddressRange] | None:
    """The pool, and the range of it, that an address lies in. Pools of a Snapshot never overlap."""
    return next(((pool, r) for pool in pools for r in pool.ranges if address in r), None)


def families(service: Service, pool: Pool) -> tuple[int, ...]:
    """Families that a Service wants, the first first. One that doesn't say gets IPv4 where the pool has it."""
    stated = service.families
    if service.family_policy is not SINGLE:
        return stated if len(stated) == 2 else (*(stated or (4,)), 10 - (stated or (4,))[0])
    return stated[:1] or (min(r.first.version for r in pool.ranges),)


def _seniority(service: Service) -> tuple[bool, str, ServiceKey]:
    return not service.requested_addresses, service.created, service.key


class _Allocation:
    def __init__(self, snapshot: Snapshot) -> None:
        self.choice, self.book = Choice(snapshot), Book(snapshot.in_use)
        self.is_unsure = bool(snapshot.refused)
        self.subnets = {n for report in snapshot.reports for link in report.links for n in link.subnets}

    def decide(self, services: list[Service]) -> Mapping[ServiceKey, Decision]:
        kept = {service.key: self._keep(service) for service in services if service.status_addresses}
        decisions: dict[ServiceKey, Decision] = {}
        for service in services:
            decisions[service.key] = self._complete(service, kept.get(service.key, ()))
        return {key: decisions[key] for key in sorted(decisions)}

    # -- keeping ---------------------------------------------------------------------------------------------------

    def _keep(self, service: Service) -> tuple[IPAddress, ...]:
        """The addresses of the status that the Service may go on having, taken. All are of one pool."""
        homes = {a: home for a in service.status_addresses if (home := pool_of(a, self.choice.pools.values()))}
        if self.is_unsure and len(homes) < len(service.status_addresses):
            return service.status_addresses  # the object that can't be understood may be their pool
        kept: list[IPAddress] = []
        for address, (pool, found) in homes.items():
            others = ((other, *homes[other]) for other in kept)
            is_new = all(p is pool and not _is_twin(service, pool, (o, r), (address, found)) for o, p, r in others)
            if is_new and self._may_keep(service, address, pool):
                self.book.take(address, found, service)
                kept.append(address)
        return tuple(kept)

    def _may_keep(self, service: Service, address: IPAddress, pool: Pool) -> bool:
        if service.requested_pool in self.choice.pools and service.requested_pool != pool.name:
            return False
        asked = service.requested_addresses
        if asked and address not in asked and (service.family_policy is SINGLE or _has_family(asked, address.version)):
            return False
        is_retroactive = pool.admission is not None and pool.admission.fence is Fence.ONE_WAY  # PureLB's are not
        if is_retroactive and not self.choice.admits(pool, service):
            return False
        if is_avoided(address, pool) or address.version not in families(service, pool):
            return False
        return not self.book.conflict(address, service)

    # -- giving ----------------------------------------------------------------------------------------------------

    def _complete(self, service: Service, kept: tuple[IPAddress, ...]) -> Decision:
        if kept and any(pool_of(address, self.choice.pools.values()) is None for address in kept):
            return Assignment(service=service.key, addresses=kept, pool="")
        if service.requested_addresses:
            return self._requested(service, kept)
        if kept:
            home = pool_of(kept[0], self.choice.pools.values())
            if home is not None and (found := self._from_pool(service, home[0], kept)):
                return found
        steps = self.choice.steps(service)
        if isinstance(steps, NoChoice):
            return Refusal(service=service.key, reason=steps.reason, message=steps.message)
        for step in steps:
            if found := self._from_step(service, step):
                return found
        return self._exhausted(service, [pool for step in steps for pool in step])

    def _from_step(self, service: Service, step: list[Pool]) -> Assignment | None:
        """The first pool with everything wanted; for PreferDualStack then the first with one family, or the other."""
        if service.family_policy is not PREFER:
            return next((found for pool in step if (found := self._from_pool(service, pool, ()))), None)
        for pool in (p for p in step if _has_ranges(p, families(service, p))):
            if (found := self._from_pool(service, pool, ())) and len(found.addresses) > 1:
                return found
        for position in (0, 1):
            for pool in step:
                if found := self._take(service, pool, (), families(service, pool)[position : position + 1]):
                    return found
        return None

    def _from_pool(self, service: Service, pool: Pool, kept: tuple[IPAddress, ...]) -> Assignment | None:
        wanted = families(service, pool)
        found = self._take(service, pool, kept, wanted)
        if found is None or service.family_policy is PREFER:
            return found
        return found if {a.version for a in found.addresses} == set(wanted) else None

    def _take(
        self, service: Service, pool: Pool, kept: tuple[IPAddress, ...], wanted: tuple[int, ...]
    ) -> Assignment | None:
        """`kept` and what is missing beside it, as far as the pool has it; taken only where the policy is content."""
        new: list[tuple[IPAddress, AddressRange]] = []
        for family in wanted:
            ranges = [r for r in pool.ranges if r.first.version == family]
            if _takes_all(service, pool):
                empty = [r for r in ranges if self._is_usable(pool, r) and not any(a in r for a in kept)]
                new += [found for r in empty if (found := self.book.free(pool, [r]))]
            elif not _has_family(kept, family) and (found := self._one(service, pool, family, ranges)):
                new.append(found)
        addresses = (*kept, *(address for address, _ in new))
        is_content = service.family_policy is not REQUIRE or all(_has_family(addresses, f) for f in wanted)
        if not addresses or not is_content:
            return None
        for address, home in new:
            self.book.take(address, home, service)
        ordered = sorted(addresses, key=lambda a: wanted.index(a.version) if a.version in wanted else len(wanted))
        return Assignment(service=service.key, addresses=tuple(ordered), pool=pool.name)

    def _one(
        self, service: Service, pool: Pool, family: int, ranges: list[AddressRange]
    ) -> tuple[IPAddress, AddressRange] | None:
        shared = self.book.shared(pool, family, service)
        if shared is not None:
            return shared, next(r for r in ranges if shared in r)
        return self.book.free(pool, ranges)

    def _is_usable(self, pool: Pool, found: AddressRange) -> bool:
        """multiPool: a range that is to be held locally counts only where some node has its subnet."""
        subnet: IPNetwork | None = found.subnet
        return pool.announce is Announce.REMOTE or subnet is None or subnet in self.subnets

    # -- requests --------------------------------------------------------------------------------------------------

    def _requested(self, service: Service, kept: tuple[IPAddress, ...]) -> Decision:
        """Every requested address or nothing; a dual-stack Service that asks for one gets its companion too."""
        asked = service.requested_addresses
        homes = [(address, pool_of(address, self.choice.pools.values())) for address in asked]
        for address, home in homes:
            if refusal := self._why_not(service, address, home[0] if home else None):
                return refusal
        found = [(address, *home) for address, home in homes if home]
        pools = {pool.name: pool for _, pool, _ in found}
        if len(pools) > 1:
            message = f"asks for addresses of several pools: {', '.join(sorted(pools))}; all must be of one"
            return Refusal(service=service.key, reason=Reason.ADDRESS_NOT_IN_POOL, message=message)
        for address, _, home_range in found:
            self.book.take(address, home_range, service)
        (pool,) = pools.values()
        have = (*asked, *(a for a in kept if a not in asked))
        if service.family_policy is SINGLE:
            return Assignment(service=service.key, addresses=asked, pool=pool.name)
        return self._take(service, pool, have, families(service, pool)) or self._exhausted(service, [pool])

    def _why_not(self, service: Service, address: IPAddress, pool: Pool | None) -> Refusal | None:
        where = f"pool {service.requested_pool!r}" if service.requested_pool else "any pool"
        if pool is None or service.requested_pool not in {"", pool.name}:
            return _refusal(service, Reason.ADDRESS_NOT_IN_POOL, f"asks for {address}, which does not lie in {where}")
        if not self.choice.admits(pool, service):
            message = f"asks for {address} of pool {pool.name!r}, which is not for this Service"
            return _refusal(service, Reason.POOL_NOT_ADMITTED, message)
        if service.families and address.version not in families(service, pool):
            stated = " and ".join(f"IPv{family}" for family in families(service, pool))
            return _refusal(service, Reason.ADDRESS_FAMILY, f"asks for {address}, but its ipFamilies are {stated}")
        if is_avoided(address, pool):
            message = f"asks for {address}, which avoidBuggyIPs of pool {pool.name!r} leaves out"
            return _refusal(service, Reason.ADDRESS_NOT_IN_POOL, message)
        if why := self.book.conflict(address, service):
            reason = Reason.SHARING_CONFLICT if "shar" in why else Reason.ADDRESS_IN_USE
            return _refusal(service, reason, f"asks for {address}: {why}")
        return None

    def _exhausted(self, service: Service, pools: list[Pool]) -> Refusal:
        wanted = sorted({family for pool in pools for family in families(service, pool)})
        shown = " and ".join(f"IPv{family}" for family in wanted)
        names = ", ".join(dict.fromkeys(pool.name for pool in pools))
        return _refusal(service, Reason.POOL_EXHAUSTED, f"no free {shown} address in: {names}")


def _refusal(service: Service, reason: Reason, message: str) -> Refusal:
    return Refusal(service=service.key, reason=reason, message=message)


def _takes_all(service: Service, pool: Pool) -> bool:
    """purelb.io/multi-pool over spec.multiPool; a Service that shares takes one, as PureLB has it."""
    if service.sharing_key or pool.announce is Announce.ADVERTISEMENTS:
        return False
    return pool.takes_from_every_range if service.takes_from_every_range is None else service.takes_from_every_range


def _is_twin(
    service: Service, pool: Pool, one: tuple[IPAddress, AddressRange], other: tuple[IPAddress, AddressRange]
) -> bool:
    """Whether a Service is not to have both: one per family, or one per range where it takes from every range."""
    if _takes_all(service, pool):
        return one[1] == other[1]
    return one[0].version == other[0].version


def _has_family(addresses: Iterable[IPAddress], family: int) -> bool:
    return any(address.version == family for address in addresses)


def _has_ranges(pool: Pool, wanted: tuple[int, ...]) -> bool:
    return all(any(r.first.version == family for r in pool.ranges) for family in wanted)
