"""What `announcer status` shows: one row per Service and address, from everybody's reports."""

from collections.abc import Mapping
from dataclasses import dataclass

from announcer.core.desired import Mode
from announcer.core.model import AddressReport, NodeReport, Reason, Service, ServiceKey, Snapshot


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
