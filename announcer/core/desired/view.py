"""The snapshot as one node sees it: indexed once, with the questions that placing an address asks.

Every answer about another node comes from that node's own report and labels, so that all nodes answer alike.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from announcer.core.dialects.beside import selects_pool as selects_pool
from announcer.core.model import (
    VIRTUAL_IFNAME,
    Announce,
    Homes,
    IfName,
    IPAddress,
    IPNetwork,
    LinkAddress,
    LinkReport,
    LocalAdvertisement,
    Node,
    NodeAgentConfig,
    NodeName,
    ObjectRef,
    ObservedKernel,
    Pool,
    Reason,
    RouteAdvertisement,
    Scope,
    Service,
    ServiceKey,
    Snapshot,
    TrafficPolicy,
)
from announcer.core.model import selects as selects
from announcer.core.own import Neighbor

NOT_REAL = re.compile(r"lo|(docker|cbr|dummy|virbr|lxcbr|veth|cali|tunl|flannel|kube-|cni|nodelocaldns|lxc).*")
"""Links that never carry a local address: MetalLB's default list of what L2 leaves alone."""

Announcing = tuple[Announce, list[LocalAdvertisement], list[RouteAdvertisement]]
BUILT_IN = NodeAgentConfig(ref=ObjectRef(kind="LBNodeAgent", name="built-in"))


def describe_links(kernel: ObservedKernel) -> tuple[LinkReport, ...]:
    """The node's own real links, as its NodeAnnouncement reports them: sorted by name."""
    real = [
        link
        for link in kernel.links
        if link.is_ethernet and not link.is_ours and not link.is_enslaved and link.kind != "dummy"
        if not NOT_REAL.fullmatch(link.ifname)
    ]
    everywhere = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    return tuple(
        LinkReport(
            ifname=link.ifname,
            lladdr=link.lladdr,
            subnets=_subnets(kernel, link.ifname),
            default_for=frozenset(
                r.destination.version for r in kernel.routes if r.ifname == link.ifname and r.destination in everywhere
            ),
            on_link=tuple(
                sorted(
                    (
                        r.destination
                        for r in kernel.routes
                        if r.ifname == link.ifname and not r.gateway and not r.is_ours
                    ),
                    key=str,
                )
            ),
            has_carrier=link.has_carrier,
            addresses=own_addresses(kernel, link.ifname),
        )
        for link in sorted(real, key=lambda link: link.ifname)
    )


