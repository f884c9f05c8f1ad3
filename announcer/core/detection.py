"""What BFD makes of BGP sessions (RFC 5882 §4): which to tear down, which to leave out, and when to look again.

| BFD of a peer | the BGP session is |
|---|---|
| has failed, less than `hold` seconds ago | torn down (RFC 9384) and left out |
| has failed, longer ago | tried again: the router may have been told to do without BFD. What comes up stays up |
| Up again, at once or within `hold` | set up again |
| Up again after a longer outage, while BGP is not | left out for `renew` seconds, so that ExaBGP connects afresh |
| not known, never Up, put down by a person | left alone |

An attempt to connect that dates from the outage may sleep for a minute. Peers without BFD are never named here.
Of one that isn't ready to be begun (`Desired.unready`), `plan` takes only that it is torn down.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from announcer.core.model import BfdState, DesiredPeer, IPAddress, ObservedBfd, ObservedBgp, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds, as in the table above."""

    hold: float = 10.0
    renew: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`again_in` is when the verdict will be another one although nothing has changed by then."""

    torn_down: frozenset[IPAddress] = frozenset()
    left_out: frozenset[IPAddress] = frozenset()
    again_in: float | None = None


def judge(
    peers: Iterable[DesiredPeer],
    bfd: tuple[ObservedBfd, ...] | Unknown,
    bgp: ObservedBgp | Unknown,
    now: float,
    patience: Patience,
) -> Verdict:
    """`bgp` that isn't known ends nothing, and keeps nothing from being left out."""
    up = set() if isinstance(bgp, Unknown) else {p.peer_address for p in bgp.peers if p.is_established}
    torn, out, waits = set(), set(), []
    for peer in peers:
        session = observed(peer, bfd)
        if session is None:
            continue
        age = now - session.since
        if session.has_failed and age < patience.hold:
            torn |= {peer.peer_address} & up
            out.add(peer.peer_address)
            waits.append(patience.hold - age)
        elif _is_stale(session, patience) and peer.peer_address not in up and age < patience.renew:
            out.add(peer.peer_address)
            waits.append(patience.renew - age)
    return Verdict(torn_down=frozenset(torn), left_out=frozenset(out), again_in=min(waits, default=None))


def observed(peer: DesiredPeer, bfd: tuple[ObservedBfd, ...] | Unknown) -> ObservedBfd | None:
    """What is known of the session that watches the peer."""
    wanted = peer.bfd
    if wanted is None or isinstance(bfd, Unknown):
        return None
    key = (wanted.peer_address, wanted.local_address, wanted.is_multihop)
    return next((s for s in bfd if (s.peer_address, s.local_address, s.is_multihop) == key), None)


def _is_stale(session: ObservedBfd, patience: Patience) -> bool:
    return session.state is BfdState.UP and session.outage > patience.hold
