"""The BGP sessions that a node should have: whose address it speaks from, as whom, and with which next hops.

| next hop of | is |
|---|---|
| the session's own family | the session's own address |
| the other family | the node's address of that family on the session's link, else its own address of that family |
"""

from collections.abc import Mapping
from hashlib import sha256
from ipaddress import IPv4Address, ip_network

from announcer.core.desired.view import View, selects
from announcer.core.model import (
    DesiredPeer,
    IfName,
    IPAddress,
    LinkAddress,
    Peer,
    RouteKind,
    RouterId,
    RouterIdFrom,
    Scope,
    SecretKey,
)


class Sessions:
    """`peers` are all that select the node and can be spoken to. Of `unready` ones the password isn't known: what is
    advertised to them is still decided. `notes` say what keeps others from being.
    """

    def __init__(self, view: View, passwords: Mapping[SecretKey, str]) -> None:
        self._view, self._passwords = view, passwords
        self.notes: list[str] = []
        self.unready: set[IPAddress] = set()
        mine = [p for p in view.snapshot.peers if selects(p.node_selectors, view.own.labels)]
        self.silent = {p.peer_address for p in mine if not p.takes_routes}
        self.peers = tuple(found for p in mine if (found := self._peer(p)))

    def _peer(self, peer: Peer) -> DesiredPeer | None:
        local = peer.source_address or self._towards(peer.peer_address)
        router_id = self._router_id(peer.router_id)
        if local is None or router_id is None:
            what = "routerID: nothing of this node says" if local else "sourceAddress: this node has no address for"
            self.notes.append(f"{peer.ref}: {what} {'one' if local else peer.peer_address}")
            return None
        if peer.password_from is not None and peer.password_from not in self._passwords:
            self.unready.add(peer.peer_address)
        other = 6 if local.version == 4 else 4
        return DesiredPeer(
            name=peer.name,
            my_asn=peer.my_asn,
            peer_asn=peer.peer_asn,
            peer_address=peer.peer_address,
            local_address=local,
            router_id=router_id,
            peer_port=peer.peer_port,
            hold_time_seconds=peer.hold_time_seconds,
            multihop_ttl=peer.multihop_ttl,
            families=peer.families or frozenset({peer.peer_address.version}),
            password=self._passwords.get(peer.password_from, "") if peer.password_from else peer.password,
            other_next_hop=self._beside(local, other) if other in peer.families else None,
        )

    def _own_addresses(self, version: int) -> list[LinkAddress]:
        found = [a for a in self._view.kernel.addresses if not a.is_ours and a.scope is Scope.GLOBAL]
        return sorted((a for a in found if a.address.version == version), key=lambda a: int(a.address))

    def _towards(self, peer: IPAddress) -> IPAddress | None:
        """The node's address in the peer's subnet, else that of the link or route by which it is reached, else its
        own: what the session and the next hop use.
        """
        mine = self._own_addresses(peer.version)
        near = (a.address for a in mine if peer in ip_network((a.address, a.prefixlen), strict=False))
        if (found := next(near, None)) is not None:
            return found
        routes = [r for r in self._view.kernel.routes if peer in r.destination and r.kind is RouteKind.UNICAST]
        if routes:
            best = min(routes, key=lambda r: (-r.destination.prefixlen, r.metric, str(r.ifname)))
            if best.prefsrc is not None and any(a.address == best.prefsrc for a in mine):
                return best.prefsrc
            if (found := self._on(best.ifname, peer.version)) is not None:
                return found
        return self._view.source(peer.version)

    def _beside(self, local: IPAddress, version: int) -> IPAddress | None:
        link = next((a.ifname for a in self._own_addresses(local.version) if a.address == local), None)
        return self._on(link, version) or self._view.source(version)

    def _on(self, ifname: IfName | None, version: int) -> IPAddress | None:
        """The node's address on a link, the one that its Node object knows before others."""
        found = [a.address for a in self._own_addresses(version) if a.ifname == ifname]
        known = [a for a in found if a in self._view.own.internal_addresses]
        return next(iter(known or found), None)

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
            found = wanted.pool[1 + digest % max(1, wanted.pool.num_addresses - 2)]
        return found


def _ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
