"""What one node should have, from the snapshot and its own links; every node computes the same about all others.

| pool | and | then |
|---|---|---|
| auto, no advertisement names it | some eligible node has the subnet on its local link | local there |
| auto | nobody has, and extlbint is a real link of some node | local on that link, with a return route |
| auto | nobody has | virtual |
| local, L2Advertisement | | local |
| remote, BGPAdvertisement | | virtual; beside local where both are said |

An eligible node is not excluded, has its network, is not shutting down, and for policy Local has a usable endpoint.
What can't be decided because an object can't be understood ends in `keep`: whatever stands on the node for it stays.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace

from announcer.core.allocate import CLASSES
from announcer.core.desired.guard import guard
from announcer.core.desired.home import Home
from announcer.core.desired.routes import UNREACHABLE_METRIC as UNREACHABLE_METRIC
from announcer.core.desired.routes import Routes
from announcer.core.desired.routes import unreachable as unreachable
from announcer.core.desired.sessions import Sessions
from announcer.core.desired.sessions import secrets_of as secrets_of
from announcer.core.desired.values import Candidacy as Candidacy
from announcer.core.desired.values import Desired as Desired
from announcer.core.desired.values import Mode as Mode
from announcer.core.desired.values import Placement as Placement
from announcer.core.desired.view import View, is_within, only_some, selects
from announcer.core.desired.view import announced as announced
from announcer.core.desired.view import describe_links as describe_links
from announcer.core.desired.view import gateways as gateways
from announcer.core.elect import elect, together
from announcer.core.model import (
    POOL_KINDS,
    PROTOCOL,
    UNKNOWN,
    AddressRange,
    Announce,
    DesiredPeer,
    IfName,
    IPAddress,
    IPNetwork,
    KernelRoute,
    LinkReport,
    LocalAdvertisement,
    NodeName,
    ObservedKernel,
    Pool,
    Reason,
    RouteKind,
    Service,
    SetDevconf,
    Snapshot,
    Unknown,
)

RETURN_METRIC = {4: 0, 6: 1024}
"""By family; of an IPv6 route that names none, the kernel makes 1024 (IP6_RT_PRIO_USER)."""


def desired(
    snapshot: Snapshot,
    node: NodeName,
    kernel: ObservedKernel,
    *,
    classes: Set[str] = CLASSES,
    has_bfd: bool = False,
    guards_ports: bool = True,
) -> Desired | Unknown:
    """UNKNOWN while the snapshot doesn't know this node: without it, nobody can say what the node is not to have.

    `has_bfd`: there is a bfdd to run sessions with. `guards_ports`: there is to be a port guard.
    """
    own = next((n for n in snapshot.nodes if n.name == node), None)
    if own is None:
        return UNKNOWN
    view = View(snapshot, own, kernel)
    found = _Decision(view, classes, Sessions(view, has_bfd=has_bfd)).decide()
    return replace(found, guard=guard(snapshot, kernel, found.addresses)) if guards_ports else found


def is_let_go(snapshot: Snapshot, node: NodeName) -> bool:
    """Whether the Node object of this node is gone while others are there: these count it no longer, and take over.

    Its own links would have to be known to say more, so what is virtual stays as it is.
    """
    is_refused = any(ref.kind == "Node" and ref.name == node for ref in snapshot.refused)
    names = {n.name for n in snapshot.nodes}
    return bool(names) and node not in names and not is_refused


class _Decision:
    """One computation of `desired`: its parts as they come together."""

    def __init__(self, view: View, classes: Set[str], sessions: Sessions) -> None:
        self.view, self.classes, self.sessions = view, classes, sessions
        self.placements: list[Placement] = []
        self.live: dict[IPAddress, list[Mapping[NodeName, tuple[LinkReport, ...]]]] = {}
        self.addresses: set[IPAddress] = set()
        self.routes = Routes(view, self.sessions)
        self.keep = set(view.snapshot.in_use)

    def decide(self) -> Desired:
        for service in self.view.snapshot.services:
            if service.is_load_balancer and service.load_balancer_class in self.classes:
                self._place_service(service)
        return Desired(
            virtual_link=self.view.virtual_link(),
            addresses=frozenset(self.addresses),
            candidacies=tuple(self._elect()),
            routes=frozenset(self.routes.kernel),
            devconf=self._devconf(),
            peers=self._peers(are_ready=True),
            unready=self._peers(are_ready=False),
            keep_peers=frozenset(self.sessions.unready),
            are_peers_known=not self.view.broken & {"BGPPeer", "BGPConfiguration"},
            is_in_service=self.view.own.is_in_service,
            notes=(*self.sessions.notes, *self.routes.notes),
            bgp=self.routes.bgp,
            keep=frozenset(self.keep),
            placements=tuple(self.placements),
            node_lladdrs=frozenset(link.lladdr for links in self.view.links.values() for link in links),
            neighbors=self.view.neighbors(),
        )

    def _peers(self, *, are_ready: bool) -> tuple[DesiredPeer, ...]:
        unready = self.sessions.unready
        found = (p for p in self.sessions.peers if (p.peer_address not in unready) is are_ready)
        return tuple(sorted(found, key=lambda p: (p.peer_address.version, p.peer_address)))

    # -- one Service ---------------------------------------------------------------------------------------------

    def _place_service(self, service: Service) -> None:
        if not service.status_addresses:
            self._note(service, None, None, reason=Reason.NO_ADDRESS)
        for address in service.status_addresses:
            home = self.view.homes.of(address)
            if home is None:
                if self.view.broken & POOL_KINDS:
                    self.keep.add(address)
                self._note(service, address, None, reason=Reason.POOL_UNKNOWN)
            else:
                self._place(service, address, *home)

    def _place(self, service: Service, address: IPAddress, pool: Pool, found: AddressRange) -> None:
        announce, local_ads, route_ads = self.view.announcing(pool)
        eligible = self.view.eligible(service)
        if self._is_unsure(pool, announce, eligible, local_ads):
            self.keep.add(address)
            self._note(service, address, None, reason=Reason.LINKS_UNKNOWN)
            return
        match announce:
            case Announce.AUTO:
                local = self.view.links_by_subnet(eligible, address) or self.view.links_by_name(eligible)
                is_virtual = not local
            case Announce.LOCAL:
                local, is_virtual = self.view.links_by_subnet(eligible, address), False
            case Announce.REMOTE:
                local, is_virtual = {}, True
            case Announce.ADVERTISEMENTS:
                local, is_virtual = self._advertised_links(pool, eligible, address, local_ads), bool(route_ads)
                if not local_ads and not route_ads:
                    self._refuse_unadvertised(service, address)
                    return
        if not is_virtual or local or (local_ads and announce is Announce.ADVERTISEMENTS):
            self._place_local(service, address, found, local)
        if is_virtual:
            ads = [ad for ad in route_ads if selects(ad.service_selectors, service.labels)]
            needs_one = announce is Announce.ADVERTISEMENTS
            self._place_virtual(
                Home(service=service, address=address, pool=pool, found=found, ads=ads, needs_one=needs_one)
            )

    def _is_unsure(
        self, pool: Pool, announce: Announce, eligible: tuple[NodeName, ...], ads: list[LocalAdvertisement]
    ) -> bool:
        """Whether the address may be on links that nobody knows, of this node or of one that it would rival."""
        if self.view.own.name not in eligible or self.view.unsure.isdisjoint(eligible):
            return False
        is_by_agent = pool.announce is Announce.AUTO and bool(ads) and not any(ad.links for ad in ads)
        return announce in {Announce.AUTO, Announce.LOCAL} or is_by_agent

    def _refuse_unadvertised(self, service: Service, address: IPAddress) -> None:
        if self.view.broken & {"L2Advertisement", "BGPAdvertisement"}:
            self.keep.add(address)
        self._note(service, address, None, reason=Reason.NO_ADVERTISEMENT)

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

    def _place_local(
        self,
        service: Service,
        address: IPAddress,
        found: AddressRange,
        links: Mapping[NodeName, tuple[LinkReport, ...]],
    ) -> None:
        live = only_some({node: tuple(ln for ln in on if ln.has_carrier) for node, on in links.items()})
        mine = live.get(self.view.own.name, ())
        if not mine:
            reason = self.view.why_not_eligible(service) or (
                Reason.NO_CARRIER if self.view.own.name in links else Reason.NO_LINK
            )
            self._note(service, address, Mode.LOCAL, reason=reason)
            return
        self.addresses.add(address)
        self.live.setdefault(address, []).append(live)
        for link in mine:
            self._note(service, address, Mode.LOCAL, ifname=link.ifname)
            if len(mine) == 1:  # on one of several links nobody knows which way back is right
                self._return_route(link, address, found)

    def _elect(self) -> Iterator[Candidacy]:
        """An address that Services share is held where all of them can be served, if there is such a node.

        What has to sit together is ordered by the hash and the pool of one of its addresses.
        """
        homes = together(self.view.snapshot.services)
        for address, lives in self.live.items():
            nodes = set.intersection(*map(set, lives)) or set.union(*map(set, lives))
            order = elect(nodes, homes[address], scores=self.view.scores(homes[address]))
            if self.view.own.name not in nodes:
                continue
            links = {link.ifname: None for live in lives for link in live.get(self.view.own.name, ())}
            position = order.index(self.view.own.name)
            for ifname in links:
                yield Candidacy(address=address, ifname=ifname, position=position, candidates=order)

    def _advertised_links(
        self, pool: Pool, nodes: tuple[NodeName, ...], address: IPAddress, ads: list[LocalAdvertisement]
    ) -> dict[NodeName, tuple[LinkReport, ...]]:
        """Of a PureLB pool, whose links its LBNodeAgent names, an advertisement without interfaces picks only nodes."""
        by_ads = self.view.links_by_advertisement(nodes, address, ads)
        if pool.announce is not Announce.AUTO or any(ad.links for ad in ads):
            return by_ads
        return self.view.links_by_subnet(by_ads, address) or self.view.links_by_name(by_ads) or by_ads

    def _return_route(self, link: LinkReport, address: IPAddress, found: AddressRange) -> None:
        if found.subnet is None or is_within(address, link.subnets + link.on_link):
            return
        source = self.view.source(address.version)
        self.routes.kernel.add(
            KernelRoute(
                destination=found.subnet,
                kind=RouteKind.UNICAST,
                ifname=link.ifname,
                prefsrc=source,
                metric=RETURN_METRIC[address.version],
                protocol=PROTOCOL,
            )
        )

    # -- virtual -------------------------------------------------------------------------------------------------

    def _place_virtual(self, home: Home) -> None:
        service, address, needs_one = home.service, home.address, home.needs_one
        mine = home.ads_on(self.view.own.labels)
        reason = self.view.why_not_eligible(service)
        if needs_one and "BGPAdvertisement" in self.view.broken:  # one that can't be understood may be for it
            self.keep.add(address)
        if reason is None and not mine:
            reason = Reason.NODE_NOT_SELECTED
        if reason is None and self.routes.conflict(address, mine):
            reason = Reason.CONFLICTING_ADVERTISEMENT
            self.keep.add(address)  # a mistake in an object doesn't take away what stands
        if reason is not None:
            self._note(service, address, Mode.VIRTUAL, reason=reason)
            return
        self.addresses.add(address)
        prefixes = self.routes.advertise(home)
        if not self.sessions.peers:
            reason = Reason.NO_PEER
        elif not any(prefixes.values()):
            reason = Reason.ENOUGH_NEXT_HOPS
        shown = next((prefix for prefix, is_sent in prefixes.items() if is_sent), next(iter(prefixes)))
        self._note(service, address, Mode.VIRTUAL, ifname=self.view.virtual_link(), prefix=shown, reason=reason)

    # -- the node ------------------------------------------------------------------------------------------------

    def _devconf(self) -> tuple[SetDevconf, ...]:
        """Answer ARP only for a link's own addresses, and never ask with one of ours; strict rp_filter becomes loose
        where a local address has no subnet of its own on the link. Values that are already stricter stay.
        """
        if not self.addresses:
            return ()
        strays = {r.ifname for r in self.routes.kernel if r.ifname}
        wanted = []
        for link in self.view.kernel.links:
            mine, everywhere = link.devconf, self.view.kernel.devconf_all
            if mine is None or link.ifname not in {report.ifname for report in self.view.links[self.view.own.name]}:
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
