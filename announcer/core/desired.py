"""What one node should have, from the snapshot and its own links; every node computes the same about all others.

| pool | and | then |
|---|---|---|
| auto, no advertisement names it | some eligible node has the subnet on its local link | local there |
| auto | nobody has, and extlbint is a real link of some node | local on that link, with a return route |
| auto | nobody has | virtual |
| local, L2Advertisement | | local |
| remote, BGPAdvertisement | | virtual; beside local where both are said |

An eligible node is not excluded, has its network, and for policy Local has a usable endpoint. What can't be decided
because an object can't be understood ends in `keep`: whatever stands on the node for it stays.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, ip_network

from announcer.core.allocate import CLASSES, pool_of
from announcer.core.elect import elect
from announcer.core.model import (
    PROTOCOL,
    UNKNOWN,
    VIRTUAL_IFNAME,
    AddressRange,
    Announce,
    DesiredPeer,
    IfName,
    IPAddress,
    IPNetwork,
    KernelRoute,
    LinkReport,
    LocalAdvertisement,
    Node,
    NodeAgentConfig,
    NodeName,
    ObjectRef,
    ObservedKernel,
    Peer,
    Pool,
    Reason,
    Route,
    RouteAdvertisement,
    RouteKind,
    Scope,
    Selector,
    Service,
    ServiceKey,
    SetDevconf,
    Snapshot,
    TrafficPolicy,
    Unknown,
)

UNREACHABLE_METRIC = 2**30
"""Of the route that ends what an aggregate draws in for nobody: any real route must win over it."""
NOT_REAL = re.compile(r"lo|(docker|cbr|dummy|virbr|lxcbr|veth|cali|tunl|flannel|kube-|cni|nodelocaldns|lxc).*")
"""Links that never carry a local address: MetalLB's default list of what L2 leaves alone."""


class Mode(Enum):
    LOCAL = "local"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """This node may hold `address` on `ifname`. `position` counts from 0; `rivals` are the MACs of all candidates."""

    address: IPAddress
    ifname: IfName
    position: int
    candidates: tuple[NodeName, ...]
    rivals: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an address of a Service goes on this node, or why it doesn't. `mode` is None where nothing was decided."""

    service: ServiceKey
    address: IPAddress | None
    mode: Mode | None
    ifname: IfName | None = None
    prefix: IPNetwork | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """`addresses` belong on `virtual_link` for ever; `routes` in the kernel; `bgp` per peer address and prefix."""

    virtual_link: IfName = VIRTUAL_IFNAME
    addresses: frozenset[IPAddress] = frozenset()
    candidacies: tuple[Candidacy, ...] = ()
    routes: frozenset[KernelRoute] = frozenset()
    devconf: tuple[SetDevconf, ...] = ()
    peers: tuple[DesiredPeer, ...] = ()
    are_peers_known: bool = True
    bgp: Mapping[IPAddress, Mapping[IPNetwork, Route]] = field(default_factory=dict)
    keep: frozenset[IPAddress] = frozenset()
    placements: tuple[Placement, ...] = ()
    node_lladdrs: frozenset[str] = frozenset()


def describe_links(kernel: ObservedKernel) -> tuple[LinkReport, ...]:
    """The node's own real links, as its NodeAnnouncement reports them: sorted by name."""
    real = [
        link
        for link in kernel.links
        if link.is_ethernet and not link.is_enslaved and link.kind != "dummy" and not NOT_REAL.fullmatch(link.ifname)
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
        )
        for link in sorted(real, key=lambda link: link.ifname)
    )


def desired(snapshot: Snapshot, node: NodeName, kernel: ObservedKernel) -> Desired | Unknown:
    """UNKNOWN while the snapshot doesn't know this node: without it, nobody can say what the node is not to have."""
    own = next((n for n in snapshot.nodes if n.name == node), None)
    if own is None:
        return UNKNOWN
    return _Decision(snapshot, own, kernel).decide()


