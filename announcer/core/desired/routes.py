"""The routes to virtual addresses: one for each advertisement and length, to each of its peers that carries the family.

What several advertisements say of one route is put together: all communities, the highest LOCAL_PREF; of Services that
share an address, the greatest weight. Aggregates have none, as they are for many Services. A node that
advertises an aggregate holds an `unreachable` route for it, so that addresses that nobody has don't loop between it
and the router.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from announcer.core.desired.home import Home
from announcer.core.desired.nexthops import NextHops
from announcer.core.desired.sessions import Sessions
from announcer.core.desired.view import View
from announcer.core.desired.weights import link_bandwidth
from announcer.core.model import (
    PROTOCOL,
    DesiredPeer,
    IPAddress,
    IPNetwork,
    KernelRoute,
    LinkBandwidth,
    Route,
    RouteAdvertisement,
    RouteKind,
)

UNREACHABLE_METRIC = 2**30
"""Of the route that ends what an aggregate draws in for nobody: any real route must win over it."""


def unreachable(aggregate: IPNetwork) -> KernelRoute:
    """Where what is sent to addresses that nobody has comes to its end."""
    return KernelRoute(destination=aggregate, kind=RouteKind.UNREACHABLE, metric=UNREACHABLE_METRIC, protocol=PROTOCOL)


class Routes:
    """`bgp` per peer address and prefix, `kernel` what goes into the node's main table, `notes` what can't go out."""

    def __init__(self, view: View, sessions: Sessions) -> None:
        self._view, self._next_hops = view, NextHops(view)
        self._peers = tuple(p for p in sessions.peers if p.peer_address not in sessions.silent)
        self.bgp: dict[IPAddress, dict[IPNetwork, Route]] = {p.peer_address: {} for p in sessions.peers}
        self.kernel: set[KernelRoute] = set()
        self._without_next_hop: set[tuple[str, int]] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        """RFC 8950 is of no use: a peer that didn't agree to it ends the session, and ExaBGP doesn't say who did."""
        missing = sorted(self._without_next_hop)
        return tuple(
            f"{peer}: no IPv{v} routes: this node has no IPv{v} address for their next hop" for peer, v in missing
        )

    def advertise(self, home: Home) -> Mapping[IPNetwork, bool]:
        """The prefixes, the widest first, each with whether it goes out from here: not where other nodes are next hops
        enough.
        """
        found: dict[IPNetwork, bool] = {}
        for ad in sorted(home.ads_on(self._view.own.labels), key=lambda ad: home.prefix(ad).prefixlen):
            prefix = home.prefix(ad)
            found[prefix] = self._advertise(home, prefix, ad) or found.get(prefix, False)
        return found

    def conflict(self, address: IPAddress, ads: Sequence[RouteAdvertisement]) -> bool:
        """Whether some peer would get one route with two values of LOCAL_PREF (MetalLB's conflictingAdvertisements).
        Advertisements without serviceSelectors are compared when they are read.
        """
        version = address.version
        return any(
            one.local_pref != other.local_pref
            and one.length(version) == other.length(version)
            and any(one.is_for(peer.name) and other.is_for(peer.name) for peer in self._peers)
            for one, other in combinations(ads, 2)
        )

    def _advertise(self, home: Home, prefix: IPNetwork, ad: RouteAdvertisement) -> bool:
        theirs = [peer for peer in self._peers if ad.is_for(peer.name) and prefix.version in peer.families]
        chosen = [peer for peer in theirs if self._next_hops.has_own(home, prefix, peer.peer_address)]
        if theirs and not chosen:
            return False
        is_host = prefix.prefixlen == prefix.max_prefixlen
        if not is_host:
            self.kernel.add(unreachable(prefix))
        for peer in chosen:
            local = self._view.endpoints[home.service.key][self._view.own.name]
            bandwidth = link_bandwidth(peer, local) if is_host and home.pool.is_weighted else None
            self._put(peer, prefix, ad, bandwidth)
        return True

    def _put(
        self, peer: DesiredPeer, prefix: IPNetwork, ad: RouteAdvertisement, bandwidth: LinkBandwidth | None
    ) -> None:
        is_own_family = prefix.version == peer.local_address.version
        if not is_own_family and peer.other_next_hop is None:
            self._without_next_hop.add((peer.name, prefix.version))
            return
        local_pref = ad.local_pref if peer.my_asn == peer.peer_asn else None  # RFC 4271 §5.1.5: iBGP only
        old = self.bgp[peer.peer_address].get(prefix)
        weights = [one for one in (bandwidth, old.link_bandwidth if old else None) if one]
        self.bgp[peer.peer_address][prefix] = Route(
            prefix=prefix,
            next_hop=None if is_own_family else peer.other_next_hop,
            local_pref=max((pref for pref in (local_pref, old.local_pref if old else None) if pref), default=None),
            communities=ad.communities | (old.communities if old else frozenset()),
            link_bandwidth=max(weights, key=lambda one: one.bytes_per_second, default=None),
        )
