"""Names, marks and reasons that every other value uses."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, NewType

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def network_of(address: IPAddress, prefixlen: int) -> IPNetwork:
    """The network of that length that the address lies in."""
    return ip_network((address, prefixlen), strict=False)


NodeName = NewType("NodeName", str)
IfName = NewType("IfName", str)
ServiceKey = NewType("ServiceKey", str)
"""`namespace/name`."""

PROTOCOL: Final = 201
"""Our mark in the kernel: IFA_PROTO of addresses, rtm_protocol of routes. Only what carries it is ever changed."""

VIRTUAL_IFNAME: Final = IfName("kube-lb0")
"""The link that carries every address this node takes traffic for without answering for it (PureLB's default name)."""

GRACEFUL_SHUTDOWN: Final = "65535:0"
"""RFC 8326 §5. Written in numbers: ExaBGP's API takes the word for a command (shared knowledge of the bridge)."""


class Unknown(Enum):
    """What is not known (not synced, dump interrupted, sidecar silent). It is never the same as *nothing there*."""

    UNKNOWN = "unknown"


ACCEPTED: Final = "announcer.io/Accepted"
"""The condition in an object's status that says whether it is understood and in use."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "announcer"
"""Our mark on objects that we make for tools of the peers, as a label: only what carries it is ever deleted."""

UNKNOWN: Final = Unknown.UNKNOWN


class Reason(StrEnum):
    """Why something is refused, not announced or not yet so. CamelCase, as in Kubernetes conditions."""

    # A user's object is wrong.
    INVALID_VALUE = "InvalidValue"
    UNKNOWN_FIELD = "UnknownField"
    UNSUPPORTED_FIELD = "UnsupportedField"
    UNSUPPORTED_KIND = "UnsupportedKind"
    DUPLICATE_OBJECT = "DuplicateObject"
    DUPLICATE_PEER = "DuplicatePeer"
    DUPLICATE_ALIAS = "DuplicateCommunityAlias"
    UNKNOWN_ALIAS = "UnknownCommunityAlias"
    UNKNOWN_PROFILE = "UnknownBFDProfile"
    CONFLICTING_ADVERTISEMENT = "ConflictingAdvertisements"
    AGGREGATION_TOO_WIDE = "AggregationWiderThanPool"
    NO_EFFECT = "FieldWithoutEffect"
    MISSING_SEPARATOR = "MissingDocumentSeparator"
    UNREADABLE_FILE = "UnreadableFile"
    OVERLAPPING_POOL = "OverlappingPool"
    DUPLICATE_POOL = "DuplicatePool"
    # An address can't be given.
    UNKNOWN_POOL = "UnknownPool"
    NO_POOL = "NoPool"
    POOL_EXHAUSTED = "PoolExhausted"
    ADDRESS_IN_USE = "AddressInUse"
    ADDRESS_NOT_IN_POOL = "AddressNotInPool"
    ADDRESS_FAMILY = "AddressFamilyNotWanted"
    POOL_NOT_ADMITTED = "PoolNotForThisService"
    AMBIGUOUS_POOL = "AmbiguousNamespaceDefault"
    SHARING_CONFLICT = "SharingConflict"
    # An address is not announced from here.
    NO_ADDRESS = "NoAddress"
    NO_ENDPOINTS = "NoEndpoints"
    NO_LOCAL_ENDPOINTS = "NoLocalEndpoints"
    NODE_EXCLUDED = "NodeExcludedFromLoadBalancers"
    NODE_NETWORK_UNAVAILABLE = "NodeNetworkUnavailable"
    NODE_SHUTTING_DOWN = "NodeShuttingDown"
    NODE_NOT_SELECTED = "NodeNotSelected"
    POOL_UNKNOWN = "PoolOfAddressUnknown"
    LINKS_UNKNOWN = "LinksOfNodeUnknown"
    NO_ADVERTISEMENT = "NoMatchingAdvertisement"
    NO_LINK = "NoLinkForAddress"
    NO_CARRIER = "LinkHasNoCarrier"
    NO_PEER = "NoPeer"
    PEER_NOT_ESTABLISHED = "PeerNotEstablished"
    PASSWORD_UNKNOWN = "PasswordUnknown"  # noqa: S105 - says so, and is none
    ROUTE_PENDING = "RoutePending"
    ROUTE_REFUSED = "RouteRefused"
    ENOUGH_NEXT_HOPS = "EnoughNextHops"
    FOREIGN_HOST = "AddressHeldByForeignHost"
    HELD_ELSEWHERE = "HeldByAnotherNode"
    CLAIMING = "Claiming"
    # It is.
    HOLDING = "Holding"
    ADVERTISED = "Advertised"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectRef:
    """Which object, and where a person finds it. `source` is a file and line in a manifest directory, else empty."""

    kind: str
    namespace: str = ""
    name: str
    source: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """A mistake in somebody's object: which field, what stands there, what is wrong, and what to do about it."""

    ref: ObjectRef
    field: str
    value: str
    message: str
    remedy: str = ""
    reason: Reason = Reason.INVALID_VALUE

    def __str__(self) -> str:
        shown = f" = {self.value!r}" if self.value else ""
        hint = f" ({self.remedy})" if self.remedy else ""
        return f"{self.ref}: {self.field}{shown}: {self.message}{hint}"
