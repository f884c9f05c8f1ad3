"""What the allocator writes to the objects of a cluster: addresses, conditions, counts, and the marks of the peers.

Statuses are plain JSON values in the API's camelCase; they hold no time, so that an unchanged state is an equal value
and is written once. Fields and annotations that PureLB's and MetalLB's own tools read are written too (facts of both:
ServiceGroup.status, IPAddressPool.status, purelb.io/announcing-IPv4, metallb.io/ip-allocated-from-pool).
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from announcer.core.allocate import CLASSES, Assignment, Decision
from announcer.core.model import (
    ACCEPTED,
    Announce,
    Homes,
    IPAddress,
    ObjectRef,
    Pool,
    Problem,
    Reason,
    Service,
    ServiceKey,
    Snapshot,
)
from announcer.core.report.notes import Note, Tell, judgment, tell_nothing

Status = dict[str, object]
ASSIGNED = "announcer.io/AddressAssigned"
BRANDS = ("purelb.io/allocated-by", "purelb.io/allocated-from", "purelb.io/pool-type")
POOL_BRAND = "metallb.io/ip-allocated-from-pool"
ANNOUNCING = {4: "purelb.io/announcing-IPv4", 6: "purelb.io/announcing-IPv6"}
ANNOTATIONS = frozenset({*BRANDS, POOL_BRAND, *ANNOUNCING.values()})
"""All that are ever written to a Service."""
MOST = 2**63 - 1
"""int64 of the API's counts: MetalLB's and PureLB's fields hold no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """The status that an object should have, and annotations that go with it in one write."""

    ref: ObjectRef
    status: Status
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tell: Tell = field(default=tell_nothing, compare=False)


def writings(
    snapshot: Snapshot, decisions: Mapping[ServiceKey, Decision], *, classes: Set[str] = CLASSES
) -> list[Writing]:
    """Services of ours, and every object of configuration, in the order of their refs."""
    problems: dict[ObjectRef, list[Problem]] = {}
    for problem in snapshot.problems:
        problems.setdefault(problem.ref, []).append(problem)
    pools = {pool.name: pool for pool in snapshot.pools}
    holders = _holders(snapshot)
    found = [
        _service(service, decisions[service.key], pools, problems.get(service.ref, []), holders)
        for service in snapshot.services
        if service.key in decisions
    ]
    homes = Homes(snapshot.pools)
    found += [_released(s, homes) for s in snapshot.services if _has_lost_its_type(s, classes)]
    counts = pool_counts(snapshot, decisions)
    for ref in sorted(_configuration(snapshot)):
        status = object_status(problems.get(ref, []), is_used=ref not in snapshot.refused)
        status |= counts.get(ref, {})
        found.append(Writing(ref=ref, status=status, tell=_tell_configuration(ref, problems.get(ref, []))))
    return found


def service_status(decision: Decision, problems: Sequence[Problem]) -> Status:
    """Service.status: the addresses as ingress points (ipMode VIP: kube-proxy keeps the address local), conditions."""
    given = decision.addresses if isinstance(decision, Assignment) else ()
    ingress = [{"ip": str(address), "ipMode": "VIP"} for address in given]
    if isinstance(decision, Assignment):
        assigned = _condition(ASSIGNED, reason="Assigned", message=_from(decision), is_true=True)
    else:
        assigned = _condition(ASSIGNED, reason=decision.reason, message=decision.message, is_true=False)
    accepted = [_accepted(problems, is_used=True)] if problems else []
    return {"loadBalancer": {"ingress": ingress}, "conditions": [assigned, *accepted]}


def object_status(problems: Sequence[Problem], *, is_used: bool) -> Status:
    """The status of a pool, peer or other object of configuration: whether it is in use, and what is wrong with it."""
    return {"conditions": [_accepted(problems, is_used=is_used)]}