class View:
    """Snapshot and kernel of one node. `links` are each node's real links, its own read from the kernel.

    `addresses` are the node's own by family, the one to speak from first.
    Of `unsure` nodes nobody knows which links are meant: an LBNodeAgent that may be theirs can't be understood.
    """

    def __init__(self, snapshot: Snapshot, own: Node, kernel: ObservedKernel) -> None:
        self.snapshot, self.own, self.kernel = snapshot, own, kernel
        self.addresses = {version: self._addresses(version) for version in (4, 6)}
        self.links = {r.node: r.links for r in snapshot.reports} | {own.name: describe_links(kernel)}
        self.config = {n.name: _config_of(n, snapshot.agents) for n in snapshot.nodes}
        self.in_service = tuple(n for n in snapshot.nodes if n.is_in_service)
        self.endpoints = _usable_endpoints(snapshot)
        """How many a Service has on each node, None for those of no node."""
        self.broken = {ref.kind for ref in snapshot.refused}
        self.unsure = frozenset(n for n, c in self.config.items() if c is BUILT_IN and "LBNodeAgent" in self.broken)
        self.homes = Homes(snapshot.pools)
        self._scores: dict[str, Mapping[NodeName, int]] = {}

    def eligible(self, service: Service) -> tuple[NodeName, ...]:
        nodes = self.endpoints.get(service.key, ())
        if not nodes:
            return ()
        is_local = service.traffic_policy is TrafficPolicy.LOCAL
        return tuple(n.name for n in self.in_service if not is_local or n.name in nodes)

    def why_not_eligible(self, service: Service) -> Reason | None:
        nodes = self.endpoints.get(service.key, ())
        if self.own.excluded:
            return Reason.NODE_EXCLUDED
        if self.own.network_unavailable:
            return Reason.NODE_NETWORK_UNAVAILABLE
        if self.own.is_shutting_down:
            return Reason.NODE_SHUTTING_DOWN
        if not nodes:
            return Reason.NO_ENDPOINTS
        if service.traffic_policy is TrafficPolicy.LOCAL and self.own.name not in nodes:
            return Reason.NO_LOCAL_ENDPOINTS
        return None

    def links_by_subnet(self, nodes: Iterable[NodeName], address: IPAddress) -> dict[NodeName, tuple[LinkReport, ...]]:
        return only_some(
            {
                node: tuple(
                    link
                    for link in self.links.get(node, ())
                    if _is_local_link(link, self.config[node], address) and is_within(address, link.subnets)
                )
                for node in nodes
            }
        )

    def links_by_name(self, nodes: Iterable[NodeName]) -> dict[NodeName, tuple[LinkReport, ...]]:
        """extlbint as a real link: the nodes that have one of that name."""
        return only_some(
            {
                node: tuple(link for link in self.links.get(node, ()) if link.ifname == self.config[node].external_link)
                for node in nodes
            }
        )

    def links_by_advertisement(
        self, nodes: Iterable[NodeName], address: IPAddress, ads: Iterable[LocalAdvertisement]
    ) -> dict[NodeName, tuple[LinkReport, ...]]:
        """Named links; else those that reach the address without a gateway; else, as MetalLB does, all of them."""
        labels = {n.name: n.labels for n in self.snapshot.nodes}
        found: dict[NodeName, tuple[LinkReport, ...]] = {}
        for node in nodes:
            mine = [ad for ad in ads if selects(ad.node_selectors, labels[node])]
            links = self.links.get(node, ()) if mine else ()
            names = frozenset[IfName]().union(*(ad.links for ad in mine))
            if mine and all(ad.links for ad in mine):
                found[node] = tuple(link for link in links if link.ifname in names)
            else:
                found[node] = tuple(link for link in links if is_within(address, link.subnets + link.on_link)) or links
        return only_some(found)

    def announcing(self, pool: Pool) -> Announcing:
        """How a pool is announced, and by which advertisements: a ServiceGroup of v1 only by those that name it."""
        local = [ad for ad in self.snapshot.local_advertisements if selects_pool(ad, pool)]
        routes = [ad for ad in self.snapshot.route_advertisements if selects_pool(ad, pool)]
        if pool.announce is not Announce.AUTO:
            return pool.announce, local, routes
        named = [ad for ad in local if pool.name in ad.pools]
        named_routes = [ad for ad in routes if pool.name in ad.pools]
        if named or named_routes:
            return Announce.ADVERTISEMENTS, named, named_routes
        return Announce.AUTO, local, routes

    def scores(self, address: IPAddress) -> Mapping[NodeName, int]:
        """How much each node is preferred for an address, as MetalLB counts: an advertisement scores the nodes that it
        selects, and all weights that match a node add up. Nodes that nothing prefers are left out.
        """
        home = self.homes.of(address)
        if home is None:
            return {}
        if home[0].name not in self._scores:
            self._scores[home[0].name] = self._scores_of(home[0])
        return self._scores[home[0].name]

    def _scores_of(self, pool: Pool) -> Mapping[NodeName, int]:
        announce, ads, _ = self.announcing(pool)
        if announce is not Announce.ADVERTISEMENTS or not any(ad.preferences for ad in ads):
            return {}
        found: Counter[NodeName] = Counter()
        for node in self.snapshot.nodes:
            mine = [ad for ad in ads if selects(ad.node_selectors, node.labels)]
            terms = [term for ad in mine for term in ad.preferences if term.selector.selects(node.labels)]
            found[node.name] += sum(term.weight for term in terms)
        return +found

    def neighbors(self) -> dict[str, Neighbor]:
        """Other nodes' links by MAC. Two nodes with the same MAC are a mistake: the first by name is believed."""
        others = sorted((node, links) for node, links in self.links.items() if node != self.own.name)
        found: dict[str, Neighbor] = {}
        for node, links in others:
            for link in links:
                found.setdefault(link.lladdr, Neighbor(node=node, addresses=link.addresses))
        return found

    def source(self, version: int) -> IPAddress | None:
        """The node's own address of a family: what replies that start here carry. None where it has none."""
        return next((a.address for a in self.addresses[version]), None)

    def _addresses(self, version: int) -> tuple[LinkAddress, ...]:
        """Those that the Node object knows first, then by link, then the oldest: one that comes changes no choice.

        The kernel lists a link's IPv4 addresses oldest first and secondary ones last, its IPv6 ones newest first.
        """
        mine = [a for a in self.kernel.addresses if not a.is_ours and a.scope is Scope.GLOBAL]
        oldest = [a for a in mine if a.address.version == version][:: 1 if version == 4 else -1]
        place = {link.ifname: (not link.is_ethernet, link.ifindex) for link in self.kernel.links}
        return tuple(sorted(oldest, key=lambda a: (a.address not in self.own.internal_addresses, place[a.ifname])))

    def virtual_link(self) -> IfName:
        """extlbint, unless some node has a real link of that name: then that one is not to be created."""
        name = self.config[self.own.name].external_link
        real = {link.ifname for links in self.links.values() for link in links}
        return VIRTUAL_IFNAME if name in real else name


