"""Events: what is said of a change of state, once. Reasons are the peers' own where they have one.

A write of a status takes a `Tell`: given the status that stood there before, what there is to say. The status itself is
the memory, so a restart repeats nothing, and a write that was replaced by a later one before it went out says nothing.

| object | state | reason: PureLB's | MetalLB's |
|---|---|---|---|
| Service | other addresses than before | AddressAssigned | IPAllocated |
| | refused, or for another reason | AllocationFailed | AllocationFailed |
| | no LoadBalancer any more | AddressReleased | ClearAssignment |
| | a part of it has no effect | ConfigurationWarning | ConfigurationWarning |
| | a node begins to announce it, and why it moved | AnnouncingLocal, AnnouncingNonLocal | nodeAssigned |
| | a node doesn't any more, and why | Withdrawn | Withdrawn |
| | a foreign host answers | AnnouncementFailed | announceFailed |
| BGPPeer, BGPConfiguration | a session is established | BGPSessionUp | BGPSessionUp |
| | has ended, and why | BGPSessionDown | BGPSessionDown |
| pool, peer, ... | wrong | ParseFailed (ServiceGroup), ConfigError (LBNodeAgent) | the Reason |
| | right again; a new ServiceGroup | Parsed (ServiceGroup) | Accepted |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from announcer.core.model import ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an Event says."""

    ref: ObjectRef
    reason: str
    message: str
    is_warning: bool = False


Tell = Callable[[Mapping[str, Any]], Sequence[Note]]


def tell_nothing(_before: Mapping[str, Any]) -> Sequence[Note]:
    return ()


def judgment(status: Mapping[str, Any], kind: str) -> tuple[str, str, str] | None:
    """Status, reason and message of a condition; None where there is none of this type."""
    found = (c for c in status.get("conditions") or () if c.get("type") == kind)
    return next(((c.get("status", ""), c.get("reason", ""), c.get("message") or "") for c in found), None)
