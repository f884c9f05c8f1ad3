"""A sidecar for tests of daemons: the interface of `ExabgpSession`, with routers whose sessions are set up and down.

It behaves as ExaBGP with its bridge was seen to: a session that ends takes its routes off the wire, a new one gets
everything again that was advertised before, and nothing can be advertised where no session is.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from announcer.core.model import (
    UNKNOWN,
    AdvertisedRoute,
    AdvertiseRoutes,
    BgpAction,
    IPAddress,
    IPNetwork,
    ObservedBgp,
    ObservedPeer,
    Route,
    SetPeers,
    TearDown,
    Unknown,
    WithdrawRoutes,
)
from announcer.exabgp import ExabgpError


@dataclass(slots=True)
class _Router:
    is_established: bool = False
    adj_rib_out: dict[IPNetwork, Route] = field(default_factory=dict)
    wire: dict[IPNetwork, AdvertisedRoute] = field(default_factory=dict)
    pending: dict[IPNetwork, Route | None] = field(default_factory=dict)


class FakeSidecar:
    """`is_silent` makes `observed` UNKNOWN; with `is_slow`, changes stay pending until `prove`. Peers that appear come
    up by themselves where `comes_up` is left true. `applied` is every Action in order.
    """

    def __init__(
        self,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        *,
        comes_up: bool = True,
    ) -> None:
        self.applied: list[BgpAction] = []
        self.is_silent = self.is_slow = False
        self._comes_up = comes_up
        self._wake, self._clock = wake, clock
        self._routers: dict[IPAddress, _Router] = {}

    def observed(self) -> ObservedBgp | Unknown:
        if self.is_silent:
            return UNKNOWN
        order = sorted(self._routers, key=lambda address: (address.version, int(address)))
        return ObservedBgp(peers=tuple(_observed(address, self._routers[address]) for address in order))

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def apply(self, action: BgpAction) -> None:
        self.applied.append(action)
        if isinstance(action, SetPeers):
            self._set_peers(action)
            return
        router = self._routers.get(action.peer_address)
        if self.is_silent or router is None or not router.is_established:
            raise ExabgpError(f"no established session with {action.peer_address}")
        if isinstance(action, TearDown):
            self.set_established(action.peer_address, is_established=False)
        else:
            self._change(router, action)

    def set_established(self, address: IPAddress, *, is_established: bool = True) -> None:
        router = self._routers.setdefault(address, _Router())
        router.is_established, router.pending, router.wire = is_established, {}, {}
        if is_established:
            router.wire = {p: AdvertisedRoute(route=r, since=self._clock()) for p, r in router.adj_rib_out.items()}
        self._wake()

    def set_silent(self, *, is_silent: bool = True) -> None:
        self.is_silent = is_silent
        self._wake()

    def prove(self) -> None:
        """Show every pending change on the wire."""
        for router in self._routers.values():
            self._show(router)
        self._wake()

    def addresses(self) -> set[IPAddress]:
        """Its peers."""
        return set(self._routers)

    def wire(self, address: IPAddress) -> dict[IPNetwork, Route]:
        """What that router has from us."""
        return {prefix: advertised.route for prefix, advertised in self._routers[address].wire.items()}

    def _set_peers(self, action: SetPeers) -> None:
        wanted = [peer.peer_address for peer in action.peers]
        wanted += [a for a in self._routers if a not in wanted and (action.keeps_others or a in action.keeps)]
        if set(wanted) == self._routers.keys():
            return
        fresh = {address: _Router(is_established=self._comes_up) for address in wanted}
        self._routers = {address: self._routers.get(address, router) for address, router in fresh.items()}
        self._wake()

    def _change(self, router: _Router, action: AdvertiseRoutes | WithdrawRoutes) -> None:
        for route in action.routes:
            if route.prefix in router.pending:
                continue
            router.pending[route.prefix] = route if isinstance(action, AdvertiseRoutes) else None
            if isinstance(action, AdvertiseRoutes):
                router.adj_rib_out[route.prefix] = route
            else:
                router.adj_rib_out.pop(route.prefix, None)
        if not self.is_slow:
            self._show(router)
            self._wake()

    def _show(self, router: _Router) -> None:
        for prefix, route in router.pending.items():
            if route is None:
                router.wire.pop(prefix, None)
            elif prefix not in router.wire or router.wire[prefix].route != route:
                router.wire[prefix] = AdvertisedRoute(route=route, since=self._clock())
        router.pending = {}


def _observed(address: IPAddress, router: _Router) -> ObservedPeer:
    return ObservedPeer(
        peer_address=address,
        is_established=router.is_established,
        routes=dict(router.wire),
        pending=frozenset(router.pending),
    )
