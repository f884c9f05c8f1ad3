"""From desired and observed to ordered Actions: make ready, then attract; stop attracting, then take down.

| step | what |
|---|---|
| 0 | the port guard, so that no address is there without it, and none attracts what it would drop |
| 1 | the virtual link, devconf (before any address, or every node would answer ARP for it) |
| 2 | addresses on the virtual link, routes; the ends of aggregates that are on the wire, wanted or not |
| 3 | BFD sessions, peers (but those whose path is known to be broken: `detection`), routes advertised |
| 4 | routes that nobody wants: re-advertised with GRACEFUL_SHUTDOWN (RFC 8326), after `drain` seconds withdrawn |
| 5 | addresses that nobody wants and no route draws in: left to the kernel, which removes them after `linger` seconds |
| 6 | kernel routes that nobody wants; a return route once the last address whose answers take it is gone |
| 7 | the port guard, where nothing is to be guarded |

Addresses on real links are not planned here: the ownership step alone puts and removes them. Unknown observed state
gives no Action that needs it; nothing without our mark is ever named.

A session that nobody wants any more ends once its routes are withdrawn.
A new session gets all that ExaBGP was told before the last one ended, also what nobody wants any more: aggregates get
their end again, host routes whose address is gone are withdrawn without a drain.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_network

from announcer.core.desired import Desired, unreachable
from announcer.core.detection import Patience, Verdict, judge
from announcer.core.model import (
    GRACEFUL_SHUTDOWN,
    Action,
    AddVirtualLink,
    AdvertiseRoutes,
    IfName,
    IPAddress,
    IPNetwork,
    KernelAction,
    KernelRoute,
    ObservedBfd,
    ObservedBgp,
    ObservedKernel,
    ObservedPeer,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveAddresses,
    RemoveGuard,
    RemoveRoute,
    RemoveVirtualLink,
    Route,
    RouteKind,
    SetBfd,
    SetPeers,
    TearDown,
    Unknown,
    WithdrawRoutes,
)

DRAIN_LEAST, DRAIN_MOST = 1.0, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: how long a route drains before it is withdrawn, and how long an address outlives its last route."""

    drain: float = 1.0
    linger: int = 30
    patience: Patience = Patience()

    @classmethod
    def of(cls, drain: float) -> "Pace":
        """Raises ValueError where that is unsafe: routers need up to 0.1 s each to use other paths, and what drains for
        long goes on drawing traffic in where nobody else has a path.
        """
        if not DRAIN_LEAST <= drain <= DRAIN_MOST:
            raise ValueError(
                f"must be {DRAIN_LEAST:g} to {DRAIN_MOST:g} seconds, at least 1 for each router on the way"
            )
        return cls(drain=drain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`actions` in order; `again_in` is when to look again although nothing may have changed by then."""

    actions: tuple[Action, ...] = ()
    again_in: float | None = None


def plan(
    desired: Desired,
    kernel: ObservedKernel,
    bgp: ObservedBgp | Unknown,
    now: float,
    pace: Pace,
    bfd: tuple[ObservedBfd, ...] | Unknown | None = None,
) -> Plan:
    """`bfd` is None where there is no bfdd."""
    peers = () if isinstance(bgp, Unknown) else bgp.peers
    drawn = {prefix for peer in peers for prefix in peer.routes.keys() | peer.pending}
    guard = _guard(desired, kernel)
    up, ready = _link(desired, kernel), _addresses(desired, kernel, drawn)
    watched = (*desired.peers, *desired.unready)
    verdict = Verdict() if bfd is None else judge(watched, bfd, bgp, now, pace.patience)
    keeps = desired.keep_peers | _draining_peers(desired, peers)
    attract = ([] if bfd is None else _watch(desired, keeps)) + _peers(desired, verdict, keeps)
    drains: list[Action] = []
    waits: list[float] = [] if verdict.again_in is None else [verdict.again_in]
    here = {a.address for a in kernel.addresses}
    for peer in peers:
        attract += _advertise(desired, peer)
        stops, wait = _drain(desired, peer, here, now, pace)
        drains += stops
        waits += wait
    has_peers = bool(desired.peers or desired.keep_peers) or not desired.are_peers_known
    is_sure = not isinstance(bgp, Unknown) or not has_peers
    down = _retire(desired, kernel, drawn, pace) if is_sure else []
    again = min(waits) if waits else None
    first, last = (guard, []) if desired.guard else ([], guard)
    return Plan(actions=(*first, *up, *ready, *attract, *drains, *down, *last), again_in=again)


def _guard(desired: Desired, kernel: ObservedKernel) -> list[Action]:
    if desired.guard == kernel.guard:
        return []
    return [PutGuard(guard=desired.guard)] if desired.guard else [RemoveGuard()]


def _link(desired: Desired, kernel: ObservedKernel) -> list[Action]:
    if not desired.addresses:
        return list(desired.devconf)
    link = next((ln for ln in kernel.links if ln.ifname == desired.virtual_link), None)
    is_there = link is not None and link.is_up
    return [*desired.devconf] if is_there else [AddVirtualLink(ifname=desired.virtual_link), *desired.devconf]


def _addresses(desired: Desired, kernel: ObservedKernel, drawn: set[IPNetwork]) -> list[Action]:
    """Missing addresses, and those that the kernel would remove by itself; missing routes of ours."""
    there = {
        a.address
        for a in kernel.addresses
        if a.ifname == desired.virtual_link and a.is_ours and a.valid_seconds is None
    }
    missing = _sorted(desired.addresses - there)
    ends = {unreachable(prefix) for prefix in drawn if not _is_host(prefix)}
    routes = (desired.routes | ends) - {r for r in kernel.routes if r.is_ours}
    put: list[Action] = [PutAddresses(ifname=desired.virtual_link, addresses=missing)] if missing else []
    return put + [PutRoute(route=route) for route in sorted(routes, key=_route_order)]


def _draining_peers(desired: Desired, peers: Iterable[ObservedPeer]) -> set[IPAddress]:
    """Of sessions that are to end, those that still have routes."""
    if not desired.are_peers_known:
        return set()
    found = (p for p in peers if p.is_established and p.peer_address not in desired.bgp)
    return {p.peer_address for p in found if p.routes or p.pending}


def _watch(desired: Desired, keeps: frozenset[IPAddress]) -> list[Action]:
    """BFD sessions as a whole, like peers."""
    sessions = tuple(peer.bfd for peer in desired.peers if peer.bfd is not None)
    return [SetBfd(sessions=sessions, keeps=keeps, keeps_others=not desired.are_peers_known)]


def _peers(desired: Desired, verdict: Verdict, keeps: frozenset[IPAddress]) -> list[Action]:
    """Peers as a whole. While something about peers isn't known, none that runs is taken away: one that isn't ready
    may be torn down, but not left out, as nobody could put it back.
    """
    watched = (*desired.peers, *desired.unready)
    ends = [TearDown(peer_address=p.peer_address) for p in watched if p.peer_address in verdict.torn_down]
    change = SetPeers(
        peers=tuple(p for p in desired.peers if p.peer_address not in verdict.left_out),
        keeps=keeps,
        keeps_others=not desired.are_peers_known,
        left_out=verdict.left_out - desired.keep_peers,
    )
    return [*ends, change]


def _advertise(desired: Desired, peer: ObservedPeer) -> list[Action]:
    wanted = desired.bgp.get(peer.peer_address)
    if wanted is None or not peer.is_established:
        return []
    new = [
        route
        for prefix, route in wanted.items()
        if peer.carries(prefix)
        if prefix not in peer.pending and (prefix not in peer.routes or peer.routes[prefix].route != route)
    ]
    return [AdvertiseRoutes(peer_address=peer.peer_address, routes=tuple(new))] if new else []


def _drain(
    desired: Desired, peer: ObservedPeer, here: set[IPAddress], now: float, pace: Pace
) -> tuple[list[Action], list[float]]:
    """Routes on the wire that are not wanted: first GRACEFUL_SHUTDOWN, later withdrawn. Also how long to wait for that.

    Addresses in `keep` hold back every route that covers them; a peer of which nobody can say what it is to have, all.
    """
    is_unsure = not desired.are_peers_known or peer.peer_address in desired.keep_peers
    if peer.peer_address not in desired.bgp and is_unsure:
        return [], []
    wanted = desired.bgp.get(peer.peer_address, {})
    unwanted = [a for p, a in peer.routes.items() if p not in wanted and p not in peer.pending]
    unwanted = [a for a in unwanted if not any(k in a.route.prefix for k in desired.keep)]
    if not peer.is_established or not unwanted:
        return [], []
    lost = [a.route for a in unwanted if not _ends_here(a.route.prefix, here)]
    unwanted = [a for a in unwanted if _ends_here(a.route.prefix, here)]
    fresh = tuple(_draining(a.route) for a in unwanted if not a.route.is_draining)
    old = (*lost, *(a.route for a in unwanted if a.route.is_draining and now - a.since >= pace.drain))
    waits = [pace.drain - (now - a.since) for a in unwanted if a.route.is_draining and now - a.since < pace.drain]
    actions: list[Action] = []
    if fresh:
        actions.append(AdvertiseRoutes(peer_address=peer.peer_address, routes=fresh))
    if old:
        actions.append(WithdrawRoutes(peer_address=peer.peer_address, routes=old))
    return actions, waits + ([pace.drain] if fresh else [])


def _is_host(prefix: IPNetwork) -> bool:
    return prefix.prefixlen == prefix.max_prefixlen


def _ends_here(prefix: IPNetwork, here: set[IPAddress]) -> bool:
    return not _is_host(prefix) or prefix.network_address in here


def _draining(route: Route) -> Route:
    return replace(route, communities=route.communities | {GRACEFUL_SHUTDOWN})


def _retire(desired: Desired, kernel: ObservedKernel, drawn: set[IPNetwork], pace: Pace) -> list[Action]:
    """Give permanent addresses of ours that nobody wants a last lifetime, unless a host route still draws traffic to
    them (the aggregate of a Service that stays doesn't count). Addresses on real links are never permanent.
    """
    hosts = {p for p in drawn if _is_host(p)}
    unused = [r for r in kernel.routes if r.is_ours and r not in desired.routes]
    ours = {a.address for a in kernel.addresses if a.is_ours}
    held = {
        r
        for r in unused
        if r.destination in drawn
        or any(k in r.destination for k in desired.keep)
        or (r.kind is RouteKind.UNICAST and any(a in r.destination for a in ours))
    }
    leftover: dict[IfName, list[IPAddress]] = {}
    for a in kernel.addresses:
        is_wanted = a.ifname == desired.virtual_link and a.address in desired.addresses
        is_stray = a.is_ours and a.valid_seconds is None and not is_wanted
        if is_stray and a.address not in desired.keep and ip_network(a.address) not in hosts:
            leftover.setdefault(a.ifname, []).append(a.address)
    retire: list[Action] = [
        PutAddresses(ifname=ifname, addresses=_sorted(leftover[ifname]), valid_seconds=pace.linger)
        for ifname in sorted(leftover)
    ]
    return retire + [RemoveRoute(route=r) for r in sorted(unused, key=_route_order) if r not in held]


def is_drastic(desired: Desired, kernel: ObservedKernel) -> bool:
    """Whether over half of the addresses that this node holds for good would go: more than a first look may decide.

    A process that has just started knows nothing of what was before but this, so an API server that was restored from
    an empty backup, or a folder that isn't all there, would otherwise black-hole the node.
    """
    have = {a.address for a in kernel.addresses if a.is_ours and a.valid_seconds is None}
    lost = have - desired.addresses - desired.keep
    return 2 * len(lost) > len(have)


def clear(kernel: ObservedKernel) -> tuple[KernelAction, ...]:
    """What takes all that is ours off a node whose agent and sidecar have ended for good. Devconf stays as it is, as
    nobody knows what it was before.
    """
    found: dict[IfName, list[IPAddress]] = {}
    for a in kernel.addresses:
        if a.is_ours:
            found.setdefault(a.ifname, []).append(a.address)
    return (
        *(RemoveAddresses(ifname=ifname, addresses=_sorted(found[ifname])) for ifname in sorted(found)),
        *(RemoveRoute(route=r) for r in sorted(kernel.routes, key=_route_order) if r.is_ours),
        *(RemoveVirtualLink(ifname=ln.ifname) for ln in kernel.links if ln.is_ours),
        *([RemoveGuard()] if kernel.guard is not None else []),
    )


def _sorted(addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    return tuple(sorted(addresses, key=lambda a: (a.version, int(a))))


def _route_order(route: KernelRoute) -> tuple[str, str]:
    return str(route.destination), str(route.ifname)
