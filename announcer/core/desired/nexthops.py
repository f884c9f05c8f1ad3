"""Bounded next-hop sets: which nodes advertise a route to a router, where its pool says how many may.

Everybody computes the same: the first of `elect` among the nodes that would advertise the prefix to that peer without
a bound, in the order of the prefix, so that all Services of an aggregate have the same nodes. A node whose condition
Ready isn't True comes last: it may be dead.
"""

from announcer.core.desired.home import Home
from announcer.core.desired.view import View, selects
from announcer.core.elect import elect
from announcer.core.model import IPAddress, IPNetwork, Node, NodeName, Peer


class NextHops:
    def __init__(self, view: View) -> None:
        self._view = view
        self._unready = {node.name: -1 for node in view.snapshot.nodes if not node.is_ready}
        self._peers: dict[IPAddress, list[Peer]] = {}
        for peer in view.snapshot.peers:
            self._peers.setdefault(peer.peer_address, []).append(peer)
        self._willing: dict[object, frozenset[NodeName]] = {}
        self._orders: dict[tuple[IPNetwork, tuple[NodeName, ...]], tuple[NodeName, ...]] = {}

    def has_own(self, home: Home, prefix: IPNetwork, peer: IPAddress) -> bool:
        """Whether this node is one of those that advertise the prefix for that address to the peer."""
        bound = home.pool.max_next_hops
        if bound is None:
            return True
        willing = self._would(home, prefix, peer)
        rivals = tuple(name for name in self._view.eligible(home.service) if name in willing)
        key = prefix, rivals
        if key not in self._orders:
            self._orders[key] = elect(rivals, prefix.network_address, scores=self._unready)
        return self._view.own.name in self._orders[key][:bound]

    def _would(self, home: Home, prefix: IPNetwork, peer: IPAddress) -> frozenset[NodeName]:
        """Who would advertise the prefix if it were eligible: worked out once for all Services that have it alike."""
        ads = tuple(map(id, home.ads))  # the snapshot's own, which outlive this
        how = home.needs_one, home.found.aggregation, home.service.traffic_policy
        key = ads, how, prefix.version, prefix.prefixlen, peer
        if key not in self._willing:
            nodes = self._view.snapshot.nodes
            self._willing[key] = frozenset(node.name for node in nodes if self._would_one(node, home, prefix, peer))
        return self._willing[key]

    def _would_one(self, node: Node, home: Home, prefix: IPNetwork, address: IPAddress) -> bool:
        peer = next((p for p in self._peers.get(address, ()) if selects(p.node_selectors, node.labels)), None)
        if peer is None or not peer.takes_routes or not peer.carries(prefix.version):
            return False
        return any(ad.is_for(peer.name) and home.prefix(ad) == prefix for ad in home.ads_on(node.labels))
