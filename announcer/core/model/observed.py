"""What the edges read from the kernel, the sidecar and the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from announcer.core.model.basics import GRACEFUL_SHUTDOWN, PROTOCOL, IfName, IPAddress, IPNetwork, Unknown


class Scope(Enum):
    """rtm_scope / ifa_scope (linux/rtnetlink.h)."""

    GLOBAL = 0
    LINK = 253
    HOST = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class Devconf:
    """The settings of IFLA_INET_CONF that matter here, of one link, as set on it (not the maximum with `all`)."""

    arp_ignore: int
    arp_announce: int
    rp_filter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link as rtnetlink shows it. `kind` is IFLA_INFO_KIND ("" for hardware), `lladdr` in lower case with colons.

    `has_carrier` is IFF_UP together with IFF_LOWER_UP. `is_ours` links carry our mark as IFLA_IFALIAS. `devconf` is
    None where the kernel has no IPv4 on the link.
    """

    ifname: IfName
    ifindex: int
    lladdr: str
    kind: str = ""
    is_up: bool = True
    has_carrier: bool = True
    is_ethernet: bool = True
    is_enslaved: bool = False
    is_ours: bool = False
    devconf: Devconf | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAddress:
    """An address on a link. `protocol` is IFA_PROTO; `valid_seconds` is None for ever."""

    ifname: IfName
    address: IPAddress
    prefixlen: int
    scope: Scope
    protocol: int = 0
    valid_seconds: int | None = None

    @property
    def is_ours(self) -> bool:
        return self.protocol == PROTOCOL


class RouteKind(Enum):
    """rtm_type: RTN_UNICAST and RTN_UNREACHABLE, the two that we use or look at."""

    UNICAST = 1
    UNREACHABLE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRoute:
    """A route of the main table. `ifname` is None for unreachable ones, `gateway` None for on-link ones."""

    destination: IPNetwork
    kind: RouteKind
    ifname: IfName | None = None
    gateway: IPAddress | None = None
    prefsrc: IPAddress | None = None
    metric: int = 0
    protocol: int = 0

    @property
    def is_ours(self) -> bool:
        return self.protocol == PROTOCOL


Port = tuple[IPAddress, str, int]
"""An address, the protocol as Services name it (TCP, UDP or SCTP), and a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The port guard: of what comes from outside to `addresses`, only what is for `ports` of them (and ICMP) gets in.

    One that was read and has not all the rules that it should have is not `is_whole`.
    """

    addresses: frozenset[IPAddress] = frozenset()
    ports: frozenset[Port] = frozenset()
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedKernel:
    """One complete dump of links, addresses and main-table routes of both families, tied together by ifname.

    All are in the kernel's order. `devconf_all` is net.ipv4.conf.all: the kernel uses the greater of it and the link's
    own value. `guard` is None where there is no such table.
    """

    links: tuple[Link, ...] = ()
    addresses: tuple[LinkAddress, ...] = ()
    routes: tuple[KernelRoute, ...] = ()
    devconf_all: Devconf = Devconf(arp_ignore=0, arp_announce=0, rp_filter=0)
    guard: Guard | Unknown | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBandwidth:
    """The extended community by which routers weigh paths (draft-ietf-idr-link-bandwidth): type 0x00 where it is
    transitive, else 0x40, and subtype 0x04. `asn` has two octets.
    """

    asn: int
    bytes_per_second: int
    is_transitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A BGP route as we advertise it: NLRI and attributes (RFC 4271 §4.3); the next hop is the session's own address.

    ORIGIN is always IGP, as paths with other origins don't merge for ECMP. `communities` are texts of `a:b` or
    `large:a:b:c`, GRACEFUL_SHUTDOWN among them while a route drains.
    """

    prefix: IPNetwork
    next_hop: IPAddress | None = None
    local_pref: int | None = None
    communities: frozenset[str] = frozenset()
    link_bandwidth: LinkBandwidth | None = None

    @property
    def is_draining(self) -> bool:
        return GRACEFUL_SHUTDOWN in self.communities


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertisedRoute:
    """A route on the wire, as ExaBGP's own send events prove it. `since` is monotonic seconds of this process."""

    route: Route
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPeer:
    """A session as the sidecar shows it. `pending` prefixes have a change in flight whose outcome isn't seen yet;
    of `refused` ones ExaBGP didn't take the last change, whether or not it is asked again by now. `families` (4, 6)
    are those that both ends agreed to, empty where that isn't known. Without `is_learned` the session may be up, with
    other routes than these.

    `since` is when it came up or ended, by this node's clock, in UTC: for people; None where nobody knows, and only
    about then where it was not seen but told afterwards. `last_error` is what is wrong, or why the session last ended:
    the text of a NOTIFICATION (RFC 4271 §4.5) where there was one.
    """

    peer_address: IPAddress
    is_established: bool
    is_learned: bool = True
    routes: Mapping[IPNetwork, AdvertisedRoute] = field(default_factory=dict)
    pending: frozenset[IPNetwork] = frozenset()
    refused: frozenset[IPNetwork] = frozenset()
    families: frozenset[int] = frozenset()
    since: datetime | None = None
    is_since_seen: bool = True
    last_error: str = ""

    def carries(self, prefix: IPNetwork) -> bool:
        """Whether the session is for routes of that family, as far as is known."""
        return not self.families or prefix.version in self.families


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBgp:
    """What the sidecar is proven to do, peer by peer, sorted by address."""

    peers: tuple[ObservedPeer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Somebody on the link shows that it holds `address`: an ARP packet with it as spa, a neighbor advertisement, or a
    neighbor solicitation from it. `at` is monotonic seconds at which the kernel took the frame; 0 is not known.
    """

    ifname: IfName
    address: IPAddress
    lladdr: str
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardProbe:
    """Somebody at `lladdr` asks whether anybody holds `address`: an ARP probe, or duplicate address detection."""

    ifname: IfName
    address: IPAddress
    lladdr: str
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardEcho:
    """The reply to one of our own echoes: whoever has `address` is alive, and its kernel answers."""

    ifname: IfName
    address: IPAddress
    lladdr: str
    sequence: int
    at: float = field(default=0.0, compare=False)


WireEvent = Heard | HeardProbe | HeardEcho