def _subnets(kernel: ObservedKernel, ifname: IfName) -> tuple[IPNetwork, ...]:
    mine = (a for a in kernel.addresses if a.ifname == ifname and not a.is_ours and a.scope is Scope.GLOBAL)
    return tuple(sorted({ip_network((a.address, a.prefixlen), strict=False) for a in mine}, key=str))


class _Decision:
    """One computation of `desired`: the snapshot indexed once, and the parts as they come together."""

    def __init__(self, snapshot: Snapshot, own: Node, kernel: ObservedKernel) -> None:
        self.snapshot, self.own, self.kernel = snapshot, own, kernel
        self.links = {r.node: r.links for r in snapshot.reports} | {own.name: describe_links(kernel)}
        self.config = {n.name: _config_of(n, snapshot.agents) for n in snapshot.nodes}
        self.eligible = tuple(n for n in snapshot.nodes if not n.excluded and not n.network_unavailable)
        self.endpoints = _usable_endpoints(snapshot)
        self.peers = tuple(p for p in map(self._peer, snapshot.peers) if p)
        self.broken = {ref.kind for ref in snapshot.refused}
        self.placements: list[Placement] = []
        self.candidacies: list[Candidacy] = []
        self.addresses: set[IPAddress] = set()
        self.routes: set[KernelRoute] = set()
        self.bgp: dict[IPAddress, dict[IPNetwork, Route]] = {peer.peer_address: {} for peer in self.peers}
        self.keep = set(snapshot.in_use)

    def decide(self) -> Desired:
        for service in self.snapshot.services:
            if service.is_load_balancer and service.load_balancer_class in CLASSES:
                self._place_service(service)
        return Desired(
            virtual_link=self._virtual_link(),
            addresses=frozenset(self.addresses),
            candidacies=tuple(self.candidacies),
            routes=frozenset(self.routes),
            devconf=self._devconf(),
            peers=tuple(sorted(self.peers, key=lambda p: (p.peer_address.version, p.peer_address))),
            are_peers_known="BGPPeer" not in self.broken,
            bgp=self.bgp,
            keep=frozenset(self.keep),
            placements=tuple(self.placements),
            node_lladdrs=frozenset(link.lladdr for links in self.links.values() for link in links),
        )

    # -- one Service ---------------------------------------------------------------------------------------------

    def _place_service(self, service: Service) -> None:
        if not service.status_addresses:
            self._note(service, None, None, reason=Reason.NO_ADDRESS)
        for address in service.status_addresses:
            home = pool_of(address, self.snapshot.pools)
            if home is None:
                if self.broken & {"ServiceGroup", "IPAddressPool"}:
                    self.keep.add(address)
                self._note(service, address, None, reason=Reason.POOL_UNKNOWN)
            else:
                self._place(service, address, *home)

    def _place(self, service: Service, address: IPAddress, pool: Pool, found: AddressRange) -> None:
        local_ads = [a for a in self.snapshot.local_advertisements if _selects_pool(a, pool)]
        route_ads = [a for a in self.snapshot.route_advertisements if _selects_pool(a, pool)]
        named_local = [a for a in local_ads if pool.name in a.pools]
        named_routes = [a for a in route_ads if pool.name in a.pools]
        announce = pool.announce
        if announce is Announce.AUTO and (named_local or named_routes):
            local_ads, route_ads, announce = named_local, named_routes, Announce.ADVERTISEMENTS
        eligible = self._eligible(service)
        match announce:
            case Announce.AUTO:
                local = self._links_by_subnet(eligible, address) or self._links_by_name(eligible)
                is_virtual = not local
            case Announce.LOCAL:
                local, is_virtual = self._links_by_subnet(eligible, address), False
            case Announce.REMOTE:
                local, is_virtual = {}, True
            case Announce.ADVERTISEMENTS:
                local, is_virtual = self._links_by_advertisement(eligible, address, local_ads), bool(route_ads)
                if not local_ads and not route_ads:
                    self._refuse_unadvertised(service, address)
                    return
        if not is_virtual or local or (local_ads and announce is Announce.ADVERTISEMENTS):
            self._place_local(service, address, found, local)
        if is_virtual:
            self._place_virtual(service, address, found, route_ads, needs_one=announce is Announce.ADVERTISEMENTS)

    def _refuse_unadvertised(self, service: Service, address: IPAddress) -> None:
        if self.broken & {"L2Advertisement", "BGPAdvertisement"}:
            self.keep.add(address)
        self._note(service, address, None, reason=Reason.NO_ADVERTISEMENT)

    def _eligible(self, service: Service) -> tuple[NodeName, ...]:
        nodes = self.endpoints.get(service.key, frozenset())
        if not nodes:
            return ()
        is_local = service.traffic_policy is TrafficPolicy.LOCAL
        return tuple(n.name for n in self.eligible if not is_local or n.name in nodes)

    def _why_not_eligible(self, service: Service) -> Reason | None:
        nodes = self.endpoints.get(service.key, frozenset())
        if self.own.excluded:
            return Reason.NODE_EXCLUDED
        if self.own.network_unavailable:
            return Reason.NODE_NETWORK_UNAVAILABLE
        if not nodes:
            return Reason.NO_ENDPOINTS
        if service.traffic_policy is TrafficPolicy.LOCAL and self.own.name not in nodes:
            return Reason.NO_LOCAL_ENDPOINTS
        return None

    def _note(
        self,
        service: Service,
        address: IPAddress | None,
        mode: Mode | None,
        *,
        reason: Reason | None = None,
        ifname: IfName | None = None,
        prefix: IPNetwork | None = None,
    ) -> None:
        self.placements.append(
            Placement(service=service.key, address=address, mode=mode, ifname=ifname, prefix=prefix, reason=reason)
        )

    # -- local ---------------------------------------------------------------------------------------------------

    def _links_by_subnet(self, nodes: Iterable[NodeName], address: IPAddress) -> dict[NodeName, tuple[LinkReport, ...]]:
        return _only_some(
            {
                node: tuple(
                    link
                    for link in self.links.get(node, ())
                    if _is_local_link(link, self.config[node], address) and _is_within(address, link.subnets)
                )
                for node in nodes
            }
        )

    def _links_by_name(self, nodes: Iterable[NodeName]) -> dict[NodeName, tuple[LinkReport, ...]]:
        """extlbint as a real link: the nodes that have one of that name."""
        return _only_some(
            {
                node: tuple(link for link in self.links.get(node, ()) if link.ifname == self.config[node].external_link)
                for node in nodes
            }
        )

    def _links_by_advertisement(
        self, nodes: Iterable[NodeName], address: IPAddress, ads: Iterable[LocalAdvertisement]
    ) -> dict[NodeName, tuple[LinkReport, ...]]:
        """Named links; else those that reach the address without a gateway; else, as MetalLB does, all of them."""
        labels = {n.name: n.labels for n in self.snapshot.nodes}
        found: dict[NodeName, tuple[LinkReport, ...]] = {}
        for node in nodes:
            mine = [ad for ad in ads if _selects(ad.node_selectors, labels[node])]
            links = self.links.get(node, ()) if mine else ()
            names = frozenset[IfName]().union(*(ad.links for ad in mine))
            if mine and all(ad.links for ad in mine):
                found[node] = tuple(link for link in links if link.ifname in names)
            else:
                found[node] = tuple(link for link in links if _is_within(address, link.subnets + link.on_link)) or links
        return _only_some(found)

    def _place_local(
        self,
        service: Service,
        address: IPAddress,
        found: AddressRange,
        links: Mapping[NodeName, tuple[LinkReport, ...]],
    ) -> None:
        live = _only_some({node: tuple(ln for ln in on if ln.has_carrier) for node, on in links.items()})
        mine = live.get(self.own.name, ())
        if not mine:
            reason = self._why_not_eligible(service) or (
                Reason.NO_CARRIER if self.own.name in links else Reason.NO_LINK
            )
            self._note(service, address, Mode.LOCAL, reason=reason)
            return
        order = elect(live, service.status_addresses[0])
        rivals = frozenset(link.lladdr for on in live.values() for link in on)
        self.addresses.add(address)
        for link in mine:
            position = order.index(self.own.name)
            self.candidacies.append(
                Candidacy(address=address, ifname=link.ifname, position=position, candidates=order, rivals=rivals)
            )
            self._note(service, address, Mode.LOCAL, ifname=link.ifname)
            self._return_route(link, address, found)

    def _return_route(self, link: LinkReport, address: IPAddress, found: AddressRange) -> None:
        if found.subnet is None or _is_within(address, link.subnets + link.on_link):
            return
        source = self._source(address.version)
        self.routes.add(
            KernelRoute(
                destination=found.subnet, kind=RouteKind.UNICAST, ifname=link.ifname, prefsrc=source, protocol=PROTOCOL
            )
        )

    def _source(self, version: int) -> IPAddress | None:
        """The node's own address of a family: what replies that start here carry. None where it has none."""
        ours = {a.address for a in self.kernel.addresses if not a.is_ours and a.scope is Scope.GLOBAL}
        known = [a for a in self.own.internal_addresses if a in ours]
        return min((a for a in known or sorted(ours, key=str) if a.version == version), default=None, key=str)

    # -- virtual -------------------------------------------------------------------------------------------------

    def _place_virtual(
        self,
        service: Service,
        address: IPAddress,
        found: AddressRange,
        ads: list[RouteAdvertisement],
        *,
        needs_one: bool,
    ) -> None:
        mine = [ad for ad in ads if _selects(ad.node_selectors, self.own.labels)]
        reason = self._why_not_eligible(service)
        if reason is None and needs_one and not mine:
            reason = Reason.NODE_NOT_SELECTED
        if reason is not None:
            self._note(service, address, Mode.VIRTUAL, reason=reason)
            return
        self.addresses.add(address)
        named = RouteAdvertisement(ref=ObjectRef(kind="", name=""))
        prefixes = sorted({self._advertise(service, address, found, ad) for ad in mine or [named]}, key=str)
        reason = None if self.peers else Reason.NO_PEER
        self._note(service, address, Mode.VIRTUAL, ifname=self._virtual_link(), prefix=prefixes[0], reason=reason)

    def _advertise(
        self, service: Service, address: IPAddress, found: AddressRange, ad: RouteAdvertisement
    ) -> IPNetwork:
        """One route for one advertisement, to each of its peers of the address's family."""
        length = ad.aggregation if address.version == 4 else ad.aggregation_v6
        if length == address.max_prefixlen and found.aggregation is not None:
            length = found.aggregation
        if service.traffic_policy is TrafficPolicy.LOCAL:  # an aggregate would draw traffic to nodes without endpoints
            length = address.max_prefixlen
        prefix = ip_network((address, length), strict=False)
        if length < address.max_prefixlen:
            self.routes.add(
                KernelRoute(
                    destination=prefix, kind=RouteKind.UNREACHABLE, metric=UNREACHABLE_METRIC, protocol=PROTOCOL
                )
            )
        for peer in self.peers:
            if peer.peer_address.version == address.version and (not ad.peers or peer.name in ad.peers):
                local_pref = ad.local_pref if peer.my_asn == peer.peer_asn else None  # RFC 4271 §5.1.5: iBGP only
                old = self.bgp[peer.peer_address].get(prefix)
                communities = ad.communities | (old.communities if old else frozenset())
                self.bgp[peer.peer_address][prefix] = Route(
                    prefix=prefix, local_pref=(old.local_pref if old else None) or local_pref, communities=communities
                )
        return prefix

    def _peer(self, peer: Peer) -> DesiredPeer | None:
        if not _selects(peer.node_selectors, self.own.labels):
            return None
        local = peer.source_address or self._towards(peer.peer_address)
        v4 = self._source(4)
        router_id = peer.router_id or (v4 if isinstance(v4, IPv4Address) else None)
        if local is None or router_id is None:
            return None
        return DesiredPeer(
            name=peer.ref.name,
            my_asn=peer.my_asn,
            peer_asn=peer.peer_asn,
            peer_address=peer.peer_address,
            local_address=local,
            router_id=router_id,
            peer_port=peer.peer_port,
            hold_time_seconds=peer.hold_time_seconds,
            ebgp_multihop=peer.ebgp_multihop,
        )

    def _towards(self, peer: IPAddress) -> IPAddress | None:
        """The node's address in the peer's subnet, else its own address: what the session and the next hop use."""
        for a in sorted(self.kernel.addresses, key=lambda a: str(a.address)):
            near = not a.is_ours and a.scope is Scope.GLOBAL and a.address.version == peer.version
            if near and peer in ip_network((a.address, a.prefixlen), strict=False):
                return a.address
        return self._source(peer.version)

    # -- the node ------------------------------------------------------------------------------------------------

    def _virtual_link(self) -> IfName:
        """extlbint, unless some node has a real link of that name: then that one is not to be created."""
        name = self.config[self.own.name].external_link
        real = {link.ifname for links in self.links.values() for link in links}
        return VIRTUAL_IFNAME if name in real else name

    def _devconf(self) -> tuple[SetDevconf, ...]:
        """Answer ARP only for a link's own addresses, and never ask with one of ours; strict rp_filter becomes loose
        where a local address has no subnet of its own on the link. Values that are already stricter stay.
        """
        if not self.addresses:
            return ()
        strays = {r.ifname for r in self.routes if r.ifname}
        wanted = []
        for link in self.kernel.links:
            mine, everywhere = link.devconf, self.kernel.devconf_all
            if mine is None or link.ifname not in {report.ifname for report in self.links[self.own.name]}:
                continue
            is_strict = max(mine.rp_filter, everywhere.rp_filter) == 1
            change = SetDevconf(
                ifname=link.ifname,
                arp_ignore=1 if max(mine.arp_ignore, everywhere.arp_ignore) < 1 else None,
                arp_announce=2 if max(mine.arp_announce, everywhere.arp_announce) < 2 else None,
                rp_filter=2 if is_strict and link.ifname in strays else None,
            )
            if change != SetDevconf(ifname=link.ifname):
                wanted.append(change)
        return tuple(wanted)


