"""The API of ExaBGP 5: routes → command lines, and lines of ExaBGP and its bridge → values. No pipe, no state.

One command carries many prefixes with the same attributes (`announce attributes ... nlri P1 P2 ...`): twice as fast as
one line per route. A withdraw carries the attributes of the advertisement: without them it can be overtaken by it in
ExaBGP's queue, and the route stays on the router. `next-hop self` is the session's own address, so it serves only
prefixes of the session's family; over an IPv4 session an IPv6 prefix needs `Route.next_hop`.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

from announcer.core.model import IPAddress, IPNetwork, LinkBandwidth, Route
from announcer.exabgp import notification
from announcer.exabgp.text import ExabgpError, word

PREFIXES_PER_LINE: Final = 49
"""What ExaBGP 5.0 takes in at one go (reactor/asynchronous.py: 50 steps); with more it naps before the rest."""
DEFAULT_LOCAL_PREF: Final = 100  # what ExaBGP gives an iBGP peer where nothing else is said
TRANSITIVE, NON_TRANSITIVE, LINK_BANDWIDTH = 0x00, 0x40, 0x04  # RFC 4360 §2, draft-ietf-idr-link-bandwidth
ESTABLISHED: Final = "ESTABLISHED"
BFD_DOWN: Final = 10  # RFC 9384 §2

ASK_NEIGHBORS: Final = "show neighbor json"
ASK_CONFIGURATION: Final = "show neighbor configuration"
RELOAD: Final = "bridge reload"

_COMMUNITY = re.compile(r"\d{1,5}:\d{1,5}")
_LARGE_COMMUNITY = re.compile(r"large:(\d{1,10}:\d{1,10}:\d{1,10})")
_DESCRIPTION = re.compile(r'\s*description "([^"]*)";')


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A command line for routes of equal attributes to one peer."""

    peer_address: IPAddress
    routes: tuple[Route, ...]
    is_withdraw: bool
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Which ExaBGP and which bridge this is; `started` is the bridge's start in Unix seconds."""

    exabgp_pid: int
    bridge_pid: int
    started: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadAsked:
    """The bridge has sent the signal. Whether ExaBGP acts on it is another matter (see config)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """ExaBGP would not take the configuration of that `description`, and goes on with the one that it has.

    The description is empty where the bridge could not read the file.
    """

    description: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp:
    peer_address: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDown:
    peer_address: IPAddress
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """A NOTIFICATION of one side, which ends the session (RFC 4271 §6), in words."""

    peer_address: IPAddress
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Our end of a session: what `next-hop self` becomes on it, and whether LOCAL_PREF is sent at all."""

    own_next_hops: frozenset[IPAddress]
    is_ibgp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesSent:
    """What one UPDATE on its way to the peer says (RFC 4271 §4.3); `routes` are `as_sent`."""

    peer_address: IPAddress
    speaker: Speaker
    routes: tuple[Route, ...] = ()
    withdrawn: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfRib:
    """RFC 4724 §2. Sent by ExaBGP after its first routes on a session, and where we ask for it."""

    peer_address: IPAddress
    family: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborState:
    """A peer in `show neighbor json`. `families` are those that both ends agreed to, empty while not established, and
    `up_seconds` is for how long it has been.
    """

    peer_address: IPAddress
    is_established: bool
    up_seconds: int = 0
    families: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborStates:
    neighbors: tuple[NeighborState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The description of one peer in the configuration that ExaBGP runs."""

    description: str


Event = (
    Hello
    | ReloadAsked
    | Rejected
    | Refused
    | Answer
    | SessionUp
    | SessionDown
    | Notified
    | RoutesSent
    | EndOfRib
    | NeighborStates
    | Described
)


def family(prefix: IPNetwork) -> str:
    return f"ipv{prefix.version} unicast"


def advertise(peer_address: IPAddress, routes: Iterable[Route]) -> tuple[Change, ...]:
    """Sorted by attributes, then prefix; a prefix given twice is an error of the caller."""
    return tuple(_changes(peer_address, routes, is_withdraw=False))


def withdraw(peer_address: IPAddress, routes: Iterable[Route]) -> tuple[Change, ...]:
    return tuple(_changes(peer_address, routes, is_withdraw=True))


def flush(peer_address: IPAddress) -> str:
    """Makes ExaBGP send everything again that it has for an established peer."""
    return f"neighbor {word(peer_address)} flush adj-rib out"


def end_of_rib(peer_address: IPAddress, wanted: str) -> str:
    if wanted not in {"ipv4 unicast", "ipv6 unicast"}:
        raise ExabgpError(f"not a family of ours: {wanted!r}")
    return f"neighbor {word(peer_address)} announce eor {wanted}"


def tear_down(peer_address: IPAddress) -> str:
    """Ends an established session: Cease, BFD Down (RFC 9384)."""
    return f"neighbor {word(peer_address)} teardown {BFD_DOWN}"


def as_sent(route: Route, speaker: Speaker) -> Route:
    """The route as a send event can show it, so that the two compare: its own next hop is none, LOCAL_PREF is for iBGP
    only (RFC 4271 §5.1.5) and none where it is the default.
    """
    is_default = not speaker.is_ibgp or route.local_pref == DEFAULT_LOCAL_PREF
    local_pref = None if is_default else route.local_pref
    next_hop = None if route.next_hop in speaker.own_next_hops else route.next_hop
    if (local_pref, next_hop) == (route.local_pref, route.next_hop):
        return route
    return replace(route, local_pref=local_pref, next_hop=next_hop)


def parse(line: str) -> Event | None:
    """None for what isn't ours to understand, or is broken."""
    if line in {"done", "error"}:
        return Answer(is_done=line == "done")
    if found := _DESCRIPTION.fullmatch(line):
        return Described(description=found[1])
    try:
        return _event(json.loads(line)) if line[:1] in {"{", "["} else None
    except (ArithmeticError, ValueError, TypeError, KeyError, AttributeError):  # no JSON, another shape or number
        return None


def _changes(peer_address: IPAddress, routes: Iterable[Route], *, is_withdraw: bool) -> Iterator[Change]:
    groups: dict[str, list[Route]] = {}
    for route in routes:
        groups.setdefault(_attributes(route), []).append(route)
    start = f"neighbor {word(peer_address)} {'withdraw' if is_withdraw else 'announce'} attributes"
    for attributes, group in sorted(groups.items()):
        group.sort(key=lambda r: (r.prefix.version, int(r.prefix.network_address), r.prefix.prefixlen))
        for i in range(0, len(group), PREFIXES_PER_LINE):
            part = tuple(group[i : i + PREFIXES_PER_LINE])
            line = f"{start} {attributes} nlri {' '.join(word(route.prefix) for route in part)}"
            yield Change(peer_address=peer_address, routes=part, is_withdraw=is_withdraw, line=line)


def _attributes(route: Route) -> str:
    """ORIGIN is always IGP: paths with other origins don't merge for ECMP (RFC 4271 §9.1.2.2 b)."""
    texts = sorted(route.communities)
    plain = [text for text in texts if _COMMUNITY.fullmatch(text)]
    large = [found[1] for text in texts if (found := _LARGE_COMMUNITY.fullmatch(text))]
    if len(plain) + len(large) != len(texts):
        raise ExabgpError(f"not communities of the forms a:b and large:a:b:c: {texts}")
    parts = [f"next-hop {word(route.next_hop or 'self')} origin igp"]
    parts += [f"local-preference {word(route.local_pref)}"] if route.local_pref is not None else []
    parts += [f"community [{' '.join(map(word, plain))}]"] if plain else []
    parts += [f"large-community [{' '.join(map(word, large))}]"] if large else []
    parts += [f"extended-community [{_packed(route.link_bandwidth)}]"] if route.link_bandwidth else []
    return " ".join(parts)


def _packed(bandwidth: LinkBandwidth) -> str:
    """In bytes: ExaBGP's own word for it has no transitive form. The number is a float of 32 bits."""
    kind = TRANSITIVE if bandwidth.is_transitive else NON_TRANSITIVE
    return f"0x{struct.pack('!BBHf', kind, LINK_BANDWIDTH, bandwidth.asn, bandwidth.bytes_per_second).hex().upper()}"


def _link_bandwidth(values: Iterable[int]) -> LinkBandwidth | None:
    for value in values:
        kind, subtype, asn, speed = struct.unpack("!BBHf", value.to_bytes(8, "big"))
        if subtype == LINK_BANDWIDTH and kind in {TRANSITIVE, NON_TRANSITIVE}:
            return LinkBandwidth(asn=asn, bytes_per_second=round(speed), is_transitive=kind == TRANSITIVE)
    return None


def _event(loaded: Any) -> Event | None:
    match loaded:
        case {"bridge": "hello", "exabgp_pid": int(exabgp), "bridge_pid": int(bridge), "started": float(started)}:
            return Hello(exabgp_pid=exabgp, bridge_pid=bridge, started=started)
        case {"bridge": "reload"}:
            return ReloadAsked()
        case {"bridge": "rejected", "description": str(description), "error": str(error)}:
            return Rejected(description=description, error=error)
        case {"bridge": "refused", "line": str(line)}:
            return Refused(line=line)
        case {"type": "state", "neighbor": {"address": {"peer": str(peer)}, "state": "up"}}:
            return SessionUp(peer_address=ip_address(peer))
        case {"type": "state", "neighbor": {"address": {"peer": str(peer)}, "state": "down", "reason": str(reason)}}:
            return SessionDown(peer_address=ip_address(peer), reason=reason)
        case {"type": "notification", "neighbor": ended}:
            return _notified(ended)
        case {"type": "update", "neighbor": {"direction": "send"} as neighbor}:
            return _sent(neighbor)
        case [*neighbors]:
            return NeighborStates(neighbors=tuple(filter(None, map(_state, neighbors))))
        case _:
            return None


def _state(neighbor: Any) -> NeighborState | None:
    """`fsm` is the truth: `state` lags behind, and `duration` of a session that is down is of something else."""
    match neighbor:
        case {"fsm": str(fsm), "peer": {"address": str(peer)}, "families": [*families]} if fsm == ESTABLISHED:
            up = neighbor.get("duration")
            return NeighborState(
                peer_address=ip_address(peer),
                is_established=True,
                up_seconds=up if isinstance(up, int) else 0,
                families=frozenset(str(f) for f in families),
            )
        case {"fsm": str(), "peer": {"address": str(peer)}}:
            return NeighborState(peer_address=ip_address(peer), is_established=False)
        case _:
            return None


def _notified(neighbor: Any) -> Event | None:
    """ExaBGP shows those that it sends parsed, those that it receives as the message's body."""
    match neighbor:
        case {
            "address": {"peer": str(peer)},
            "direction": "send",
            "notification": {"code": int(code), "subcode": int(subcode), "data": str(data)},
        }:
            body, is_sent = bytes([code, subcode]) + bytes.fromhex(data.removeprefix("0x")), True
        case {"address": {"peer": str(peer)}, "direction": "receive", "message": {"body": str(text)}}:
            body, is_sent = bytes.fromhex(text.removeprefix("0x")), False
        case _:
            return None
    return Notified(peer_address=ip_address(peer), text=notification.text_of(body, is_sent=is_sent))


def _sent(neighbor: Any) -> Event | None:
    match neighbor:
        case {"address": {"peer": str(peer)}, "message": {"eor": {"afi": str(afi), "safi": str(safi)}}}:
            return EndOfRib(peer_address=ip_address(peer), family=f"{afi} {safi}")
        case {
            "address": {"local": str(local), "peer": str(peer)},
            "asn": {"local": int(my_asn), "peer": int(peer_asn)},
            "message": {"update": {**update}},
        }:
            own = {ip_address(local)}
            if isinstance(ip_address(local), IPv6Address) and "router-id" in neighbor:
                own.add(ip_address(neighbor["router-id"]))  # what `next-hop self` is for IPv4 over IPv6
            speaker = Speaker(own_next_hops=frozenset(own), is_ibgp=my_asn == peer_asn)
            return RoutesSent(
                peer_address=ip_address(peer),
                speaker=speaker,
                routes=tuple(_routes(update, speaker)),
                withdrawn=tuple(_prefixes(update.get("withdraw", {}))),
            )
        case _:
            return None


def _routes(update: Any, speaker: Speaker) -> Iterator[Route]:
    attributes = update.get("attribute", {})
    local_pref = attributes.get("local-preference")
    plain = {f"{a}:{b}" for a, b in attributes.get("community", [])}
    large = {f"large:{a}:{b}:{c}" for a, b, c in attributes.get("large-community", [])}
    communities = frozenset(plain | large)
    bandwidth = _link_bandwidth(one["value"] for one in attributes.get("extended-community", []))
    for by_next_hop in update.get("announce", {}).values():
        for next_hop, nlris in by_next_hop.items():
            for prefix in _prefixes({"": nlris}):
                route = Route(
                    prefix=prefix,
                    next_hop=ip_address(next_hop),
                    local_pref=local_pref,
                    communities=communities,
                    link_bandwidth=bandwidth,
                )
                yield as_sent(route, speaker)


def _prefixes(by_family: Any) -> Iterator[IPNetwork]:
    """ExaBGP writes prefixes as strings where `api.compact` is set, else as objects."""
    for nlris in by_family.values():
        for nlri in nlris:
            yield ip_network(nlri if isinstance(nlri, str) else nlri["nlri"])
