"""What ExaBGP is proven to do, peer by peer: events in, `ObservedBgp` out. No I/O; the caller brings the time.

| a peer is | from | its routes are |
|---|---|---|
| down | `show neighbor json`, a session that ended | none |
| unlearned | `show neighbor json` says established, which was so before anybody listened | known in part |
| established | a session that began before our eyes, or the End-of-RIB after a flush | what the send events said |

A change is in flight from when it is asked for until a send event shows it, or until `confirm` seconds after ExaBGP's
answer to its line. One that was never shown makes the peer suspect: ExaBGP may hold for advertised what is not. One
that was refused doesn't; it stays refused until another change of the prefix is asked for, or one is taken or shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Final

from announcer.core.model import (
    UNKNOWN,
    AdvertisedRoute,
    IPAddress,
    IPNetwork,
    ObservedBgp,
    ObservedPeer,
    Route,
    Unknown,
)
from announcer.exabgp.lines import (
    Change,
    EndOfRib,
    NeighborStates,
    Notified,
    RoutesSent,
    SessionDown,
    SessionUp,
    Speaker,
    as_sent,
    family,
)

UNTOLD: Final = "closing connection"
"""ExaBGP's reason where the connection broke."""
CLOSED: Final = "the connection was closed or lost, without a NOTIFICATION"


@dataclass(slots=True, kw_only=True)
class _InFlight:
    """`route` is None for a withdraw."""

    route: Route | None
    until: float = inf


@dataclass(slots=True)
class _Peer:
    is_established: bool = False
    is_learned: bool = True
    is_given_up: bool = False
    awaits_end_of_rib: str = ""
    speaker: Speaker | None = None
    families: frozenset[str] = frozenset()
    routes: dict[IPNetwork, AdvertisedRoute] = field(default_factory=dict)
    in_flight: dict[IPNetwork, _InFlight] = field(default_factory=dict)
    refused: dict[IPNetwork, Route | None] = field(default_factory=dict)
    """Changes, as in flight, that ExaBGP answered with an error."""
    is_suspect: bool = False
    since: datetime | None = None
    is_since_seen: bool = True
    ended_by: str = ""
    """Why the session last ended."""
    notification: str = ""
    """That was heard, of a session that has yet to end."""
    error: str = ""
    """What is wrong with a session that is there."""


