"""An address for every Service of type LoadBalancer, or the Reason why it gets none.

Services that have addresses in their status come first and keep them, so that neither input order, nor a new Service,
nor a restart ever moves one. Those that request an address follow, then the rest; among equals the oldest first, then
by namespace and name. A new address is the
lowest free one of the first pool that can give it: requested addresses, else the pool that an annotation names, else
pools by name that assign by themselves.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from announcer.core.model import AddressRange, IPAddress, IPFamilyPolicy, Pool, Reason, Service, ServiceKey, Snapshot

CLASSES = frozenset({"", "purelb.io/purelb", "purelb.io/purelbv2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The addresses of a Service, IPv4 before IPv6 unless its spec.ipFamilies says otherwise."""

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
    taken = dict.fromkeys(snapshot.in_use, ServiceKey("a refused Service"))
    decisions: dict[ServiceKey, Decision] = {}
    pools = {pool.name: pool for pool in snapshot.pools}
    cursors: dict[AddressRange, int] = {}
    for service in sorted(services, key=_seniority):
        decision = _keep(service, pools, taken, is_unsure=bool(snapshot.refused)) or _give(
            service, pools, taken, cursors
        )
        decisions[service.key] = decision
        if isinstance(decision, Assignment):
            taken.update(dict.fromkeys(decision.addresses, service.key))
    return {key: decisions[key] for key in sorted(decisions)}


def pool_of(address: IPAddress, pools: Iterable[Pool]) -> tuple[Pool, AddressRange] | None:
    """The pool, and the range of it, that an address lies in. Pools of a Snapshot never overlap."""
    return next(((pool, r) for pool in pools for r in pool.ranges if address in r), None)


def _seniority(service: Service) -> tuple[bool, bool, str, ServiceKey]:
    return not service.status_addresses, not service.requested_addresses, service.created, service.key


def _keep(
    service: Service, pools: Mapping[str, Pool], taken: Mapping[IPAddress, ServiceKey], *, is_unsure: bool
) -> Assignment | None:
    """What the status says, as long as nobody senior has it and the Service doesn't ask for something else.

    An address outside every pool is kept while some object can't be understood: its pool may be that one.
    """
    have = service.status_addresses
    if not have or any(address in taken for address in have):
        return None
    homes = [pool_of(address, pools.values()) for address in have]
    if not all(homes) and not is_unsure:
        return None
    names = sorted({home[0].name for home in homes if home})
    if service.requested_addresses and set(service.requested_addresses) != set(have):
        return None
    if service.requested_pool in pools and names != [service.requested_pool]:
        return None
    if len(have) < len(_families(service, None)) and service.family_policy is IPFamilyPolicy.REQUIRE_DUAL_STACK:
        return None
    return Assignment(service=service.key, addresses=have, pool=names[0] if names else "")


def _give(
    service: Service, pools: Mapping[str, Pool], taken: Mapping[IPAddress, ServiceKey], cursors: dict[AddressRange, int]
) -> Decision:
    if service.requested_addresses:
        return _requested(service, pools, taken)
    if service.requested_pool and service.requested_pool not in pools:
        known = ", ".join(sorted(pools)) or "none"
        return Refusal(
            service=service.key,
            reason=Reason.UNKNOWN_POOL,
            message=f"asks for pool {service.requested_pool!r}, and the usable pools are: {known}",
        )
    wanted = [pools[service.requested_pool]] if service.requested_pool else [p for p in pools.values() if p.auto_assign]
    if not wanted:
        return Refusal(service=service.key, reason=Reason.NO_POOL, message="no pool assigns addresses by itself")
    for pool in wanted:
        found = [_lowest(pool, family, taken, cursors) for family in _families(service, pool)]
        addresses = tuple(address for address in found if address)
        if addresses and (len(addresses) == len(found) or service.family_policy is IPFamilyPolicy.PREFER_DUAL_STACK):
            return Assignment(service=service.key, addresses=addresses, pool=pool.name)
    names = ", ".join(pool.name for pool in wanted)
    message = f"no free address of the wanted families in: {names}"
    return Refusal(service=service.key, reason=Reason.POOL_EXHAUSTED, message=message)


def _requested(service: Service, pools: Mapping[str, Pool], taken: Mapping[IPAddress, ServiceKey]) -> Decision:
    names: set[str] = set()
    for address in service.requested_addresses:
        home = pool_of(address, pools.values())
        if home is None or service.requested_pool not in {"", home[0].name}:
            where = f"pool {service.requested_pool!r}" if service.requested_pool else "any pool"
            message = f"asks for {address}, which does not lie in {where}"
            return Refusal(service=service.key, reason=Reason.ADDRESS_NOT_IN_POOL, message=message)
        if address in taken:
            message = f"asks for {address}, which {taken[address]} has"
            return Refusal(service=service.key, reason=Reason.ADDRESS_IN_USE, message=message)
        names.add(home[0].name)
    return Assignment(service=service.key, addresses=service.requested_addresses, pool=min(names))


def _families(service: Service, pool: Pool | None) -> tuple[int, ...]:
    """Families to give, in order. A Service that doesn't say takes the pool's first family, IPv4 where there is one."""
    stated = service.families
    if service.family_policy is not IPFamilyPolicy.SINGLE_STACK:
        return stated if len(stated) == 2 else (*(stated or (4,)), 10 - (stated or (4,))[0])
    if stated or pool is None:
        return stated[:1] or (4,)
    return (min(r.first.version for r in pool.ranges),)


def _lowest(
    pool: Pool, family: int, taken: Mapping[IPAddress, ServiceKey], cursors: dict[AddressRange, int]
) -> IPAddress | None:
    """The lowest free address. Below a range's cursor nothing is free in this call: filling a pool is linear."""
    for found in (r for r in pool.ranges if r.first.version == family):
        make, offset = type(found.first), cursors.get(found, 0)
        while offset < found.size:
            address = make(int(found.first) + offset)
            if address not in taken and not (pool.avoid_buggy_addresses and _is_buggy(address)):
                cursors[found] = offset  # the caller may give it up again, so the cursor stays on it
                return address
            offset += 1
        cursors[found] = offset
    return None


def _is_buggy(address: IPAddress) -> bool:
    """MetalLB's avoidBuggyIPs: IPv4 addresses that end in .0 or .255."""
    return address.version == 4 and int(address) & 255 in {0, 255}