def announced(snapshot: Snapshot) -> frozenset[IPAddress]:
    """Every address that a cluster of this snapshot announces from anywhere: what there is to lose."""
    endpoints = _usable_endpoints(snapshot)
    if not any(node.is_in_service for node in snapshot.nodes):
        return frozenset()
    ads: tuple[LocalAdvertisement | RouteAdvertisement, ...]
    ads = (*snapshot.local_advertisements, *snapshot.route_advertisements)
    pools = [
        p for p in snapshot.pools if p.announce is not Announce.ADVERTISEMENTS or any(selects_pool(ad, p) for ad in ads)
    ]
    homes = Homes(pools)
    services = (s for s in snapshot.services if s.is_load_balancer and endpoints.get(s.key))
    return frozenset(a for s in services for a in s.status_addresses if homes.of(a))


def own_addresses(kernel: ObservedKernel, ifname: IfName) -> tuple[IPAddress, ...]:
    """The node's own on a link, IPv4 first."""
    mine = {a.address for a in kernel.addresses if a.ifname == ifname and not a.is_ours and a.scope is Scope.GLOBAL}
    return tuple(sorted(mine, key=lambda a: (a.version, int(a))))


def gateways(kernel: ObservedKernel, ifname: IfName) -> tuple[IPAddress, ...]:
    """Routers behind a link, IPv4 first."""
    found = {r.gateway for r in kernel.routes if r.ifname == ifname and r.gateway and not r.is_ours}
    return tuple(sorted(found, key=lambda a: (a.version, int(a))))


def _subnets(kernel: ObservedKernel, ifname: IfName) -> tuple[IPNetwork, ...]:
    mine = (a for a in kernel.addresses if a.ifname == ifname and not a.is_ours and a.scope is Scope.GLOBAL)
    return tuple(sorted({ip_network((a.address, a.prefixlen), strict=False) for a in mine}, key=str))


def only_some(found: Mapping[NodeName, tuple[LinkReport, ...]]) -> dict[NodeName, tuple[LinkReport, ...]]:
    return {node: links for node, links in found.items() if links}


def is_within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def _is_local_link(link: LinkReport, config: NodeAgentConfig, address: IPAddress) -> bool:
    """PureLB's localint: `default` is the link of the default route, anything else an unanchored expression."""
    if config.local_link == "default":
        return address.version in link.default_for or (not link.default_for.isdisjoint({4, 6}))
    return re.search(config.local_link, link.ifname) is not None


def _config_of(node: Node, agents: tuple[NodeAgentConfig, ...]) -> NodeAgentConfig:
    """The first that selects the node, those with a selector before catch-alls, then by namespace and name."""
    mine = [agent for agent in agents if agent.node_selector.selects(node.labels)]
    return min(mine, key=lambda agent: (not agent.node_selector.requirements, agent.ref), default=BUILT_IN)


def _usable_endpoints(snapshot: Snapshot) -> Mapping[ServiceKey, Counter[NodeName | None]]:
    """Ready ones by node. Those that serve while they terminate count where none is ready: of the whole Service, and
    with policy Local on their node, as kube-proxy has it (KEP-1669).
    """
    ready: dict[ServiceKey, Counter[NodeName | None]] = {}
    ending: dict[ServiceKey, Counter[NodeName | None]] = {}
    for found in snapshot.endpoint_slices:
        for endpoint in found.endpoints:
            if endpoint.ready:
                ready.setdefault(found.service, Counter())[endpoint.node] += 1
            elif endpoint.serving and endpoint.terminating:
                ending.setdefault(found.service, Counter())[endpoint.node] += 1
    local = {s.key for s in snapshot.services if s.traffic_policy is TrafficPolicy.LOCAL}
    for key, counts in ending.items():
        usable = ready.setdefault(key, Counter())
        if not usable or key in local:
            usable.update({node: count for node, count in counts.items() if node not in usable})
    return ready