class Picture:
    def __init__(self) -> None:
        self._peers: dict[IPAddress, _Peer] = {}
        self._shown: ObservedBgp | None = None

    def observed(self) -> ObservedBgp | Unknown:
        """UNKNOWN while a peer has yet to say everything."""
        if any(not peer.is_learned and not peer.is_given_up for peer in self._peers.values()):
            return UNKNOWN
        if self._shown is None:
            order = sorted(self._peers, key=lambda address: (address.version, int(address)))
            self._shown = ObservedBgp(peers=tuple(_observed(address, self._peers[address]) for address in order))
        return self._shown

    # -- events ----------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        self._peers, self._shown = {}, None

    def states(self, event: NeighborStates, at: datetime) -> None:
        """Peers that ExaBGP doesn't name are gone. An established one that was not so here has yet to be learned."""
        self._shown = None
        named = {state.peer_address: state for state in event.neighbors}
        self._peers = {address: self._peers.get(address, _Peer()) for address in named}
        for address, state in named.items():
            peer = self._peers[address]
            if state.is_established and not peer.is_established:
                since = at - timedelta(seconds=state.up_seconds)
                peer = _Peer(is_established=True, is_learned=False, since=since, ended_by=peer.ended_by)
                peer.is_since_seen = False
            elif not state.is_established and peer.is_established:
                peer = _Peer(since=at, ended_by=peer.notification)
            self._peers[address] = peer
            peer.families = state.families

    def session_changed(self, event: SessionUp | SessionDown, at: datetime) -> bool:
        """Whether there is anything to see of it: ExaBGP says `down` after each attempt to connect, too."""
        address = event.peer_address
        before = self._peers.get(address, _Peer())
        if isinstance(event, SessionUp):
            after = _Peer(is_established=True, since=at, ended_by=before.ended_by)
        else:
            after = _Peer(since=at if before.is_established else before.since, ended_by=_why(before, event.reason))
        is_new, self._shown = address not in self._peers, None
        self._peers[address] = after
        return is_new or _observed(address, before) != _observed(address, after)

    def notified(self, event: Notified) -> None:
        """The session's end follows."""
        if event.peer_address in self._peers:
            self._peers[event.peer_address].notification = event.text

    def sent(self, event: RoutesSent, now: float) -> None:
        peer = self._peers.get(event.peer_address)
        if peer is None:
            return
        self._shown, peer.speaker = None, event.speaker
        for prefix in event.withdrawn:
            peer.routes.pop(prefix, None)
            peer.refused.pop(prefix, None)
            if prefix in peer.in_flight and peer.in_flight[prefix].route is None:
                del peer.in_flight[prefix]
        for route in event.routes:
            _advertised(peer, route, event.speaker, now)
        if not peer.in_flight and not peer.refused and peer.is_established:
            peer.error = ""

    def end_of_rib(self, event: EndOfRib) -> bool:
        """True where that makes the peer learned."""
        peer = self._peers.get(event.peer_address)
        if peer is None or peer.awaits_end_of_rib != event.family:
            return False
        self._shown = None
        peer.awaits_end_of_rib, peer.is_learned, peer.is_given_up, peer.error = "", True, False, ""
        return True

    # -- learning --------------------------------------------------------------------------------------------------

    def unlearned(self) -> tuple[IPAddress, ...]:
        """Peers that have yet to be asked to say everything."""
        return tuple(a for a, peer in self._peers.items() if not peer.is_learned and not peer.awaits_end_of_rib)

    def await_end_of_rib(self, address: IPAddress) -> str:
        """From now on the peer's next End-of-RIB of this family makes it learned. Call it once the flush is answered:
        what ExaBGP sends after that begins with everything it has.
        """
        peer = self._peers[address]
        peer.awaits_end_of_rib = min(peer.families, default="ipv4 unicast")
        return peer.awaits_end_of_rib

    def give_up(self) -> None:
        """Peers that don't say everything in time, as with a connection that is stuck, are shown as not established,
        so that nothing is changed there, until they do or their session begins anew.
        """
        self._shown = None
        for peer in self._peers.values():
            if not peer.is_learned:
                peer.is_given_up, peer.error = True, "established, but its routes are not known yet"

    # -- changes ---------------------------------------------------------------------------------------------------

    def is_established(self, address: IPAddress) -> bool:
        peer = self._peers.get(address)
        return peer is not None and peer.is_established and peer.is_learned

    def not_agreed(self, address: IPAddress, routes: Iterable[Route]) -> frozenset[str]:
        """Families of these routes that the session doesn't carry. None while it isn't known what it carries."""
        families = self._peers[address].families
        return frozenset({family(route.prefix) for route in routes} - families if families else ())

    def adopt(self, address: IPAddress, routes: Iterable[Route]) -> tuple[Route, ...]:
        """Those of the routes that have to be sent: not those in flight, nor those whose like is on the wire already,
        which ExaBGP would not send again.
        """
        peer = self._peers[address]
        return tuple(r for r in routes if r.prefix not in peer.in_flight and not self._is_there(peer, r))

    def _is_there(self, peer: _Peer, route: Route) -> bool:
        there = peer.routes.get(route.prefix)
        if there is None or peer.speaker is None or as_sent(there.route, peer.speaker) != as_sent(route, peer.speaker):
            return False
        self._shown = None
        peer.routes[route.prefix] = AdvertisedRoute(route=route, since=there.since)
        return True

    def idle(self, address: IPAddress, routes: Iterable[Route]) -> tuple[Route, ...]:
        """Those whose prefixes have no change in flight."""
        return tuple(route for route in routes if route.prefix not in self._peers[address].in_flight)

    def begin(self, change: Change) -> None:
        self._shown = None
        peer = self._peers[change.peer_address]
        for route in change.routes:
            asked = None if change.is_withdraw else route
            peer.in_flight[route.prefix] = _InFlight(route=asked)
            if peer.refused.get(route.prefix, asked) != asked:
                del peer.refused[route.prefix]

    def answered(self, change: Change, until: float, error: str) -> None:
        """ExaBGP has read the line: now it has until then to show the change."""
        peer = self._peers.get(change.peer_address)
        if peer is None:
            return
        if error:
            self._shown, peer.error = None, error
        for route in change.routes:
            if (asked := peer.in_flight.get(route.prefix)) is None:
                continue
            asked.until = until
            if error:
                peer.refused[route.prefix] = asked.route
            elif route.prefix in peer.refused:
                self._shown = None
                del peer.refused[route.prefix]

    def expire(self, now: float) -> bool:
        """Changes that were not shown in time are not in flight any more. True if there were any."""
        late = False
        for peer in self._peers.values():
            missed = [prefix for prefix, change in peer.in_flight.items() if change.until <= now]
            for prefix in missed:
                del peer.in_flight[prefix]
                late = True
            if unseen := [prefix for prefix in missed if prefix not in peer.refused]:
                peer.is_suspect = True
                peer.error = f"{len(unseen)} changes were not seen on the wire, {unseen[0]} among them"
        if late:
            self._shown = None
        return late

    def is_waiting(self) -> bool:
        return any(peer.in_flight for peer in self._peers.values())

    def suspects(self) -> tuple[IPAddress, ...]:
        return tuple(a for a, peer in self._peers.items() if peer.is_suspect and peer.is_established)

    def trust(self, address: IPAddress) -> None:
        if address in self._peers:
            self._peers[address].is_suspect = False


def _advertised(peer: _Peer, route: Route, speaker: Speaker, now: float) -> None:
    """The route as it was asked for, where it was, as not all of that can be seen on the wire."""
    asked = peer.in_flight.get(route.prefix)
    there = peer.routes.get(route.prefix)
    if asked is not None and asked.route is not None and as_sent(asked.route, speaker) == route:
        route = asked.route
        del peer.in_flight[route.prefix]
        peer.refused.pop(route.prefix, None)
    elif there is not None and as_sent(there.route, speaker) == route:
        route = there.route
    if there is None or there.route != route:
        peer.routes[route.prefix] = AdvertisedRoute(route=route, since=now)


def _why(peer: _Peer, reason: str) -> str:
    """The NOTIFICATION, where there was one. Attempts that end like UNTOLD don't hide what ended the session."""
    if peer.notification:
        return peer.notification
    if reason != UNTOLD:
        return reason
    return CLOSED if peer.is_established else peer.ended_by


def _observed(address: IPAddress, peer: _Peer) -> ObservedPeer:
    return ObservedPeer(
        peer_address=address,
        is_established=peer.is_established and peer.is_learned,
        is_learned=peer.is_learned,
        routes=dict(peer.routes),
        pending=frozenset(peer.in_flight),
        refused=frozenset(peer.refused),
        families=frozenset(version for version in (4, 6) if f"ipv{version} unicast" in peer.families),
        since=peer.since,
        is_since_seen=peer.is_since_seen,
        last_error=peer.error or peer.ended_by,
    )