def _selects_pool(ad: LocalAdvertisement | RouteAdvertisement, pool: Pool) -> bool:
    if not ad.pools and not ad.pool_selectors:
        return True
    return pool.name in ad.pools or any(s.selects(pool.labels) for s in ad.pool_selectors)


def _selects(selectors: tuple[Selector, ...], labels: Mapping[str, str]) -> bool:
    return not selectors or any(selector.selects(labels) for selector in selectors)


def _only_some(found: Mapping[NodeName, tuple[LinkReport, ...]]) -> dict[NodeName, tuple[LinkReport, ...]]:
    return {node: links for node, links in found.items() if links}


def _is_within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def _is_local_link(link: LinkReport, config: NodeAgentConfig, address: IPAddress) -> bool:
    """PureLB's localint: `default` is the link of the default route, anything else an unanchored expression."""
    if config.local_link == "default":
        return address.version in link.default_for or (not link.default_for.isdisjoint({4, 6}))
    return re.search(config.local_link, link.ifname) is not None


def _config_of(node: Node, agents: tuple[NodeAgentConfig, ...]) -> NodeAgentConfig:
    """The first that selects the node, those with a selector before catch-alls, then by namespace and name."""
    mine = [agent for agent in agents if agent.node_selector.selects(node.labels)]
    default = NodeAgentConfig(ref=ObjectRef(kind="LBNodeAgent", name="built-in"))
    return min(mine, key=lambda agent: (not agent.node_selector.requirements, agent.ref), default=default)


def _usable_endpoints(snapshot: Snapshot) -> Mapping[ServiceKey, frozenset[NodeName | None]]:
    """Nodes with a ready endpoint; where the Service has none, nodes with one that serves while it terminates."""
    ready: dict[ServiceKey, set[NodeName | None]] = {}
    ending: dict[ServiceKey, set[NodeName | None]] = {}
    for found in snapshot.endpoint_slices:
        for endpoint in found.endpoints:
            if endpoint.ready:
                ready.setdefault(found.service, set()).add(endpoint.node)
            elif endpoint.serving and endpoint.terminating:
                ending.setdefault(found.service, set()).add(endpoint.node)
    return {key: frozenset(nodes) for key, nodes in (ending | ready).items()}
