"""What BFD makes of BGP sessions: one row per line of the tables in `detection` and `ObservedBfd.has_failed`."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from announcer.core.detection import Patience, Verdict, judge
from announcer.core.model import (
    UNKNOWN,
    BfdSession,
    BfdState,
    DesiredPeer,
    Diagnostic,
    ObservedBfd,
    ObservedBgp,
    ObservedPeer,
    Unknown,
)
from tests.builders import ip

TOR, OWN, OTHER = ip("10.111.111.254"), ip("10.111.111.2"), ip("10.111.111.253")
PEER = DesiredPeer(
    name="tor",
    my_asn=64512,
    peer_asn=64513,
    peer_address=TOR,
    local_address=OWN,
    router_id=IPv4Address("10.111.111.2"),
    bfd=BfdSession(peer_address=TOR, local_address=OWN),
)
UNWATCHED = replace(PEER, name="other", peer_address=OTHER, bfd=None)
UP = ObservedBfd(peer_address=TOR, local_address=OWN, state=BfdState.UP, since=100.0)
FAILED = replace(UP, state=BfdState.DOWN, diagnostic=Diagnostic.DETECTION_TIME_EXPIRED)
BGP_UP = ObservedBgp(peers=tuple(ObservedPeer(peer_address=a, is_established=True) for a in (TOR, OTHER)))
BGP_DOWN = ObservedBgp(peers=(ObservedPeer(peer_address=TOR, is_established=False),))
JUST_TOR = frozenset({TOR})


def verdict(session: ObservedBfd | None, bgp: ObservedBgp | Unknown, after: float) -> Verdict:
    return judge((PEER, UNWATCHED), (session,) if session else (), bgp, 100.0 + after, Patience())


@pytest.mark.parametrize(
    ("state", "diagnostic", "remote", "has_failed"),
    [
        (BfdState.UP, 0, 0, False),
        (BfdState.UP, 1, 0, False),
        (BfdState.ADMIN_DOWN, 1, 0, False),
        (BfdState.DOWN, 0, 0, False),
        (BfdState.DOWN, 3, 0, False),
        (BfdState.DOWN, 3, 7, False),
        (BfdState.DOWN, 7, 0, False),
        (BfdState.DOWN, 3, 1, True),
        (BfdState.DOWN, 1, 0, True),
        (BfdState.DOWN, 2, 0, True),
        (BfdState.INIT, 1, 0, True),
        (BfdState.INIT, 0, 0, False),
    ],
)
def test_only_a_known_fault_is_a_failure(state: BfdState, diagnostic: int, remote: int, has_failed: bool) -> None:
    session = replace(UP, state=state, diagnostic=Diagnostic(diagnostic), remote_diagnostic=Diagnostic(remote))
    assert session.has_failed == has_failed


@pytest.mark.parametrize(
    ("session", "bgp", "after", "expected"),
    [
        (FAILED, BGP_UP, 2.0, Verdict(torn_down=JUST_TOR, left_out=JUST_TOR, again_in=8.0)),
        (FAILED, BGP_DOWN, 2.0, Verdict(left_out=JUST_TOR, again_in=8.0)),
        (FAILED, UNKNOWN, 2.0, Verdict(left_out=JUST_TOR, again_in=8.0)),
        (FAILED, BGP_DOWN, 10.0, Verdict()),
        (FAILED, BGP_UP, 10.0, Verdict()),
        (replace(UP, outage=2.0), BGP_DOWN, 0.25, Verdict()),
        (replace(UP, outage=20.0), BGP_DOWN, 0.25, Verdict(left_out=JUST_TOR, again_in=0.75)),
        (replace(UP, outage=20.0), BGP_UP, 0.25, Verdict()),
        (replace(UP, outage=20.0), BGP_DOWN, 1.0, Verdict()),
        (None, BGP_UP, 0.0, Verdict()),
        (replace(UP, state=BfdState.DOWN), BGP_UP, 0.25, Verdict()),
        (replace(FAILED, local_address=OTHER), BGP_UP, 0.25, Verdict()),
    ],
)
def test_verdict(session: ObservedBfd | None, bgp: ObservedBgp | Unknown, after: float, expected: Verdict) -> None:
    assert verdict(session, bgp, after) == expected


def test_what_is_not_known_ends_nothing() -> None:
    assert judge((PEER,), UNKNOWN, BGP_UP, 100.0, Patience()) == Verdict()
