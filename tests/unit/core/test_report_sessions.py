"""Sessions in a node's report: state, since when, why, the routes; and what of it is told as Events."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest

from announcer.core.desired import Desired
from announcer.core.model import (
    UNKNOWN,
    AdvertisedRoute,
    DesiredPeer,
    IPAddress,
    NodeName,
    ObservedBgp,
    ObservedPeer,
    Route,
    SessionReport,
    Unknown,
)
from announcer.core.own import Ownership
from announcer.core.report import Note, Past, doubtful_status, ended, hold_report, node_status, node_tell, recall
from announcer.core.report.sessions import session_notes, sessions_status
from tests.builders import Raw, ip, net, peer, raw, snapshot

TOR, NOON = ip("10.111.111.254"), datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ONE, TWO, SIX = (Route(prefix=net(text)) for text in ("10.1.0.1/32", "10.1.0.2/32", "fd00::1/128"))
PEER = DesiredPeer(
    name="tor", my_asn=64512, peer_asn=64513, peer_address=TOR, local_address=TOR, router_id=IPv4Address("10.111.111.2")
)


def wanted(*routes: Route, peers: tuple[DesiredPeer, ...] = (PEER,)) -> Desired:
    return Desired(peers=peers, bgp={TOR: {route.prefix: route for route in routes}})


def seen(*routes: Route, since: datetime | None = NOON, **more: Any) -> ObservedBgp:
    table = {route.prefix: AdvertisedRoute(route=route, since=0.0) for route in routes}
    one = ObservedPeer(peer_address=TOR, is_established=True, routes=table, since=since)
    return ObservedBgp(peers=(replace(one, **more),))


def down(since: datetime | None = NOON, why: str = "NOTIFICATION") -> ObservedBgp:
    return seen(since=since, is_established=False, last_error=why)


def told(bgp: ObservedBgp | Unknown, *history: SessionReport, of: Desired | None = None) -> SessionReport:
    (found,) = recall(history, of or wanted(), bgp, NOON + timedelta(hours=1))
    return found


def counts(bgp: ObservedBgp, *routes: Route) -> tuple[int, int, int]:
    one = told(bgp, of=wanted(*routes))
    return one.proven, one.pending, one.refused


def test_session_of_which_nothing_was_known_yet_says_no_time() -> None:
    """Its schema takes a time or nothing, and a report that is refused says nothing of the rest."""
    (one,) = sessions_status(recall((), wanted(), UNKNOWN, NOON))
    assert (one["state"], "since" in one) == ("Unknown", False)
    (then,) = sessions_status(recall((), wanted(), down(), NOON))
    assert then["since"] == "2026-11-26T12:00:00Z"
    assert list(session_notes("n1", {"sessions": [then]}, {"sessions": [one]}, ())) == []


# -- where routes are --------------------------------------------------------------------------------------------------


def test_routes_are_proven_as_they_are_wanted() -> None:
    draining = replace(ONE, communities=frozenset({"65535:0"}))
    assert counts(seen(ONE, TWO), ONE, TWO) == (2, 0, 0)
    assert counts(seen(draining), ONE) == (0, 1, 0)
    assert counts(seen(ONE, pending=frozenset({ONE.prefix})), ONE) == (0, 1, 0)


def test_routes_that_nobody_wants_any_more_are_pending_until_they_are_gone() -> None:
    assert counts(seen(ONE, TWO), ONE) == (1, 1, 0)
    assert counts(seen(ONE), ONE) == (1, 0, 0)


def test_routes_of_a_session_that_is_down_are_pending() -> None:
    assert counts(down(), ONE, TWO) == (0, 2, 0)


def test_routes_are_refused_by_family_or_by_exabgp() -> None:
    assert counts(seen(ONE, families=frozenset({4})), ONE, SIX) == (1, 0, 1)
    assert counts(seen(ONE), ONE, SIX) == (1, 1, 0)
    there = frozenset({TWO.prefix})
    assert counts(seen(ONE, pending=there, refused=there), ONE, TWO) == (1, 0, 1)
    assert counts(seen(ONE, TWO, refused=there), ONE, TWO) == (2, 0, 0), "a change that is not wanted any more"


# -- peers that aren't ready or not known ------------------------------------------------------------------------------

UNREADY, LOST = Desired(keep_peers=frozenset({TOR})), Desired(are_peers_known=False)


@pytest.mark.parametrize("of", [UNREADY, LOST, Desired(bgp={TOR: {}})])
def test_session_of_a_peer_that_is_not_ready_or_not_known_keeps_its_history(of: Desired) -> None:
    lost = told(down(NOON))
    up = told(seen(), lost)
    silent = told(UNKNOWN, up, of=of)
    assert silent == replace(up, is_known=False)
    again = told(seen(), silent, of=of)
    assert (again.peer, again.since, again.last_error) == ("tor", up.since, "NOTIFICATION")
    now = {"sessions": sessions_status([again])}
    assert list(session_notes("n1", {"sessions": sessions_status([silent])}, now, ())) == []


def test_session_of_a_peer_that_is_gone_is_told_no_more() -> None:
    assert recall((told(seen()),), Desired(), UNKNOWN, NOON) == ()
    assert recall((told(seen()),), LOST, ObservedBgp(), NOON) == ()


# -- since when --------------------------------------------------------------------------------------------------------


def test_session_says_since_when_it_is_what_it_is() -> None:
    up = told(seen())
    assert (up.state, up.since, up.peer) == ("Established", "2026-11-26T12:00:00Z", "tor")
    lost = told(down(NOON + timedelta(minutes=1)), up)
    assert (lost.state, lost.since, lost.last_error) == ("Down", "2026-11-26T12:01:00Z", "NOTIFICATION")


def test_same_session_keeps_its_time_though_it_is_measured_again() -> None:
    up = told(seen())
    for other in (NOON - timedelta(seconds=1), NOON + timedelta(seconds=30), None):
        assert told(seen(since=other, is_since_seen=False), up).since == up.since
    assert told(seen(since=NOON + timedelta(seconds=31), is_since_seen=False), up).since == "2026-11-26T12:00:31Z"
    assert told(seen(since=NOON + timedelta(seconds=1)), up).since == "2026-11-26T12:00:01Z"


def test_peer_that_nobody_saw_end_is_down_since_the_first_look_and_stays_so() -> None:
    first = told(down(since=None))
    assert first.since == "2026-11-26T13:00:00Z"
    later = recall((first,), wanted(), down(since=None), NOON + timedelta(hours=9))
    assert later == (first,)


def test_last_error_outlasts_the_session_that_comes_back_and_the_agent() -> None:
    lost = told(down())
    assert told(seen(), lost).last_error == "NOTIFICATION"
    assert told(seen(last_error="other"), lost).last_error == "other"


def test_silent_sidecar_leaves_what_was_known_last() -> None:
    up = told(seen(ONE), of=wanted(ONE))
    silent = told(UNKNOWN, up)
    assert silent == replace(up, is_known=False)
    assert silent.state == "Unknown"
    assert told(seen(ONE), silent, of=wanted(ONE)) == up


def test_peer_that_exabgp_does_not_know_yet_is_down_and_one_that_is_not_wanted_any_more_is_shown() -> None:
    assert told(ObservedBgp()).state == "Down"
    assert told(seen(), of=wanted(peers=())).state == "Established"


def test_sessions_come_back_from_the_report() -> None:
    sessions = recall((), wanted(ONE, SIX), seen(ONE, families=frozenset({4}), last_error="x"), NOON)
    status = node_status((), wanted(), Ownership(), seen(), (), Past(sessions=sessions))
    report = next(r for r in snapshot(announcement(status)).reports if r.node == "n1")
    assert report.sessions == sessions
    unsure = doubtful_status((), hold_report(NOON, "x"), Past(sessions=sessions))
    report = next(r for r in snapshot(announcement(unsure)).reports if r.node == "n1")
    assert report.sessions == tuple(replace(one, is_known=False) for one in sessions)


def announcement(status: object) -> Raw:
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status=status)


# -- Events ------------------------------------------------------------------------------------------------------------


def notes(before: SessionReport | None, after: SessionReport) -> list[Note]:
    cluster = snapshot(peer("tor"), peer("other", "10.111.111.253"))
    old, new = (
        node_status((), wanted(), Ownership(), seen(), (), Past(sessions=(one,) if one else ()))
        for one in (before, after)
    )
    return list(node_tell(NodeName("n1"), new, cluster.pools, cluster.peers)(old))


UP, DOWN = told(seen()), told(down(NOON + timedelta(minutes=1)), told(seen()))
AGAIN = told(seen(since=NOON + timedelta(minutes=2)), DOWN)


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (None, UP, ["BGPSessionUp"]),
        (None, DOWN, []),
        (UP, UP, []),
        (UP, DOWN, ["BGPSessionDown"]),
        (DOWN, DOWN, []),
        (DOWN, AGAIN, ["BGPSessionUp"]),
        (UP, AGAIN, ["BGPSessionDown", "BGPSessionUp"]),
        (UP, told(UNKNOWN, UP), []),
        (told(UNKNOWN, UP), UP, []),
        (told(UNKNOWN, UP), DOWN, ["BGPSessionDown"]),
        (told(UNKNOWN, UP), AGAIN, ["BGPSessionDown", "BGPSessionUp"]),
    ],
)
def test_change_of_a_session_is_told_once(
    before: SessionReport | None, after: SessionReport, reasons: list[str]
) -> None:
    assert [note.reason for note in notes(before, after)] == reasons


def test_event_is_of_the_peer_s_object_and_says_why() -> None:
    (note,) = notes(UP, DOWN)
    assert (str(note.ref), note.is_warning) == ("BGPPeer metallb-system/tor", True)
    assert note.message == "Node n1: the session with 10.111.111.254 has ended: NOTIFICATION"
    (note,) = notes(replace(UP, peer="gone"), replace(DOWN, peer="gone"))
    assert str(note.ref) == "Node n1"


@pytest.mark.parametrize(
    ("before", "after", "peers"),
    [(UP, UP, ()), (UP, DOWN, (TOR,)), (UP, AGAIN, (TOR,)), (DOWN, AGAIN, ()), (UP, told(UNKNOWN, UP), ())],
)
def test_ends_of_sessions_are_counted(
    before: SessionReport, after: SessionReport, peers: tuple[IPAddress, ...]
) -> None:
    assert ended((before,), (after,)) == peers
