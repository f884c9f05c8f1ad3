"""State and events of the ownership step.

What the step changes at every beat is a NamedTuple: its `_replace` takes a quarter of what `dataclasses.replace` takes
(0.9 against 3.6 µs for an Entry).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from announcer.core.model import Action, IfName, IPAddress, NodeName, WireEvent

Key = tuple[IfName, IPAddress]
Target = tuple[IfName, str]
"""A node as it is watched: the MAC of its link, on a link of ours."""


class Phase(Enum):
    WAITING = "waiting"
    PROBING = "probing"
    WATCHING = "watching"
    SUCCEEDING = "succeeding"
    HOLDING = "holding"
    LEAVING = "leaving"
    DARK = "dark"


class Cause(StrEnum):
    """Why an address moved: the `reason` of announcer_ownership_changes_total, and what people read."""

    UNHELD = "unheld"
    NODE_DEAD = "node-dead"
    AGENT_GONE = "agent-gone"
    PLANNED = "planned"
    CONFLICT = "conflict"
    CARRIER_LOST = "carrier-lost"
    FENCE_FELL = "fence-fell"
    FOREIGN_GONE = "foreign-gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """This node began or ceased to hold an address. `old` and `new` are nodes, else MACs, "" where nobody is known.

    `silent_seconds` is for how long nobody had answered, as this node saw it; 0 where somebody still did.
    """

    ifname: IfName
    address: IPAddress
    old: str
    new: str
    cause: Cause
    silent_seconds: float = 0.0


class Entry(NamedTuple):
    """One address on one link. `due` is when it acts next, `since` when the phase began.

    `order` are the candidates, `position` this node's place among them without the holder. `silent` counts probes in a
    row that left and have no answer, `asking` is when the one was decided that may still be on its way out;
    `announced` counts announcements; `holder` is the MAC that was heard last, at `heard`; `source` the
    dead MAC that this was taken from; `until` forbids something for a while: another planned claim after one that
    lost, of which there were `tries`, or another defence.
    """

    phase: Phase
    due: float
    since: float
    order: tuple[NodeName, ...] = ()
    position: int = 0
    silent: int = 0
    announced: int = 0
    holder: str = ""
    heard: float = 0.0
    source: str = ""
    until: float = 0.0
    tries: int = 0
    asking: float = -inf
    last_announced: float = -inf
    cause: Cause = Cause.UNHELD

    @property
    def is_held(self) -> bool:
        return self.phase is Phase.HOLDING or self.phase is Phase.LEAVING


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLink:
    """A link of this node: its MAC, its own addresses (what echoes come from), and the gateways behind it."""

    lladdr: str
    has_carrier: bool = True
    sources: tuple[IPAddress, ...] = ()
    gateways: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """Another node's link, by its MAC: whose it is, and the node's own addresses on it."""

    node: NodeName
    addresses: tuple[IPAddress, ...] = ()


class Watch(NamedTuple):
    """A node that is asked every interval. `echoed` once it has answered ICMP, `heard` when it last lived.

    `asking` is when this interval's question was decided, `probed` what it asks for by ARP; `asked` once it has left.
    `taken` is when each node's MAC last showed something that the dead node had held.
    """

    heard: float
    echoed: bool = False
    asking: float = -inf
    probed: IPAddress | None = None
    asked: bool = False
    has_echo: bool = False
    has_arp: bool = False
    silent: int = 0
    doubted: float | None = None
    is_dead: bool = False
    taken: Mapping[str, float] = MappingProxyType({})


class Ownership(NamedTuple):
    """The state of one node.

    `beat` is when nodes are asked next, `verdict` when the last question has waited long enough, `wake` when the first
    entry is due that doesn't wait for a beat, `due` a time before which none is. `seen` is when a MAC was last heard;
    `answered` when a gateway or a watched node last answered on a link, `reachable` the gateways that ever did.
    `refreshed` is when the kernel last took the fence, `removed` when something was last given up; `woke` when this
    agent last went on after it had stood still for so long that somebody could have taken over meanwhile; `changes`
    counts what others see in reports; `wanted` is whom to watch and what each one holds, `counts` of how many addresses
    each is the holder, None when that is to be found out anew.
    """

    entries: Mapping[Key, Entry] = MappingProxyType({})
    links: Mapping[IfName, OwnLink] = MappingProxyType({})
    neighbors: Mapping[str, Neighbor] = MappingProxyType({})
    watches: Mapping[Target, Watch] = MappingProxyType({})
    seen: Mapping[Target, float] = MappingProxyType({})
    answered: Mapping[IfName, float] = MappingProxyType({})
    reachable: frozenset[tuple[IfName, IPAddress]] = frozenset()
    node: NodeName | None = None
    began: float = inf
    beat: float = inf
    verdict: float = inf
    wake: float = inf
    due: float = 0.0
    sequence: int = 0
    changes: int = 0
    wanted: Mapping[Target, tuple[IPAddress, ...]] | None = None
    counts: Mapping[Target, int] | None = None
    beacon: float = 0.0
    refresh: float = 0.0
    refreshed: float = 0.0
    removed: float = -inf
    woke: float = -inf


@dataclass(frozen=True, slots=True, kw_only=True)
class May:
    """What the pass decided: who may hold what, in order, this node among them; `keep` nobody may judge."""

    node: NodeName
    candidacies: Mapping[Key, tuple[NodeName, ...]]
    neighbors: Mapping[str, Neighbor] = field(default_factory=dict)
    keep: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the kernel has of ours on real links; `at` is when the reading began."""

    keys: frozenset[Key]
    links: Mapping[IfName, OwnLink]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What was heard, in order."""

    frames: tuple[WireEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """The kernel has taken the fence that was decided at `at`."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions that were decided at `at` have left: probes of `addresses`, echoes to `lladdrs`.

    Only what is known to have been asked can be unanswered: whatever happens to a question on its way out, silence
    then says nothing.
    """

    ifname: IfName
    at: float
    addresses: tuple[IPAddress, ...] = ()
    lladdrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    pass


Event = May | Present | Frames | Refreshed | Asked | Tick
Step = tuple[Ownership, tuple[Action | Move, ...]]