def pool_counts(snapshot: Snapshot, decisions: Mapping[ServiceKey, Decision]) -> Mapping[ObjectRef, Status]:
    """How many addresses of each pool are given and free, in the field names of the pool's own kind."""
    given: dict[str, set[IPAddress]] = {}
    for decision in decisions.values():
        if isinstance(decision, Assignment):
            given.setdefault(decision.pool, set()).update(decision.addresses)
    homes = Homes(snapshot.pools)
    for address in snapshot.in_use:
        if home := homes.of(address):
            given.setdefault(home[0].name, set()).add(address)
    found: dict[ObjectRef, Status] = {}
    for pool in snapshot.pools:
        word = "allocated" if pool.ref.kind == "ServiceGroup" else "assigned"
        counts: Status = {}
        for family in (4, 6):
            ranges = [r for r in pool.ranges if r.first.version == family]
            used = sum(address.version == family for address in given.get(pool.name, ()))
            size = sum(r.size for r in ranges) - _avoided(pool, family)
            counts[f"{word}IPv{family}"] = used
            counts[f"availableIPv{family}"] = min(max(0, size - used), MOST)
        if pool.ref.kind == "ServiceGroup":
            counts["addresses"] = [f"{r.first}-{r.last}" for r in pool.ranges]
            counts["announce"] = "" if pool.announce is Announce.AUTO else pool.announce.value
        found[pool.ref] = counts
    return found


def _configuration(snapshot: Snapshot) -> set[ObjectRef]:
    kinds = (snapshot.pools, snapshot.agents, snapshot.local_advertisements, snapshot.route_advertisements)
    of_bgp = (snapshot.bgp_configurations, snapshot.community_aliases, snapshot.bfd_profiles)
    refs = {one.ref for kind in (*kinds, *of_bgp) for one in kind}
    return refs | {ref for ref in snapshot.refused if ref.kind not in {"Service", "NodeAnnouncement"} and ref.name}


def _service(
    service: Service,
    decision: Decision,
    pools: Mapping[str, Pool],
    problems: Sequence[Problem],
    holders: Mapping[tuple[ServiceKey, str], list[str]],
) -> Writing:
    annotations: dict[str, str] = {}
    if isinstance(decision, Assignment):
        annotations = _brand(decision, pools.get(decision.pool))
        annotations |= _announcing(service.key, decision.addresses, holders)
        if not decision.pool:  # to say nothing would take them away
            annotations = {name: value for name, value in service.brands.items() if name in ANNOTATIONS}
    status = service_status(decision, problems)

    def tell(before: Mapping[str, Any]) -> list[Note]:
        notes = []
        if _is_news(before, status, decision):
            notes.append(_told(service, decision, pools))
        if problems and judgment(before, ACCEPTED) != judgment(status, ACCEPTED):
            text = "; ".join(map(str, problems))
            notes.append(Note(ref=service.ref, reason="ConfigurationWarning", message=text, is_warning=True))
        return notes

    return Writing(ref=service.ref, status=status, annotations=annotations, tell=tell)


def _is_news(before: Mapping[str, Any], status: Status, decision: Decision) -> bool:
    """Addresses that a peer had given and that stay are none: nobody wants ten thousand Events of a migration."""
    if isinstance(decision, Assignment):
        ingress = (before.get("loadBalancer") or {}).get("ingress") or ()
        return [point.get("ip") for point in ingress] != [str(address) for address in decision.addresses]
    return judgment(before, ASSIGNED) != judgment(status, ASSIGNED)


def _told(service: Service, decision: Decision, pools: Mapping[str, Pool]) -> Note:
    if isinstance(decision, Assignment):
        pool = pools.get(decision.pool)
        is_purelb = pool is not None and pool.ref.kind == "ServiceGroup"
        gone = [str(a) for a in service.status_addresses if a not in decision.addresses]
        text = f"{' '.join(map(str, decision.addresses))} {_from(decision)}"
        if gone:
            text += f", instead of {' '.join(gone)}, which it may not have any more"
        return Note(ref=service.ref, reason="AddressAssigned" if is_purelb else "IPAllocated", message=text)
    text = f"{decision.reason}: {decision.message}"
    if service.status_addresses:
        text += f"; it had {' '.join(map(str, service.status_addresses))}"
    return Note(ref=service.ref, reason="AllocationFailed", message=text, is_warning=True)


