"""The BGP sessions that a node should have: whose address it speaks from, as whom, and with which next hops.

| next hop of | is |
|---|---|
| the session's own family | the session's own address |
| the other family | the node's address of that family on the session's link, else its own address of that family |

BFD goes over several hops (RFC 5883) where the BGP session may, but for an iBGP peer in a subnet of the node's, as with
FRR on the other end.
"""

from hashlib import sha256
from ipaddress import IPv4Address, ip_network

from announcer.core.desired.view import View, selects
from announcer.core.dialects.secrets import find_password
from announcer.core.model import (
    BfdSession,
    DesiredPeer,
    IfName,
    IPAddress,
    Node,
    NodeName,
    ObjectRef,
    Peer,
    Reason,
    RouteKind,
    RouterId,
    RouterIdFrom,
    Snapshot,
)


class Sessions:
    """`peers` are all that select the node and can be spoken to. Of `unready` ones the password, the router ID or the
    own address isn't known: a session that runs stays, and what is advertised to them is still decided, but where there
    is no address to be the next hop: such ones aren't in `peers`. `notes` say what is wrong with any of them. Without
    `has_bfd`, nobody could watch the path to a peer.
    """

    def __init__(self, view: View, *, has_bfd: bool) -> None:
        self._view, self._has_bfd = view, has_bfd
        self._secrets = {secret.ref: secret for secret in view.snapshot.secrets}
        self.notes: list[str] = []
        self.unready: set[IPAddress] = set()
        mine = _peers_of(view.snapshot, view.own)
        self.silent = {p.peer_address for p in mine if not p.takes_routes}
        self.peers = tuple(found for p in mine if (found := self._peer(p)))

    def _peer(self, peer: Peer) -> DesiredPeer | None:
        local = peer.source_address or self._towards(peer.peer_address)
        router_id = self._router_id(peer.router_id)
        if local is None or router_id is None:
            self.unready.add(peer.peer_address)
        if local is None:
            self._note(peer, f"sourceAddress: this node has no address for {peer.peer_address}")
            return None
        if router_id is None:
            self._note(peer, "routerID: nothing of this node says one")
        if all(a.address != local for a in self._view.kernel.addresses):
            self._note(peer, f"sourceAddress: {local} is no address of this node")
        other = 6 if local.version == 4 else 4
        return DesiredPeer(
            name=peer.name,
            my_asn=peer.my_asn,
            peer_asn=peer.peer_asn,
            peer_address=peer.peer_address,
            local_address=local,
            router_id=router_id or IPv4Address(0),
            peer_port=peer.peer_port,
            hold_time_seconds=peer.hold_time_seconds,
            multihop_ttl=peer.multihop_ttl,
            families=peer.families or frozenset({peer.peer_address.version}),
            password=self._password(peer),
            other_next_hop=self._beside(local, other) if other in peer.families else None,
            link_bandwidth=peer.link_bandwidth,
            bfd=self._bfd(peer, local),
        )

    def _password(self, peer: Peer) -> str:
        if peer.password_from is None:
            return peer.password
        found, problem = find_password(peer.password_from, self._secrets.get(peer.password_from.ref))
        if found is None:
            self.unready.add(peer.peer_address)
        if problem:
            self._note(peer, f"{Reason.PASSWORD_UNKNOWN}: {problem}")
        return found or ""

    def _bfd(self, peer: Peer, local: IPAddress) -> BfdSession | None:
        if peer.bfd is None:
            return None
        what = f"bfdProfile {peer.bfd_profile}" if peer.bfd_profile else "bfd"
        is_multihop = peer.multihop_ttl > 0 and not (peer.is_ibgp and self._near(peer.peer_address) is not None)
        if not self._has_bfd:
            self._note(peer, f"{what}: this agent has no bfdd (start it with --bfd-dir, docs/bgp.md)")
        elif peer.bfd.is_echoing and is_multihop:
            self._note(peer, f"{what}: there is no echoMode over several hops (RFC 5883 §3)")
        else:
            return BfdSession(
                peer_address=peer.peer_address, local_address=local, is_multihop=is_multihop, settings=peer.bfd
            )
        return None

    def _note(self, peer: Peer, text: str) -> None:
        self.notes.append(f"{peer.ref}{f' {peer.label}' if peer.label else ''}: {text}")

    def _towards(self, peer: IPAddress) -> IPAddress | None:
        """The node's address in the peer's subnet, else that of the link or route by which it is reached, else its
        own: what the session and the next hop use.
        """
        if (found := self._near(peer)) is not None:
            return found
        mine = self._view.addresses[peer.version]
        routes = [r for r in self._view.kernel.routes if peer in r.destination and r.kind is RouteKind.UNICAST]
        if routes:
            best = min(routes, key=lambda r: (-r.destination.prefixlen, r.metric, str(r.ifname)))
            if best.prefsrc is not None and any(a.address == best.prefsrc for a in mine):
                return best.prefsrc
            if (found := self._on(best.ifname, peer.version)) is not None:
                return found
        return self._view.source(peer.version)

    def _near(self, peer: IPAddress) -> IPAddress | None:
        """The node's address in a subnet that the peer is in too."""
        mine = self._view.addresses[peer.version]
        near = (a.address for a in mine if peer in ip_network((a.address, a.prefixlen), strict=False))
        return next(near, None)

    def _beside(self, local: IPAddress, version: int) -> IPAddress | None:
        link = next((a.ifname for a in self._view.addresses[local.version] if a.address == local), None)
        return self._on(link, version) or self._view.source(version)

    def _on(self, ifname: IfName | None, version: int) -> IPAddress | None:
        """The node's address on a link, the one that its Node object knows before others."""
        return next((a.address for a in self._view.addresses[version] if a.ifname == ifname), None)

    def _router_id(self, wanted: RouterId) -> IPv4Address | None:
        node = self._view.own
        candidates: tuple[IPAddress | None, ...]
        match wanted.source:
            case _ if wanted.written:
                return wanted.written
            case RouterIdFrom.OWN_ADDRESS:
                candidates = (self._view.source(4),)
            case RouterIdFrom.INTERNAL_IP:
                candidates = node.internal_addresses
            case RouterIdFrom.EXTERNAL_IP:
                candidates = node.external_addresses
            case RouterIdFrom.ANNOTATION:
                candidates = (_ipv4(node.annotations.get(wanted.annotation, "")),)
        found = next((a for a in candidates if isinstance(a, IPv4Address)), None)
        if found is None and wanted.pool is not None:
            digest = int.from_bytes(sha256(node.name.encode()).digest()[:8], "big")
            count = wanted.pool.num_addresses
            found = wanted.pool[1 + digest % (count - 2) if count > 2 else digest % count]
        return found


def secrets_of(snapshot: Snapshot, name: NodeName) -> frozenset[ObjectRef]:
    """The Secrets that the passwords of a node's sessions are in."""
    node = next((n for n in snapshot.nodes if n.name == name), None)
    mine = _peers_of(snapshot, node) if node else []
    return frozenset(peer.password_from.ref for peer in mine if peer.password_from)


def _peers_of(snapshot: Snapshot, node: Node) -> list[Peer]:
    return [peer for peer in snapshot.peers if selects(peer.node_selectors, node.labels)]


def _ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
