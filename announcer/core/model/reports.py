"""What nodes say of themselves in their NodeAnnouncements, as the others and people read it."""

from dataclasses import dataclass

from announcer.core.model.basics import IfName, IPAddress, IPNetwork, NodeName, ObjectRef, ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LinkReport:
    """A link as its own node reports it: what others need to know who could hold an address there."""

    ifname: IfName
    lladdr: str
    subnets: tuple[IPNetwork, ...] = ()
    default_for: frozenset[int] = frozenset()
    """Families (4, 6) whose default route leaves by this link."""
    on_link: tuple[IPNetwork, ...] = ()
    """Destinations routed to this link without a gateway, by somebody else's routes."""
    has_carrier: bool = True
    addresses: tuple[IPAddress, ...] = ()
    """The node's own: what others ask to know whether it lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressReport:
    """What a node does about one address of a Service. `mode` is local, virtual or empty; `reason` a Reason's text.

    `peers` are those to which `prefix` is proven to be advertised.
    """

    service: ServiceKey
    address: str
    mode: str
    link: str
    reason: str
    message: str = ""
    prefix: str = ""
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReport:
    """Addresses that a node began or ceased to hold on a link, all at once, of the same node and for the same reason.

    `time` is RFC 3339, by the node's own clock: for people. `old` and `new` are nodes, else MACs, "" where nobody is
    known; `silent_seconds` is for how long nobody had answered, at the most. `services` are some of the `count`
    addresses, each as `namespace/name address`.
    """

    time: str
    link: IfName
    old: str
    new: str
    reason: str
    silent_seconds: float = 0.0
    count: int = 1
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """A node's BGP session with a peer, which advertisements call `peer`, and how many routes are where.

    `is_established` since `since` (RFC 3339, by the node's own clock: for people) is what was known last; it is so now
    where `is_known`. `last_error` is what is wrong, or why the session last ended. `bfd` is the state of what watches
    the path, and why; empty where nothing does.
    """

    peer_address: IPAddress
    peer: str = ""
    is_known: bool = True
    is_established: bool = False
    since: str = ""
    last_error: str = ""
    bfd: str = ""
    proven: int = 0
    pending: int = 0
    refused: int = 0

    @property
    def state(self) -> str:
        if not self.is_known:
            return "Unknown"
        return "Established" if self.is_established else "Down"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReport:
    """Something that the source says isn't believed yet, so that what was there before stays: since when (RFC 3339,
    for people) and why.
    """

    since: str
    message: str

    def __str__(self) -> str:
        return f"since {self.since}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What a node says of itself in NodeAnnouncement.status; a help, never a condition for fail-over."""

    ref: ObjectRef
    links: tuple[LinkReport, ...] = ()
    addresses: tuple[AddressReport, ...] = ()
    moves: tuple[MoveReport, ...] = ()
    sessions: tuple[SessionReport, ...] = ()
    errors: tuple[str, ...] = ()
    holds: tuple[HoldReport, ...] = ()

    @property
    def node(self) -> NodeName:
        return NodeName(self.ref.name)