def _released(service: Service, homes: Homes) -> Writing:
    """The empty list takes back also what a peer had written; to say nothing would leave it."""
    shown = " ".join(map(str, service.status_addresses))
    found = [home[0] for address in service.status_addresses if (home := homes.of(address))]
    is_metallb = any(pool.ref.kind == "IPAddressPool" for pool in found)
    reason = "ClearAssignment" if is_metallb else "AddressReleased"
    note = Note(ref=service.ref, reason=reason, message=f"{shown}: it is no LoadBalancer any more")
    return Writing(ref=service.ref, status={"loadBalancer": {"ingress": []}}, tell=lambda _before: [note])


def _has_lost_its_type(service: Service, classes: Set[str]) -> bool:
    return not service.is_load_balancer and service.load_balancer_class in classes and bool(service.status_addresses)


def _brand(decision: Assignment, pool: Pool | None) -> dict[str, str]:
    """Whose pool it was, as the pool's own project marks it; nothing where the pool is not known any more."""
    if pool is None:
        return {}
    if pool.ref.kind == "IPAddressPool":
        return {POOL_BRAND: pool.name}
    kind = "" if pool.announce is Announce.AUTO else pool.announce.value
    return {name: value for name, value in zip(BRANDS, ("PureLB", pool.name, kind), strict=True) if value}


def _announcing(
    key: ServiceKey, addresses: Iterable[IPAddress], holders: Mapping[tuple[ServiceKey, str], list[str]]
) -> dict[str, str]:
    """purelb.io/announcing-IPv4 and -IPv6: `node,interface,address` of every local holder."""
    found: dict[str, str] = {}
    for family in (4, 6):
        held = [h for a in addresses if a.version == family for h in holders.get((key, str(a)), ())]
        if held:
            found[ANNOUNCING[family]] = " ".join(sorted(held))
    return found


def _holders(snapshot: Snapshot) -> Mapping[tuple[ServiceKey, str], list[str]]:
    found: dict[tuple[ServiceKey, str], list[str]] = {}
    for report in snapshot.reports:
        for one in report.addresses:
            if one.reason == Reason.HOLDING:
                found.setdefault((one.service, one.address), []).append(f"{report.node},{one.link},{one.address}")
    return found


def _from(decision: Assignment) -> str:
    return f"from pool {decision.pool}" if decision.pool else "of a pool that can't be understood; kept"


def _tell_configuration(ref: ObjectRef, problems: Sequence[Problem]) -> Tell:
    is_group = ref.kind == "ServiceGroup"
    text = "; ".join(map(str, problems))
    reason = {"ServiceGroup": "ParseFailed", "LBNodeAgent": "ConfigError"}.get(ref.kind)

    def tell(before: Mapping[str, Any]) -> list[Note]:
        was = judgment(before, ACCEPTED)
        if problems and (was is None or was[2] != text):
            return [Note(ref=ref, reason=reason or str(problems[0].reason), message=text, is_warning=True)]
        is_right_again = was is not None and was[2] != ""
        if not problems and (is_right_again or (is_group and not before)):
            return [Note(ref=ref, reason="Parsed" if is_group else "Accepted", message="in use")]
        return []

    return tell


def _condition(kind: str, *, reason: str, message: str, is_true: bool) -> dict[str, str]:
    return {"type": kind, "status": "True" if is_true else "False", "reason": str(reason), "message": message}


def _accepted(problems: Sequence[Problem], *, is_used: bool) -> dict[str, str]:
    reason = problems[0].reason if problems else "Accepted"
    return _condition(ACCEPTED, reason=reason, message="; ".join(map(str, problems)), is_true=is_used)


def _avoided(pool: Pool, family: int) -> int:
    """How many addresses avoidBuggyIPs leaves out: those that end in .0 or .255."""
    if not pool.avoid_buggy_addresses or family != 4:
        return 0
    count = 0
    for r in (r for r in pool.ranges if r.first.version == family):
        for end in (0, 255):
            first, last = (int(r.first) - end + 255) >> 8, (int(r.last) - end) >> 8
            count += max(0, last - first + 1)
    return count
