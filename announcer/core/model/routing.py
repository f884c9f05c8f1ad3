"""What people say about BGP, whichever API group they say it in: sessions, advertisements, names of communities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from announcer.core.model.basics import IPAddress, ObjectRef
from announcer.core.model.bfd import BfdSettings
from announcer.core.model.selectors import Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAdvertisement:
    """A BGPAdvertisement. `aggregation` and `aggregation_v6` are prefix lengths, 32 and 128 for host routes.

    No `service_selectors` means every Service, no `peers` every peer. `communities` are texts of `a:b` or
    `large:a:b:c`; before `assemble`, also names that stand for one.
    """

    ref: ObjectRef
    pools: frozenset[str] = frozenset()
    pool_selectors: tuple[Selector, ...] = ()
    node_selectors: tuple[Selector, ...] = ()
    service_selectors: tuple[Selector, ...] = ()
    peers: frozenset[str] = frozenset()
    aggregation: int = 32
    aggregation_v6: int = 128
    local_pref: int | None = None
    communities: frozenset[str] = frozenset()

    def length(self, version: int) -> int:
        return self.aggregation if version == 4 else self.aggregation_v6

    def is_for(self, peer: str) -> bool:
        """Whether the peer of that name gets it."""
        return not self.peers or peer in self.peers


class RouterIdFrom(Enum):
    """What of a node becomes its BGP identifier where none is written."""

    OWN_ADDRESS = "auto"  # its IPv4 address
    INTERNAL_IP = "${NODE_IP}"
    EXTERNAL_IP = "${NODE_EXTERNAL_IP}"
    ANNOTATION = "${node.annotations['...']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterId:
    """A BGP identifier (RFC 6286): the one that is written, else what `source` says, else one of `pool` by the node's
    name.
    """

    written: IPv4Address | None = None
    source: RouterIdFrom = RouterIdFrom.OWN_ADDRESS
    annotation: str = ""
    pool: IPv4Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SecretKey:
    """A key of a Secret. `type` is the Secret's own, empty for any. Nothing is missing where an optional one is."""

    namespace: str
    name: str
    key: str
    type: str = ""
    is_optional: bool = False

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(kind="Secret", namespace=self.namespace, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A Secret as it is written: `data` in base64, as in the API.

    `error` is why nobody can say what it says now; then `data` is what it said before, if that is known.
    """

    ref: ObjectRef
    type: str = "Opaque"
    data: Mapping[str, str] = field(default_factory=dict, repr=False)
    error: str = ""


class BandwidthKind(Enum):
    """How a peer is told weights: by which link bandwidth community, if at all."""

    TRANSITIVE = "transitive"
    NON_TRANSITIVE = "non-transitive"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A BGPPeer, or a neighbor of a BGPConfiguration: one session from every node that `node_selectors` select (none
    means all).

    `my_asn` is what the peer sees. `families` are those whose routes the session carries, 4 and 6. `multihop_ttl` 0 is
    a peer on a subnet of the node's. `takes_routes` is False where nothing is to be advertised to it. `bfd_profile` is
    the name of a BFDProfile, whose settings `assemble` puts into `bfd`.
    """

    ref: ObjectRef
    label: str = ""
    my_asn: int
    peer_asn: int
    peer_address: IPAddress
    peer_port: int = 179
    source_address: IPAddress | None = None
    router_id: RouterId = RouterId()
    hold_time_seconds: int = 90
    node_selectors: tuple[Selector, ...] = ()
    multihop_ttl: int = 0
    families: frozenset[int] = frozenset()
    password: str = field(default="", repr=False)
    password_from: SecretKey | None = None
    takes_routes: bool = True
    link_bandwidth: BandwidthKind = BandwidthKind.TRANSITIVE
    bfd_profile: str = ""
    bfd: BfdSettings | None = None

    @property
    def name(self) -> str:
        """What advertisements call it."""
        return self.label or self.ref.name

    def carries(self, version: int) -> bool:
        """Whether its session is for routes of that family."""
        return version in (self.families or {self.peer_address.version})

    @property
    def is_ibgp(self) -> bool:
        return self.my_asn == self.peer_asn


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """All sessions that one object asks for."""

    ref: ObjectRef
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommunityAliases:
    """A Community: names for communities."""

    ref: ObjectRef
    values: Mapping[str, str] = field(default_factory=dict)
