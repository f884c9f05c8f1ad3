"""Decisions and what came of them, in the shapes that people and other nodes read: statuses and rows.

Statuses are plain JSON values in the API's camelCase; they hold no time, so that an unchanged state is an equal value
and is written once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from announcer.core.allocate import Assignment, Decision
from announcer.core.desired import Desired, Mode, Placement
from announcer.core.model import (
    ACCEPTED,
    AddressReport,
    IPNetwork,
    LinkReport,
    NodeReport,
    ObservedBgp,
    Problem,
    Reason,
    Service,
    ServiceKey,
    Snapshot,
    Unknown,
)
from announcer.core.own import Entry, Ownership, Phase

Status = dict[str, object]
ASSIGNED = "announcer.io/AddressAssigned"


def service_status(decision: Decision, problems: Sequence[Problem]) -> Status:
    """Service.status: the addresses as ingress points (ipMode VIP: kube-proxy keeps the address local), conditions."""
    given = decision.addresses if isinstance(decision, Assignment) else ()
    ingress = [{"ip": str(address), "ipMode": "VIP"} for address in given]
    if isinstance(decision, Assignment):
        assigned = _condition(ASSIGNED, reason="Assigned", message=f"from pool {decision.pool}", is_true=True)
    else:
        assigned = _condition(ASSIGNED, reason=decision.reason, message=decision.message, is_true=False)
    accepted = [_accepted(problems, is_used=True)] if problems else []
    return {"loadBalancer": {"ingress": ingress}, "conditions": [assigned, *accepted]}


def object_status(problems: Sequence[Problem], *, is_used: bool) -> Status:
    """The status of a pool, peer or other object of configuration: whether it is in use, and what is wrong with it."""
    return {"conditions": [_accepted(problems, is_used=is_used)]}


def node_status(
    links: Iterable[LinkReport],
    desired: Desired,
    ownership: Ownership,
    bgp: ObservedBgp | Unknown,
    errors: Sequence[str] = (),
) -> Status:
    """NodeAnnouncement.status: the node's links, what it does about each address, its sessions, what failed."""
    peers = () if isinstance(bgp, Unknown) else bgp.peers
    return {
        "links": [_link(link) for link in links],
        "addresses": [_placement(p, desired, ownership, bgp) for p in desired.placements],
        "sessions": [
            {"peerAddress": str(p.peer_address), "established": p.is_established, "lastError": p.last_error}
            for p in peers
        ],
        "isSidecarKnown": not isinstance(bgp, Unknown),
        "errors": sorted(errors),
    }


def _condition(kind: str, *, reason: str, message: str, is_true: bool) -> dict[str, str]:
    return {"type": kind, "status": "True" if is_true else "False", "reason": str(reason), "message": message}


def _accepted(problems: Sequence[Problem], *, is_used: bool) -> dict[str, str]:
    reason = problems[0].reason if problems else "Accepted"
    return _condition(ACCEPTED, reason=reason, message="; ".join(map(str, problems)), is_true=is_used)


def _link(link: LinkReport) -> Status:
    return {
        "ifname": link.ifname,
        "lladdr": link.lladdr,
        "subnets": [str(n) for n in link.subnets],
        "onLink": [str(n) for n in link.on_link],
        "defaultFor": sorted(link.default_for),
        "hasCarrier": link.has_carrier,
    }


def _placement(placement: Placement, desired: Desired, ownership: Ownership, bgp: ObservedBgp | Unknown) -> Status:
    reason, message = placement.reason, ""
    proven: tuple[str, ...] = ()
    if reason is None and placement.ifname and placement.address and placement.mode is Mode.LOCAL:
        reason, message = _local_reason(ownership.entries.get((placement.ifname, placement.address)), desired)
    elif reason is None and placement.prefix is not None:
        reason, proven = _virtual_reason(placement.prefix, desired, bgp)
    return {
        "service": placement.service,
        "address": str(placement.address or ""),
        "mode": placement.mode.value if placement.mode else "",
        "link": placement.ifname or "",
        "prefix": str(placement.prefix or ""),
        "peers": list(proven),
        "reason": str(reason or ""),
        "message": message,
    }


def _local_reason(entry: Entry | None, desired: Desired) -> tuple[Reason, str]:
    if entry is None or entry.phase in {Phase.WAITING, Phase.PROBING}:
        return Reason.CLAIMING, ""
    if entry.is_held:
        return Reason.HOLDING, ""
    if entry.holder in desired.node_lladdrs:
        return Reason.HELD_ELSEWHERE, f"by {entry.holder}"
    return Reason.FOREIGN_HOST, f"{entry.holder} answers for it, which no node is known to have"


def _virtual_reason(prefix: IPNetwork, desired: Desired, bgp: ObservedBgp | Unknown) -> tuple[Reason, tuple[str, ...]]:
    """ADVERTISED only when every established peer that should have the route is proven to have it."""
    wanted = {peer: table[prefix] for peer, table in desired.bgp.items() if prefix in table}
    if not wanted:
        return Reason.NO_PEER, ()
    if isinstance(bgp, Unknown):
        return Reason.ROUTE_PENDING, ()
    up = [p for p in bgp.peers if p.peer_address in wanted and p.is_established]
    if not up:
        return Reason.PEER_NOT_ESTABLISHED, ()
    proven = [p for p in up if prefix not in p.pending and prefix in p.routes]
    proven = [p for p in proven if p.routes[prefix].route == wanted[p.peer_address]]
    reason = Reason.ADVERTISED if len(proven) == len(up) else Reason.ROUTE_PENDING
    return reason, tuple(str(p.peer_address) for p in proven)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `announcer status`: `nodes` hold or advertise the address, or `reason` says why none does."""

    service: ServiceKey
    address: str
    mode: str
    nodes: tuple[str, ...]
    via: str
    reason: str


def rows(snapshot: Snapshot, refusals: Mapping[ServiceKey, str]) -> tuple[Row, ...]:
    """Every Service of type LoadBalancer, by name and address; `refusals` say why one has no address."""
    reports: dict[tuple[ServiceKey, str], list[tuple[NodeReport, AddressReport]]] = {}
    for report in snapshot.reports:
        for found in report.addresses:
            reports.setdefault((found.service, found.address), []).append((report, found))
    out: list[Row] = []
    for service in (s for s in snapshot.services if s.is_load_balancer):
        if not service.status_addresses:
            why = refusals.get(service.key) or str(Reason.NO_ADDRESS)
            out.append(Row(service=service.key, address="", mode="", nodes=(), via="", reason=why))
        for address in service.status_addresses:
            out += _address_rows(service, str(address), reports.get((service.key, str(address)), []))
    return tuple(out)


def _address_rows(service: Service, address: str, found: list[tuple[NodeReport, AddressReport]]) -> list[Row]:
    out = []
    for mode in sorted({report.mode for _, report in found} or {""}):
        here = [(node, report) for node, report in found if report.mode == mode]
        done = [(n, r) for n, r in here if r.reason in {Reason.HOLDING, Reason.ADVERTISED}]
        via = sorted({r.link if mode == Mode.LOCAL.value else r.prefix for _, r in done})
        why = sorted({f"{r.reason}{': ' + r.message if r.message else ''} ({n.node})" for n, r in here})
        nodes = tuple(sorted(n.node for n, _ in done))
        reason = "" if done else "; ".join(why) or "no agent has reported on it"
        out.append(Row(service=service.key, address=address, mode=mode, nodes=nodes, via=" ".join(via), reason=reason))
    return out
