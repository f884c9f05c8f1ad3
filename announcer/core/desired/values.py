"""The parts of `Desired`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from announcer.core.model import (
    VIRTUAL_IFNAME,
    DesiredPeer,
    Guard,
    IfName,
    IPAddress,
    IPNetwork,
    KernelRoute,
    NodeName,
    Reason,
    Route,
    ServiceKey,
    SetDevconf,
)
from announcer.core.own import Neighbor


class Mode(Enum):
    LOCAL = "local"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """This node may hold `address` on `ifname`; `candidates` in order, this node at `position`, from 0."""

    address: IPAddress
    ifname: IfName
    position: int
    candidates: tuple[NodeName, ...]


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
    keep_peers: frozenset[IPAddress] = frozenset()
    """Addresses of peers that are to stay as they run, as it isn't known how they should."""
    unready: tuple[DesiredPeer, ...] = ()
    """Those of `keep_peers` of which all is known but what keeps them from being begun."""
    are_peers_known: bool = True
    is_in_service: bool = True
    """As the node's own object says."""
    notes: tuple[str, ...] = ()
    """What is wrong with sessions that this node should have."""
    bgp: Mapping[IPAddress, Mapping[IPNetwork, Route]] = field(default_factory=dict)
    keep: frozenset[IPAddress] = frozenset()
    placements: tuple[Placement, ...] = ()
    node_lladdrs: frozenset[str] = frozenset()
    neighbors: Mapping[str, Neighbor] = field(default_factory=dict)
    """Other nodes' links by MAC."""
    guard: Guard | None = None
    """None where no address is to be guarded."""
