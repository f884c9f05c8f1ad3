"""What a daemon says of itself at a scrape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """`is_held`: what the source says is so much less than before that it isn't believed yet."""

    is_synced: bool
    is_held: bool
    away_seconds: float
    """For how long the source hasn't answered, 0 while it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassState:
    """`buckets` are upper bounds in seconds, +Inf the last, each with how many passes took no longer."""

    failures: int
    seconds: float
    buckets: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """What agent and allocator have in common. `unready` says why it isn't ready, empty where it is."""

    store: StoreState
    passes: PassState
    unready: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """Of an agent. `peers` and `routes` by state are None while the sidecar is not known: that is not 0. `sessions` are
    1 where established, by peer, and `session_routes` by peer and state.
    """

    process: ProcessState
    services: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By mode and reason."""
    failed_actions: Mapping[str, int] = field(default_factory=dict)
    """By kind of Action, every kind of a pass among them."""
    report_failures: int = 0
    moves: Mapping[str, int] = field(default_factory=dict)
    """By cause, every cause among them."""
    late: int = 0
    """Beats of ownership."""
    held: int = 0
    peers: Mapping[str, int] | None = None
    routes: Mapping[str, int] | None = None
    sessions: Mapping[str, int] = field(default_factory=dict)
    session_routes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    sessions_ended: Mapping[str, int] = field(default_factory=dict)
    """By peer, those that have one now among them."""
    bfd: Mapping[str, int] | None = None
    """BFD sessions by state, None while they are not known."""
    frames: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By link, the fields of `wire.Counters`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """Of an allocator; of services and pools only the leader knows."""

    process: ProcessState
    is_leader: bool
    services: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """Addresses by pool, family and state."""
