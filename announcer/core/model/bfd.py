"""Bidirectional Forwarding Detection (RFC 5880): what people ask for, and what a session was seen to do."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from announcer.core.model.basics import IPAddress, ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdSettings:
    """Intervals are in milliseconds. `minimum_ttl` counts only over several hops (RFC 5883 §5), echo only over one."""

    receive_milliseconds: int = 300
    transmit_milliseconds: int = 300
    detect_multiplier: int = 3
    echo_milliseconds: int = 50
    is_echoing: bool = False
    is_passive: bool = False
    minimum_ttl: int = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdProfile:
    """A BFDProfile, which a BGPPeer names."""

    ref: ObjectRef
    settings: BfdSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdSession:
    """A session that this node should have, beside the BGP session between the same two addresses."""

    peer_address: IPAddress
    local_address: IPAddress
    is_multihop: bool = False
    settings: BfdSettings = BfdSettings()


class BfdState(Enum):
    """bfd.SessionState (RFC 5880 §4.1), in the words of FRR's bfdd."""

    ADMIN_DOWN = "adm-down"
    DOWN = "down"
    INIT = "init"
    UP = "up"


class Diagnostic(IntEnum):
    """Why a session left Up the last time (RFC 5880 §4.1)."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBfd:
    """A session as bfdd shows it. `since` is when it came into its state, in monotonic seconds of this process;
    `outage` is for how many seconds it was down before it came up, as far as this process has seen it.
    """

    peer_address: IPAddress
    local_address: IPAddress
    is_multihop: bool = False
    state: BfdState = BfdState.DOWN
    diagnostic: Diagnostic = Diagnostic.NONE
    remote_diagnostic: Diagnostic = Diagnostic.NONE
    since: float = 0.0
    outage: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether the path is known to be broken.

        | session | peer says | failed |
        |---|---|---|
        | Up, AdminDown | | no |
        | Down, and never was Up | | no: the peer may not run BFD (RFC 5882 §4.1) |
        | Down, as the neighbor says | nothing, or AdminDown | no: its end was put down (RFC 5882 §3.2, §4.2) |
        | Down, as the neighbor says | that it hears nothing, or another fault | yes |
        | Down for any other reason | | yes |
        """
        if self.state in {BfdState.UP, BfdState.ADMIN_DOWN}:
            return False
        if self.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_DOWN:
            return self.remote_diagnostic not in {Diagnostic.NONE, Diagnostic.ADMINISTRATIVELY_DOWN}
        return self.diagnostic not in {Diagnostic.NONE, Diagnostic.ADMINISTRATIVELY_DOWN}
