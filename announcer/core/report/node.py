"""NodeAnnouncement.status: what a node says of itself, for people and for other nodes.

Addresses that fare alike stand together, `services` naming each as `namespace/name address`: a node with ten thousand
of them still fits into an object of the API server (1.5 MB).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from announcer.core.desired import Desired, Mode, Placement
from announcer.core.model import (
    IPNetwork,
    LinkReport,
    MoveReport,
    ObservedBgp,
    ObservedPeer,
    Reason,
    SessionReport,
    Unknown,
)
from announcer.core.own import Entry, Ownership, Phase
from announcer.core.report.changes import DONE
from announcer.core.report.moves import moves_status
from announcer.core.report.sessions import is_proven, is_refused, sessions_status

Status = dict[str, object]
HOST = "host"
"""For `prefix`: each address has a route of its own."""
SERVICES_MOST_BYTES = 1_000_000
"""Of all `services` together: etcd takes no request over 1.5 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What reports keep from one to the next: moves, the oldest first, and sessions as they were known last."""

    moves: tuple[MoveReport, ...] = ()
    sessions: tuple[SessionReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fate:
    """What becomes of an address on this node."""

    mode: str
    link: str
    prefix: str
    peers: tuple[str, ...]
    reason: str
    message: str


def node_status(
    links: Iterable[LinkReport],
    desired: Desired,
    ownership: Ownership,
    bgp: ObservedBgp | Unknown,
    errors: Sequence[str] = (),
    past: Past = Past(),
) -> Status:
    """The node's links, what it does about each address, what failed, sorted; its sessions, and what moved."""
    together, left_out = _together(_placement(p, desired, ownership, bgp) for p in desired.placements)
    if left_out:
        errors = [*errors, f"this report would be too large: {left_out} addresses are left out"]
    return {
        "links": [link_status(link) for link in links],
        "addresses": together,
        "sessions": sessions_status(past.sessions),
        "isSidecarKnown": not isinstance(bgp, Unknown),
        "isDrained": _is_drained(desired, ownership, bgp),
        "errors": sorted(errors),
        "moves": moves_status(past.moves),
    }


def _is_drained(desired: Desired, ownership: Ownership, bgp: ObservedBgp | Unknown) -> bool:
    """Whether a node out of service has given up all that draws traffic to it."""
    if desired.is_in_service or any(entry.is_held for entry in ownership.entries.values()):
        return False
    if isinstance(bgp, Unknown):
        return not desired.bgp and not desired.keep_peers and desired.are_peers_known
    return not any(peer.routes or peer.pending or not peer.is_learned for peer in bgp.peers)


def link_status(link: LinkReport) -> Status:
    return {
        "ifname": link.ifname,
        "lladdr": link.lladdr,
        "subnets": [str(n) for n in link.subnets],
        "onLink": [str(n) for n in link.on_link],
        "defaultFor": sorted(link.default_for),
        "hasCarrier": link.has_carrier,
        "addresses": [str(a) for a in link.addresses],
    }


def _together(found: Iterable[tuple[Fate, str]]) -> tuple[list[Status], int]:
    """Addresses in groups, and how many found no room: of those that are announced, the last ones."""
    groups: dict[Fate, list[str]] = {}
    for fate, who in found:
        groups.setdefault(fate, []).append(who)
    room, left_out = SERVICES_MOST_BYTES, 0
    for fate in sorted(groups, key=lambda f: (f.reason in DONE, f)):
        fitting = []
        for who in sorted(groups[fate]):
            room -= len(who) + 3  # quotes and a comma
            if room >= 0:
                fitting.append(who)
        left_out += len(groups[fate]) - len(fitting)
        groups[fate] = fitting
    return _grouped({fate: who for fate, who in groups.items() if who}), left_out


def _grouped(groups: Mapping[Fate, list[str]]) -> list[Status]:
    return [
        {
            "mode": fate.mode,
            "link": fate.link,
            "prefix": fate.prefix,
            "peers": list(fate.peers),
            "reason": fate.reason,
            "message": fate.message,
            "services": groups[fate],
        }
        for fate in sorted(groups)
    ]


def _placement(
    placement: Placement, desired: Desired, ownership: Ownership, bgp: ObservedBgp | Unknown
) -> tuple[Fate, str]:
    reason, message, prefix = placement.reason, "", placement.prefix
    proven: tuple[str, ...] = ()
    if reason is None and placement.ifname and placement.address and placement.mode is Mode.LOCAL:
        reason, message = _local_reason(ownership.entries.get((placement.ifname, placement.address)), desired)
    elif reason is None and prefix is not None:
        reason, message, proven = _virtual_reason(prefix, desired, bgp)
    is_host = prefix is not None and prefix.prefixlen == prefix.max_prefixlen
    fate = Fate(
        mode=placement.mode.value if placement.mode else "",
        link=placement.ifname or "",
        prefix=HOST if is_host else str(prefix or ""),
        peers=proven,
        reason=str(reason or ""),
        message=message,
    )
    return fate, f"{placement.service} {placement.address or ''}".strip()


def _local_reason(entry: Entry | None, desired: Desired) -> tuple[Reason, str]:
    if entry is None or entry.phase in {Phase.WAITING, Phase.PROBING, Phase.SUCCEEDING, Phase.DARK}:
        return Reason.CLAIMING, ""
    if entry.is_held:
        return Reason.HOLDING, ""
    if entry.holder in desired.node_lladdrs:
        return Reason.HELD_ELSEWHERE, f"by {entry.holder}"
    return Reason.FOREIGN_HOST, f"{entry.holder} answers for it, which no node is known to have"


def _virtual_reason(
    prefix: IPNetwork, desired: Desired, bgp: ObservedBgp | Unknown
) -> tuple[Reason, str, tuple[str, ...]]:
    """ADVERTISED only when every established peer that should have the route is proven to have it; beside the reason
    who refuses it, and who is proven to have it.
    """
    wanted = {peer: table[prefix] for peer, table in desired.bgp.items() if prefix in table}
    if not wanted:
        return Reason.NO_PEER, "", ()
    if isinstance(bgp, Unknown):
        return Reason.ROUTE_PENDING, "", ()
    up = [p for p in bgp.peers if p.peer_address in wanted and p.is_established]
    if not up:
        return Reason.PEER_NOT_ESTABLISHED, "", ()
    proven = tuple(str(p.peer_address) for p in up if is_proven(p, wanted[p.peer_address]))
    refusing = [_refusal(p, prefix) for p in up if is_refused(p, wanted[p.peer_address])]
    if len(proven) + len(refusing) < len(up):
        return Reason.ROUTE_PENDING, "", proven
    return Reason.ROUTE_REFUSED if refusing else Reason.ADVERTISED, "; ".join(refusing), proven


def _refusal(peer: ObservedPeer, prefix: IPNetwork) -> str:
    if peer.carries(prefix):
        return f"ExaBGP doesn't take it for {peer.peer_address}: {peer.last_error}"
    return f"{peer.peer_address} has not agreed to take IPv{prefix.version} routes"
