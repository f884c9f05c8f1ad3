"""What `announcer status` shows: one row per Service and address, from everybody's reports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from announcer.core.desired import Mode
from announcer.core.model import AddressReport, NodeReport, Reason, Service, ServiceKey, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class LastMove:
    """How an address came to be where it is, by the report of a node that it came to or left."""

    time: str
    link: str
    old: str
    new: str
    reason: str
    silent_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `announcer status`: `nodes` hold or advertise the address, or `reason` says why none does.

    `last_move` is that of a local address, as far as reports go back.
    """

    service: ServiceKey
    address: str
    mode: str
    nodes: tuple[str, ...]
    via: str
    reason: str
    last_move: LastMove | None = None


def rows(snapshot: Snapshot, refusals: Mapping[ServiceKey, str]) -> tuple[Row, ...]:
    """Every Service of type LoadBalancer, by name and address; `refusals` say why one has no address."""
    reports: dict[tuple[ServiceKey, str], list[tuple[NodeReport, AddressReport]]] = {}
    for report in snapshot.reports:
        for found in report.addresses:
            reports.setdefault((found.service, found.address), []).append((report, found))
    moves = _moves(snapshot)
    out: list[Row] = []
    for service in (s for s in snapshot.services if s.is_load_balancer):
        if not service.status_addresses:
            why = refusals.get(service.key) or str(Reason.NO_ADDRESS)
            out.append(Row(service=service.key, address="", mode="", nodes=(), via="", reason=why))
        for address in service.status_addresses:
            found_here = reports.get((service.key, str(address)), [])
            out += _address_rows(service, str(address), found_here, moves.get(f"{service.key} {address}", ()))
    return tuple(out)


def _moves(snapshot: Snapshot) -> Mapping[str, list[LastMove]]:
    """`namespace/name address` → its moves as each node tells them, oldest first for each."""
    found: dict[str, list[LastMove]] = {}
    for one in (one for report in snapshot.reports for one in report.moves):
        told = LastMove(
            time=one.time,
            link=one.link,
            old=one.old,
            new=one.new,
            reason=one.reason,
            silent_seconds=one.silent_seconds,
        )
        for who in one.services:
            found.setdefault(who, []).append(told)
    return found


def _last(moves: Iterable[LastMove], nodes: Sequence[str]) -> LastMove | None:
    """That which brought it to who holds it now, as clocks of nodes may differ; else the newest."""
    last = None
    for one in moves:
        rank = (one.new in nodes, one.time, bool(one.new))
        if last is None or rank >= (last.new in nodes, last.time, bool(last.new)):
            last = one
    return last


def _address_rows(
    service: Service, address: str, found: list[tuple[NodeReport, AddressReport]], moves: Sequence[LastMove]
) -> list[Row]:
    out = []
    for mode in sorted({report.mode for _, report in found} or {""}):
        here = [(node, report) for node, report in found if report.mode == mode]
        done = [(n, r) for n, r in here if r.reason in {Reason.HOLDING, Reason.ADVERTISED}]
        via = sorted({r.link if mode == Mode.LOCAL.value else r.prefix for _, r in done})
        why = sorted({f"{r.reason}{': ' + r.message if r.message else ''} ({n.node})" for n, r in here})
        nodes = tuple(sorted(n.node for n, _ in done))
        reason = "" if done else "; ".join(why) or "no agent has reported on it"
        out.append(
            Row(
                service=service.key,
                address=address,
                mode=mode,
                nodes=nodes,
                via=" ".join(via),
                reason=reason,
                last_move=_last(moves, nodes) if mode == Mode.LOCAL.value else None,
            )
        )
    return out
