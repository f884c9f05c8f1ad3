"""The routes to virtual addresses: one for each advertisement and length, to each of its peers that carries the family.

What several advertisements say of one route is put together: all communities, the highest LOCAL_PREF. A node that
advertises an aggregate holds an `unreachable` route for it, so that addresses that nobody has don't loop between it
and the router.
"""

from collections.abc import Sequence
from itertools import combinations

from announcer.core.desired.sessions import Sessions
from announcer.core.model import (
    PROTOCOL,
    AddressRange,
    DesiredPeer,
    IPAddress,
    IPNetwork,
    KernelRoute,
    ObjectRef,
    Route,
    RouteAdvertisement,
    RouteKind,
    Service,
    TrafficPolicy,
    network_of,
)

UNREACHABLE_METRIC = 2**30
"""Of the route that ends what an aggregate draws in for nobody: any real route must win over it."""

OF_THE_POOL = RouteAdvertisement(ref=ObjectRef(kind="", name=""))
"""What a PureLB pool asks for without an advertisement: its own aggregation, every peer, nothing more."""


class Routes:
    """`bgp` per peer address and prefix, `kernel` what goes into the node's main table, `notes` what can't go out."""

    def __init__(self, sessions: Sessions) -> None:
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

    def advertise(
        self, service: Service, address: IPAddress, found: AddressRange, ads: Sequence[RouteAdvertisement]
    ) -> tuple[IPNetwork, ...]:
        """The prefixes, sorted; no `ads` leave it to the pool."""
        prefixes = {self._advertise(service, address, found, ad) for ad in ads or [OF_THE_POOL]}
        return tuple(sorted(prefixes, key=lambda p: (p.prefixlen, int(p.network_address))))

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

    def _advertise(
        self, service: Service, address: IPAddress, found: AddressRange, ad: RouteAdvertisement
    ) -> IPNetwork:
        length = ad.length(address.version)
        if length == address.max_prefixlen and found.aggregation is not None:
            length = found.aggregation
        if service.traffic_policy is TrafficPolicy.LOCAL:  # an aggregate would draw traffic to nodes without endpoints
            length = address.max_prefixlen
        prefix = network_of(address, length)
        if length < address.max_prefixlen:
            self.kernel.add(
                KernelRoute(
                    destination=prefix, kind=RouteKind.UNREACHABLE, metric=UNREACHABLE_METRIC, protocol=PROTOCOL
                )
            )
        for peer in self._peers:
            if ad.is_for(peer.name) and address.version in peer.families:
                self._put(peer, prefix, ad)
        return prefix

    def _put(self, peer: DesiredPeer, prefix: IPNetwork, ad: RouteAdvertisement) -> None:
        is_own_family = prefix.version == peer.local_address.version
        if not is_own_family and peer.other_next_hop is None:
            self._without_next_hop.add((peer.name, prefix.version))
            return
        local_pref = ad.local_pref if peer.my_asn == peer.peer_asn else None  # RFC 4271 §5.1.5: iBGP only
        old = self.bgp[peer.peer_address].get(prefix)
        self.bgp[peer.peer_address][prefix] = Route(
            prefix=prefix,
            next_hop=None if is_own_family else peer.other_next_hop,
            local_pref=max((pref for pref in (local_pref, old.local_pref if old else None) if pref), default=None),
            communities=ad.communities | (old.communities if old else frozenset()),
        )
