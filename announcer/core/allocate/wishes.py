"""What a Service wants of a pool: families, and one address of each or one of every range."""

from collections.abc import Iterable, Sequence

from announcer.core.model import AddressRange, Announce, IPAddress, IPFamilyPolicy, Pool, Service

SINGLE, PREFER, REQUIRE = IPFamilyPolicy
STEPS = {SINGLE: (slice(1),), REQUIRE: (slice(2),), PREFER: (slice(2), slice(1), slice(1, 2))}
"""Which of its families a Service asks all pools for at once, one try after the other."""


def families(service: Service, pool: Pool, have: Sequence[IPAddress] = ()) -> tuple[int, ...]:
    """Families that a Service wants, the first first. One that doesn't say stays with what it has; else gets IPv4."""
    if service.families:
        return service.families
    if have:
        return (have[0].version,)
    return next((family,) for family in (4, 6) if any(r.first.version == family for r in pool.ranges))


def takes_all(service: Service, pool: Pool) -> bool:
    """purelb.io/multi-pool over spec.multiPool; who shares or asks for an address gets one, as PureLB has it."""
    if service.sharing_key or service.requested_addresses or pool.announce is Announce.ADVERTISEMENTS:
        return False
    return pool.takes_from_every_range if service.takes_from_every_range is None else service.takes_from_every_range


def is_twin(
    service: Service, pool: Pool, one: tuple[IPAddress, AddressRange], other: tuple[IPAddress, AddressRange]
) -> bool:
    """Whether a Service is not to have both: one per family, or one per range where it takes from every range."""
    return one[1] == other[1] if takes_all(service, pool) else one[0].version == other[0].version


def has_family(addresses: Iterable[IPAddress], family: int) -> bool:
    return any(address.version == family for address in addresses)
