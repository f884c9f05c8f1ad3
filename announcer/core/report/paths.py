"""What BFD says about the way to each peer, beside the session with it."""

from collections.abc import Iterable
from dataclasses import replace

from announcer.core.detection import observed
from announcer.core.model import BfdState, DesiredPeer, ObservedBfd, SessionReport, Unknown

NOT_KNOWN = "unknown"


def with_bfd(
    sessions: Iterable[SessionReport], peers: Iterable[DesiredPeer], bfd: tuple[ObservedBfd, ...] | Unknown | None
) -> tuple[SessionReport, ...]:
    """The sessions, with the state of what watches the path to their peers. None, where there is no bfdd."""
    words = {} if bfd is None else {p.peer_address: _words(observed(p, bfd)) for p in peers if p.bfd is not None}
    return tuple(replace(one, bfd=words.get(one.peer_address, "")) for one in sessions)


def _words(session: ObservedBfd | None) -> str:
    if session is None:
        return NOT_KNOWN
    why = f": {session.diagnostic}" if session.diagnostic and session.state is not BfdState.UP else ""
    return f"{session.state.value}{why}"
