"""What the edges carry out. Actions are idempotent: there already on add, gone already on removal are success."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from announcer.core.model.basics import IfName, IPAddress
from announcer.core.model.bfd import BfdSession
from announcer.core.model.observed import Guard, KernelRoute, Route
from announcer.core.model.routing import BandwidthKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AddVirtualLink:
    """Create `ifname` as a dummy, else as a bridge without ports (addrgenmode none), and set it up."""

    ifname: IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVirtualLink:
    """Remove a link that carries our mark, and no other."""

    ifname: IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDevconf:
    """Set these values of a link through IFLA_INET_CONF; None leaves one as it is."""

    ifname: IfName
    arp_ignore: int | None = None
    arp_announce: int | None = None
    rp_filter: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAddresses:
    """Add or replace host addresses: /32 or /128, scope link, NOPREFIXROUTE, our protocol, IPv6 without DAD.

    `valid_seconds` None means for ever, else the kernel removes them by itself after that time.
    """

    ifname: IfName
    addresses: tuple[IPAddress, ...]
    valid_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAddresses:
    """Remove our host addresses from a link, and only from that link."""

    ifname: IfName
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRoute:
    """Add or replace a main-table route with our protocol."""

    route: KernelRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRoute:
    """Remove a main-table route that carries our protocol."""

    route: KernelRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class PutGuard:
    """Make this the whole of the port guard, in one transaction."""

    guard: Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveGuard:
    """Remove the table of the port guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPeers:
    """Make these, and no others, the peers of the sidecar. Unchanged peers keep their sessions.

    Peers at the addresses of `keeps`, with `keeps_others` all, that run and are not among these stay as they are, but
    for those `left_out`.
    """

    peers: tuple["DesiredPeer", ...]
    keeps: frozenset[IPAddress] = frozenset()
    keeps_others: bool = False
    left_out: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TearDown:
    """End an established session with a NOTIFICATION: Cease, BFD Down (RFC 9384). It goes out before a SetPeers that
    comes after takes the peer away; without one the session is set up again at once.
    """

    peer_address: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBfd:
    """Make these, and no others, the sessions of bfdd. Unchanged ones stay as they are.

    Those to the addresses of `keeps`, with `keeps_others` all, that are there and are not among these stay.
    """

    sessions: tuple[BfdSession, ...]
    keeps: frozenset[IPAddress] = frozenset()
    keeps_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertiseRoutes:
    peer_address: IPAddress
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawRoutes:
    """Withdraw routes from a peer, with the attributes that they were advertised with (see exabgp/lines)."""

    peer_address: IPAddress
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendProbe:
    """RFC 5227 §2.1.1 ARP probe, or the neighbor solicitation of RFC 4862 §5.4.2, for each address."""

    ifname: IfName
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAnnouncement:
    """RFC 5227 §3 ARP announcement, or an unsolicited neighbor advertisement (RFC 4861 §7.2.6), for each address."""

    ifname: IfName
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """From each address, which is here, ask for each of `asks` of its family: an ARP request, or a neighbor
    solicitation with our MAC.

    Whoever is asked learns it, and with ARP everybody who knew another MAC, also a client that ignores announcements.
    """

    ifname: IfName
    addresses: tuple[IPAddress, ...]
    asks: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """An ICMP or ICMPv6 echo from the link's own address to `target` at `lladdr`; `sequence` is 16 bits."""

    source: IPAddress
    target: IPAddress
    lladdr: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendEcho:
    ifname: IfName
    echoes: tuple[Echo, ...]


KernelAction = (
    AddVirtualLink
    | RemoveVirtualLink
    | SetDevconf
    | PutAddresses
    | RemoveAddresses
    | PutRoute
    | RemoveRoute
    | PutGuard
    | RemoveGuard
)
BgpAction = SetPeers | TearDown | AdvertiseRoutes | WithdrawRoutes
WireAction = SendProbe | SendAnnouncement | SendRequest | SendEcho
Action = KernelAction | BgpAction | SetBfd | WireAction


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPeer:
    """A session that this node should have, all defaults resolved.

    `families` are those it carries. `multihop_ttl` 0 is a peer on a subnet of the node's. `other_next_hop` is the next
    hop of routes that are not of the session's family; theirs is the session's own address. `bfd` watches the path.
    """

    name: str
    my_asn: int
    peer_asn: int
    peer_address: IPAddress
    local_address: IPAddress
    router_id: IPv4Address
    peer_port: int = 179
    hold_time_seconds: int = 90
    multihop_ttl: int = 0
    families: frozenset[int] = frozenset({4, 6})
    password: str = field(default="", repr=False)
    other_next_hop: IPAddress | None = None
    link_bandwidth: BandwidthKind = BandwidthKind.TRANSITIVE
    bfd: BfdSession | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an Action. `error` is empty on success."""

    action: Action
    error: str = ""
