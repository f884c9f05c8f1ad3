"""NodeAnnouncement.status.sessions: each session's state, since when, what went wrong, and where its routes are.

| routes are | when |
|---|---|
| refused | the session doesn't carry their family, or ExaBGP doesn't take them |
| pending | wanted and not proven, or not wanted and not gone |
| proven | wanted, and seen on their way to the peer as wanted |

What is told lasts: an agent that starts goes on from what its report says, and while the sidecar is silent the report
says what was known last. A change is told once, as an Event of the peer's object.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from announcer.core.desired import Desired
from announcer.core.model import (
    IPAddress,
    IPNetwork,
    ObjectRef,
    ObservedBgp,
    ObservedPeer,
    Peer,
    Route,
    SessionReport,
    Unknown,
)
from announcer.core.report.notes import Note

SLACK: Final = timedelta(seconds=30)
"""Of what ExaBGP tells afterwards, in whole seconds and when it gets to it: what differs by no more is the same."""


def recall(
    history: Sequence[SessionReport], wanted: Desired, bgp: ObservedBgp | Unknown, now: datetime
) -> tuple[SessionReport, ...]:
    """Of every peer that this node should have, or has; sorted by address. `now` begins what nobody has seen begin.

    Where neither what there should be nor what there is can be said, of those of the history.
    """
    before = {one.peer_address: one for one in history}
    names = {peer.peer_address: peer.name for peer in (*wanted.peers, *wanted.unready)}
    known = isinstance(bgp, ObservedBgp)
    seen = {peer.peer_address: peer for peer in bgp.peers} if isinstance(bgp, ObservedBgp) else {}
    found = []
    told = wanted.bgp.keys() | wanted.keep_peers | seen.keys()
    if not known and not wanted.are_peers_known:
        told |= before.keys()
    for address in sorted(told, key=lambda a: (a.version, int(a))):
        then = before.get(address, SessionReport(peer_address=address))
        if known:
            peer = seen.get(address, ObservedPeer(peer_address=address, is_established=False))
            then = _now(then, peer, wanted.bgp.get(address, {}), now)
        found.append(replace(then, peer=names.get(address, then.peer), is_known=known))
    return tuple(found)


def unknown(history: Sequence[SessionReport]) -> tuple[SessionReport, ...]:
    return tuple(replace(one, is_known=False) for one in history)


def is_proven(peer: ObservedPeer, route: Route) -> bool:
    """Whether the peer was seen to get the route as it is wanted, and nothing is on its way that changes it."""
    there = peer.routes.get(route.prefix)
    return there is not None and there.route == route and route.prefix not in peer.pending


def is_refused(peer: ObservedPeer, route: Route) -> bool:
    """A refused change of a route that is there as it is wanted doesn't count."""
    is_taken = route.prefix not in peer.refused and peer.carries(route.prefix)
    return peer.is_established and not is_taken and not is_proven(peer, route)


def sessions_status(sessions: Sequence[SessionReport]) -> list[dict[str, object]]:
    return [
        {
            "peerAddress": str(one.peer_address),
            "peer": one.peer,
            "state": one.state,
            "established": one.is_established,
            **({"since": one.since} if one.since else {}),
            "lastError": one.last_error,
            "bfd": one.bfd,
            "routes": {"proven": one.proven, "pending": one.pending, "refused": one.refused},
        }
        for one in sessions
    ]


def ended(before: Sequence[SessionReport], now: Sequence[SessionReport]) -> tuple[IPAddress, ...]:
    """Peers whose session was established and has ended since, also where it is up again."""
    then = {one.peer_address: one.since for one in before if one.is_established}
    return tuple(
        one.peer_address
        for one in now
        if one.peer_address in then and not (one.is_established and one.since == then[one.peer_address])
    )


def session_notes(
    node: str, before: Mapping[str, Any], now: Mapping[str, Any], peers: Sequence[Peer]
) -> Iterator[Note]:
    """What became of sessions between two statuses of a node. A peer that is gone was somebody's wish."""
    refs = {(str(peer.peer_address), peer.name): peer.ref for peer in peers}
    old = {str(one.get("peerAddress")): one for one in before.get("sessions") or ()}
    for one in now.get("sessions") or ():
        address, name = str(one["peerAddress"]), str(one["peer"])
        then = old.get(address, {})
        was, is_up = bool(then.get("established")), bool(one["established"])
        if (was, str(then.get("since") or "")) == (is_up, str(one.get("since") or "")) or not (was or is_up):
            continue
        ref = refs.get((address, name), ObjectRef(kind="Node", name=node))
        about = f"Node {node}: the session with {address}"
        if was:
            why = f": {one['lastError']}" if one["lastError"] else ""
            yield Note(ref=ref, reason="BGPSessionDown", message=f"{about} has ended{why}", is_warning=True)
        if is_up:
            yield Note(ref=ref, reason="BGPSessionUp", message=f"{about} is established")


def _now(then: SessionReport, peer: ObservedPeer, table: Mapping[IPNetwork, Route], now: datetime) -> SessionReport:
    refused = {prefix for prefix, route in table.items() if is_refused(peer, route)}
    proven = {prefix for prefix, route in table.items() if peer.is_established and is_proven(peer, route)}
    under_way = (table.keys() | peer.routes.keys() | peer.pending) - refused - proven
    return SessionReport(
        peer_address=then.peer_address,
        peer=then.peer,
        is_established=peer.is_established,
        since=_since(then, peer, now),
        last_error=peer.last_error or then.last_error,
        proven=len(proven),
        pending=len(under_way),
        refused=len(refused),
    )


def _since(then: SessionReport, peer: ObservedPeer, now: datetime) -> str:
    """What the report says already, while nothing has changed: nobody's clock may make a change."""
    since = peer.since or now
    if then.since and then.is_established == peer.is_established:
        is_about = abs(since - datetime.fromisoformat(then.since)) <= SLACK
        if peer.since is None or (is_about and not peer.is_since_seen):
            return then.since
    return since.isoformat(timespec="seconds").replace("+00:00", "Z")
