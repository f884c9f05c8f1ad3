"""Three nodes and a router that they advertise an aggregate to, step by step: what each has, and what the router hears.

`Node` is a kernel and an ExaBGP as `plan` meets them. A session that ends takes its routes off the wire, and a new one
sends everything again that ExaBGP was told before, also what nobody wants any more. A slow ExaBGP leaves changes
pending until it proves them; a silent one says nothing.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from announcer.core.desired import Desired, desired
from announcer.core.model import (
    UNKNOWN,
    Action,
    AddVirtualLink,
    AdvertisedRoute,
    AdvertiseRoutes,
    IPAddress,
    IPNetwork,
    KernelRoute,
    LinkAddress,
    NodeName,
    ObservedBgp,
    ObservedKernel,
    ObservedPeer,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveGuard,
    RemoveRoute,
    Route,
    RouteKind,
    SetDevconf,
    SetPeers,
    Snapshot,
    Unknown,
    WithdrawRoutes,
)
from announcer.core.plan import Pace, plan
from tests.builders import held, ip, kernel

TOR = ip("10.111.111.254")
PACE = Pace()


@dataclass
class Node:
    """`wire` is what the router has from it, None while there is no session; `rib` what its ExaBGP would send again."""

    name: str
    seen: ObservedKernel = field(init=False)
    wire: dict[IPNetwork, AdvertisedRoute] | None = field(default_factory=dict)
    rib: dict[IPNetwork, Route] = field(default_factory=dict)
    pending: dict[IPNetwork, Route | None] = field(default_factory=dict)
    expiries: dict[IPAddress, float] = field(default_factory=dict)
    is_slow: bool = False
    is_silent: bool = False
    wanted: Desired | None = None
    """By its last pass."""
    stale: set[IPNetwork] = field(default_factory=set)
    """What ExaBGP has sent again although its end was gone."""

    def __post_init__(self) -> None:
        self.seen = kernel(self.name)

    # -- what is there -----------------------------------------------------------------------------------------------

    def addresses(self) -> set[IPAddress]:
        return {a.address for a in self.seen.addresses if a.is_ours}

    def ends(self) -> set[IPNetwork]:
        return {r.destination for r in self.seen.routes if r.kind is RouteKind.UNREACHABLE and r.is_ours}

    def has_end(self, prefix: IPNetwork) -> bool:
        """Whether nothing that a route draws in can leave again: of an aggregate, or of an address."""
        is_host = prefix.prefixlen == prefix.max_prefixlen
        return prefix.network_address in self.addresses() if is_host else prefix in self.ends()

    def observed(self) -> ObservedBgp | Unknown:
        if self.is_silent:
            return UNKNOWN
        peer = ObservedPeer(peer_address=TOR, is_established=self.wire is not None)
        return ObservedBgp(peers=(replace(peer, routes=dict(self.wire or {}), pending=frozenset(self.pending)),))

    # -- what happens ------------------------------------------------------------------------------------------------

    def set_session(self, now: float, *, is_up: bool) -> None:
        if is_up == (self.wire is not None):
            return
        self.pending = {}
        self.wire = {p: AdvertisedRoute(route=r, since=now) for p, r in self.rib.items()} if is_up else None
        self.stale = {prefix for prefix in self.wire or {} if not self.has_end(prefix)}

    def prove(self, now: float) -> None:
        for prefix, route in self.pending.items():
            assert self.wire is not None
            if route is None:
                self.wire.pop(prefix, None)
            else:
                self.wire[prefix] = AdvertisedRoute(route=route, since=now)
        self.pending = {}
        self.stale &= (self.wire or {}).keys()

    def expire(self, now: float) -> None:
        """Addresses whose last lifetime is over."""
        gone = {address for address, at in self.expiries.items() if at <= now}
        self.seen = replace(self.seen, addresses=tuple(a for a in self.seen.addresses if a.address not in gone))
        self.expiries = {address: at for address, at in self.expiries.items() if at > now}

    def decide(self, cluster: Snapshot, now: float) -> tuple[Action, ...]:
        found: Any = desired(cluster, NodeName(self.name), self.seen)
        self.wanted = found
        return plan(found, self.seen, self.observed(), now, PACE).actions

    def apply(self, action: Action, now: float) -> None:
        match action:
            case PutAddresses():
                self._put(action, now)
            case PutRoute():
                self._set_routes({*self.seen.routes, action.route})
            case RemoveRoute():
                self._set_routes(set(self.seen.routes) - {action.route})
            case AdvertiseRoutes() | WithdrawRoutes():
                self._change(action, now)
            case SetPeers():
                if TOR not in {*action.keeps, *(p.peer_address for p in action.peers)} and not action.keeps_others:
                    self.set_session(now, is_up=False)
            case AddVirtualLink() | SetDevconf() | PutGuard() | RemoveGuard():
                pass
            case _:
                raise AssertionError(action)

    def _put(self, action: PutAddresses, now: float) -> None:
        kept = [a for a in self.seen.addresses if a.address not in action.addresses]
        new: list[LinkAddress] = [held(str(a), action.ifname, action.valid_seconds) for a in action.addresses]
        self.seen = replace(self.seen, addresses=(*kept, *new))
        for address in action.addresses:
            self.expiries.pop(address, None)
            if action.valid_seconds is not None:
                self.expiries[address] = now + action.valid_seconds

    def _set_routes(self, routes: set[KernelRoute]) -> None:
        self.seen = replace(self.seen, routes=tuple(sorted(routes, key=str)))

    def _change(self, action: AdvertiseRoutes | WithdrawRoutes, now: float) -> None:
        if self.wire is None or self.is_silent:  # the edge refuses
            return
        for route in action.routes:
            assert route.prefix not in self.pending, "one change in flight for a prefix"
            is_withdraw = isinstance(action, WithdrawRoutes)
            self.pending[route.prefix] = None if is_withdraw else route
            if is_withdraw:
                self.rib.pop(route.prefix, None)
            else:
                self.rib[route.prefix] = route
        if not self.is_slow:
            self.prove(now)
