"""What the dialects make of people's objects, whatever API group they came from, and the snapshot that holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from announcer.core.model.basics import (
    VIRTUAL_IFNAME,
    IfName,
    IPAddress,
    IPNetwork,
    NodeName,
    ObjectRef,
    Problem,
    ServiceKey,
)
from announcer.core.model.bfd import BfdProfile
from announcer.core.model.reports import NodeReport
from announcer.core.model.routing import CommunityAliases, Peer, Peers, RouteAdvertisement, Secret
from announcer.core.model.selectors import EVERYTHING, Selector

POOL_KINDS = frozenset({"ServiceGroup", "IPAddressPool", "document"})
"""Kinds of objects that, refused, may be the pool of any address; a text that can't be read is a `document`."""


class Announce(Enum):
    """How a pool's addresses reach the network (design: "Where an address goes")."""

    AUTO = "auto"  # purelb.io/v1: by subnet
    LOCAL = "local"  # purelb.io/v2 spec.local
    REMOTE = "remote"  # purelb.io/v2 spec.remote
    ADVERTISEMENTS = "advertisements"  # metallb.io: whatever L2Advertisements and BGPAdvertisements select it


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AddressRange:
    """Addresses `first` to `last`, both included, of one family.

    `subnet` is the network they belong to where the object says so (PureLB); `aggregation` the prefix length to
    advertise, None for host routes.
    """

    first: IPAddress
    last: IPAddress
    subnet: IPNetwork | None = None
    aggregation: int | None = None

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)

    @property
    def size(self) -> int:
        return int(self.last) - int(self.first) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A ServiceGroup or an IPAddressPool.

    `is_accepted` (its own status says so) and `created` decide between pools that quarrel: who was there first stays.
    `max_next_hops` is how many nodes advertise a route of its addresses to one peer, None for all. Where `is_weighted`,
    host routes say how many endpoints their node has.
    """

    ref: ObjectRef
    ranges: tuple[AddressRange, ...]
    announce: Announce
    auto_assign: bool = True
    avoid_buggy_addresses: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    is_accepted: bool = False
    admission: "Admission | None" = None
    takes_from_every_range: bool = False
    balances_ranges: bool = False
    max_next_hops: int | None = None
    is_weighted: bool = False

    @property
    def name(self) -> str:
        return self.ref.name


class Fence(Enum):
    """What a pool's list of namespaces and selectors means to those who are not on it."""

    ONE_WAY = "one way"  # metallb.io serviceAllocation: others may not use the pool
    BOTH_WAYS = "both ways"  # purelb.io enforceNamespaces: nor may those on it use other pools
    NONE = "none"  # purelb.io namespaces alone: others may ask for the pool by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whom a pool is for: Services of `namespaces` or of `namespace_selectors`, that `service_selectors` select.

    Empty lists leave that part open. `priority` orders pools for one Service, 1 first and 0 last; `is_default` decides
    between several ServiceGroups for one namespace.
    """

    namespaces: frozenset[str] = frozenset()
    namespace_selectors: tuple[Selector, ...] = ()
    service_selectors: tuple[Selector, ...] = ()
    priority: int = 0
    fence: Fence = Fence.ONE_WAY
    is_default: bool = False

    def admits_namespace(self, name: str, labels: Mapping[str, str]) -> bool:
        is_open = not self.namespaces and not self.namespace_selectors
        return is_open or name in self.namespaces or any(s.selects(labels) for s in self.namespace_selectors)

    def admits_labels(self, labels: Mapping[str, str]) -> bool:
        return not self.service_selectors or any(s.selects(labels) for s in self.service_selectors)


class TrafficPolicy(Enum):
    """Service.spec.externalTrafficPolicy."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class IPFamilyPolicy(Enum):
    """Service.spec.ipFamilyPolicy."""

    SINGLE_STACK = "SingleStack"
    PREFER_DUAL_STACK = "PreferDualStack"
    REQUIRE_DUAL_STACK = "RequireDualStack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service. `families` are those it wants addresses of, 4 and 6, the first first; empty where nothing says."""

    ref: ObjectRef
    is_load_balancer: bool
    load_balancer_class: str = ""
    families: tuple[int, ...] = ()
    family_policy: IPFamilyPolicy = IPFamilyPolicy.SINGLE_STACK
    traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    ports: frozenset[tuple[str, int]] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    requested_addresses: tuple[IPAddress, ...] = ()
    requested_pool: str = ""
    sharing_key: str = ""
    """Of allow-shared-ip; its first word says whose: a PureLB key counts within a namespace, a MetalLB key anywhere."""
    shares_with: frozenset[str] = frozenset()
    """Other namespaces that may share with this Service under a PureLB key, `*` for all."""
    backend: str = ""
    """For policy Local, which pods get the traffic: sharers must agree. Empty for policy Cluster."""
    takes_from_every_range: bool | None = None
    """purelb.io/multi-pool; None leaves it to the pool."""
    status_addresses: tuple[IPAddress, ...] = ()
    external_addresses: tuple[IPAddress, ...] = ()
    """Of externalIPs: not ours to announce, but the Service has its ports there as well."""
    created: str = ""
    brands: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Annotations that say whose the addresses are: no input, only carried over while that can't be told."""

    @property
    def key(self) -> ServiceKey:
        return ServiceKey(f"{self.ref.namespace}/{self.ref.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint of an EndpointSlice; `ready` and `serving` have the API's defaults applied."""

    node: NodeName | None
    ready: bool
    serving: bool
    terminating: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    ref: ObjectRef
    service: ServiceKey
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node. `excluded` is the label node.kubernetes.io/exclude-from-external-load-balancers; `is_ready` unless its
    condition Ready says otherwise; `is_shutting_down` when the kubelet says so in it.
    """

    ref: ObjectRef
    labels: Mapping[str, str] = field(default_factory=dict)
    excluded: bool = False
    network_unavailable: bool = False
    is_shutting_down: bool = False
    is_ready: bool = True
    internal_addresses: tuple[IPAddress, ...] = ()
    external_addresses: tuple[IPAddress, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> NodeName:
        return NodeName(self.ref.name)

    @property
    def is_in_service(self) -> bool:
        return not (self.excluded or self.network_unavailable or self.is_shutting_down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    ref: ObjectRef
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAgentConfig:
    """An LBNodeAgent. `local_link` is `default` (the link of the default route) or a regular expression of ifnames."""

    ref: ObjectRef
    local_link: str = "default"
    external_link: IfName = VIRTUAL_IFNAME
    node_selector: Selector = EVERYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Nodes that `selector` selects come before others by `weight`."""

    weight: int
    selector: Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAdvertisement:
    """An L2Advertisement. Empty `pools` with empty `pool_selectors` means every pool, empty `links` every link.

    `preferences` count for nodes that `node_selectors` select; the weights of all that select a node add up.
    """

    ref: ObjectRef
    pools: frozenset[str] = frozenset()
    pool_selectors: tuple[Selector, ...] = ()
    node_selectors: tuple[Selector, ...] = ()
    links: frozenset[IfName] = frozenset()
    preferences: tuple[Preference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A ServiceL2Status or ServiceBGPStatus, for MetalLB's tools. What it says is no input, only that it is there."""

    ref: ObjectRef
    is_ours: bool = False
    """It carries our mark: we made it, and may delete it."""
    service: ServiceKey | None = None
    """Whose it is, by its labels."""


ModelObject = (
    Pool
    | Service
    | EndpointSlice
    | Node
    | Namespace
    | NodeAgentConfig
    | LocalAdvertisement
    | RouteAdvertisement
    | Peers
    | CommunityAliases
    | BfdProfile
    | Secret
    | NodeReport
    | Mirror
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a dialect made of one object. `value` is None where the object is refused; `problems` then say why.

    An object may be used and still have problems (an annotation of ours that nobody knows). `in_use` are the addresses
    in the status of a Service that is refused: nobody else may have them, and nobody takes them away.
    """

    ref: ObjectRef
    value: ModelObject | None
    problems: tuple[Problem, ...] = ()
    in_use: tuple[IPAddress, ...] = ()

    def differs_from(self, old: "Parsed | None") -> bool:
        """Whether it is news to who knows `old`, None where there was no such object."""
        return self != (old or Parsed(ref=self.ref, value=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a store knows at one moment, sorted by ref within each kind.

    `refused` are objects that exist but can't be understood: what depends on them is not known, which is not the same
    as their absence.
    """

    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    nodes: tuple[Node, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    pools: tuple[Pool, ...] = ()
    agents: tuple[NodeAgentConfig, ...] = ()
    local_advertisements: tuple[LocalAdvertisement, ...] = ()
    route_advertisements: tuple[RouteAdvertisement, ...] = ()
    peers: tuple[Peer, ...] = ()
    community_aliases: tuple[CommunityAliases, ...] = ()
    bgp_configurations: tuple[Peers, ...] = ()
    bfd_profiles: tuple[BfdProfile, ...] = ()
    secrets: tuple[Secret, ...] = ()
    reports: tuple[NodeReport, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    problems: tuple[Problem, ...] = ()
    refused: frozenset[ObjectRef] = frozenset()
    in_use: frozenset[IPAddress] = frozenset()
