"""NodeAnnouncement.status: what a node says of itself, for people and for other nodes.

Addresses that fare alike stand together, `services` naming each as `namespace/name address`: a node with ten thousand
of them still fits into an object of the API server (1.5 MB).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from announcer.core.desired import Desired, Mode, Placement
from announcer.core.model import (
    Homes,
    IPNetwork,
    LinkReport,
    NodeName,
    ObjectRef,
    ObservedBgp,
    Pool,
    Reason,
    Unknown,
)
from announcer.core.own import Entry, Ownership, Phase
from announcer.core.report.notes import Note, Tell

Status = dict[str, object]
HOST = "host"
"""For `prefix`: each address has a route of its own."""
SERVICES_MOST_BYTES = 1_000_000
"""Of all `services` together: etcd takes no request over 1.5 MB."""
NOTES_MOST = 20
"""Of one change; the rest is summed up."""
DONE = frozenset({Reason.HOLDING, Reason.ADVERTISED})
PENDING = frozenset({Reason.CLAIMING, Reason.ROUTE_PENDING, Reason.PEER_NOT_ESTABLISHED})


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
) -> Status:
    """The node's links, what it does about each address, its sessions, what failed; sorted throughout."""
    peers = () if isinstance(bgp, Unknown) else bgp.peers
    together, left_out = _together(_placement(p, desired, ownership, bgp) for p in desired.placements)
    if left_out:
        errors = [*errors, f"this report would be too large: {left_out} addresses are left out"]
    return {
        "links": [link_status(link) for link in links],
        "addresses": together,
        "sessions": [
            {"peerAddress": str(p.peer_address), "established": p.is_established, "lastError": p.last_error}
            for p in peers
        ],
        "isSidecarKnown": not isinstance(bgp, Unknown),
        "errors": sorted(errors),
    }


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


def node_tell(node: NodeName, status: Status, pools: Sequence[Pool]) -> Tell:
    """What becomes of addresses here now, and didn't before."""

    def tell(before: Mapping[str, Any]) -> list[Note]:
        homes = Homes(pools)
        old, new = dict(_fates(before)), dict(_fates(status))
        changes = [
            note
            for who in sorted(old.keys() | new.keys())
            if old.get(who) != new.get(who) and (note := _change(node, who, old.get(who), new.get(who), homes))
        ]
        if len(changes) > NOTES_MOST:
            rest = f"{len(changes) - NOTES_MOST} more addresses; NodeAnnouncement {node} has them all"
            ref = ObjectRef(kind="Node", name=node)
            changes = [*changes[:NOTES_MOST], Note(ref=ref, reason="AnnouncementsChanged", message=rest)]
        return changes

    return tell


def _fates(status: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """`namespace/name address` → reason, mode, link, message."""
    for group in status.get("addresses") or ():
        reason, mode, link, message = (str(group.get(name) or "") for name in ("reason", "mode", "link", "message"))
        for who in group.get("services") or ():
            yield who, (reason, mode, link, message)


def _change(
    node: NodeName,
    who: str,
    old: tuple[str, str, str, str] | None,
    new: tuple[str, str, str, str] | None,
    homes: Homes,
) -> Note | None:
    service, _, address = who.partition(" ")
    namespace, _, name = service.partition("/")
    ref = ObjectRef(kind="Service", namespace=namespace, name=name)
    was, reason = old[0] if old else "", new[0] if new else ""
    is_metallb = bool(address) and _is_metallb(address, homes)
    if new and reason in DONE:
        return _begun(ref, node, address, new, is_metallb=is_metallb)
    if new and reason == Reason.FOREIGN_HOST:
        failed = "announceFailed" if is_metallb else "AnnouncementFailed"
        return Note(ref=ref, reason=failed, message=f"Node {node}: {address}: {new[3]}", is_warning=True)
    if was in DONE and reason not in PENDING:
        why = f": {reason}" if reason else ""
        return Note(ref=ref, reason="Withdrawn", message=f"Node {node} doesn't announce {address} any more{why}")
    return None


def _begun(ref: ObjectRef, node: NodeName, address: str, fate: tuple[str, str, str, str], *, is_metallb: bool) -> Note:
    _, mode, link, _ = fate
    is_local = mode == Mode.LOCAL.value
    if is_metallb:  # in MetalLB's own words, which tools look for
        protocol = "layer2" if is_local else "bgp"
        return Note(ref=ref, reason="nodeAssigned", message=f'announcing from node "{node}" with protocol "{protocol}"')
    text = f"Node {node} announcing {address} on interface {link}"
    return Note(ref=ref, reason="AnnouncingLocal" if is_local else "AnnouncingNonLocal", message=text)


def _is_metallb(address: str, homes: Homes) -> bool:
    home = homes.of(ip_address(address))
    return home is not None and home[0].ref.kind == "IPAddressPool"


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
        reason, proven = _virtual_reason(prefix, desired, bgp)
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
