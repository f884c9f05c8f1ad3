"""The picture of what ExaBGP does: learned from events, with changes in flight until they are shown or late."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from announcer.core.model import UNKNOWN, ObservedBgp, ObservedPeer, Route
from announcer.exabgp import lines
from announcer.exabgp.lines import NeighborState, NeighborStates, Notified, RoutesSent, SessionDown, SessionUp, Speaker
from announcer.exabgp.picture import CLOSED, Picture
from tests.builders import ip, net

PEER = ip("10.9.0.1")
EBGP = Speaker(own_next_hops=frozenset({ip("10.9.0.2")}), is_ibgp=False)
IBGP = Speaker(own_next_hops=frozenset({ip("10.9.0.2")}), is_ibgp=True)
NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LATER, MINUTE = NOON + timedelta(hours=1), timedelta(minutes=1)
ROUTE = Route(prefix=net("10.1.0.1/32"))
DRAINING = Route(prefix=ROUTE.prefix, communities=frozenset({"65535:0"}))


def state(*, is_established: bool = True, families: frozenset[str] = frozenset({"ipv4 unicast"})) -> NeighborStates:
    agreed = families if is_established else frozenset[str]()
    neighbor = NeighborState(peer_address=PEER, is_established=is_established, families=agreed)
    return NeighborStates(neighbors=(neighbor,))


def sent(*routes: Route, withdrawn: tuple[Route, ...] = (), speaker: Speaker = EBGP) -> RoutesSent:
    prefixes = tuple(route.prefix for route in withdrawn)
    return RoutesSent(peer_address=PEER, speaker=speaker, routes=routes, withdrawn=prefixes)


def up(*routes: Route) -> Picture:
    picture = Picture()
    picture.session_changed(SessionUp(peer_address=PEER), NOON)
    picture.sent(sent(*routes), now=1.0)
    return picture


def begun(picture: Picture, *, advertise: tuple[Route, ...] = (), withdraw: tuple[Route, ...] = ()) -> lines.Change:
    (change,) = lines.advertise(PEER, advertise) if advertise else lines.withdraw(PEER, withdraw)
    picture.begin(change)
    return change


def seen(picture: Picture) -> ObservedPeer:
    observed = picture.observed()
    assert isinstance(observed, ObservedBgp)
    (peer,) = observed.peers
    return peer


# -- learning --------------------------------------------------------------------------------------------------------


def test_picture_of_a_peer_that_is_down_is_known_at_once() -> None:
    picture = Picture()
    picture.states(state(is_established=False), NOON)
    assert seen(picture) == ObservedPeer(peer_address=PEER, is_established=False)


def test_picture_is_unknown_until_the_end_of_rib_after_the_flush() -> None:
    picture = Picture()
    picture.states(state(), NOON)
    early = picture.end_of_rib(lines.EndOfRib(peer_address=PEER, family="ipv4 unicast"))
    assert (early, picture.observed(), picture.unlearned()) == (False, UNKNOWN, (PEER,))
    family = picture.await_end_of_rib(PEER)
    picture.sent(sent(ROUTE), now=1.0)
    assert picture.observed() is UNKNOWN
    assert picture.end_of_rib(lines.EndOfRib(peer_address=PEER, family=family))
    assert seen(picture).routes[ROUTE.prefix].route == ROUTE


def test_picture_shows_a_peer_that_is_given_up_as_not_established_until_it_speaks() -> None:
    picture = Picture()
    picture.states(state(), NOON)
    family = picture.await_end_of_rib(PEER)
    picture.give_up()
    assert (seen(picture).is_established, seen(picture).is_learned) == (False, False)
    assert seen(picture).last_error
    picture.end_of_rib(lines.EndOfRib(peer_address=PEER, family=family))
    assert (seen(picture).is_established, seen(picture).is_learned) == (True, True)


def test_session_that_began_before_our_eyes_needs_no_learning() -> None:
    picture = up(ROUTE)
    picture.states(state(), NOON)
    assert (picture.unlearned(), seen(picture).is_established) == ((), True)


def test_states_forget_a_peer_that_exabgp_does_not_name() -> None:
    picture = up(ROUTE)
    picture.states(NeighborStates(neighbors=()), NOON)
    assert picture.observed() == ObservedBgp()


def test_session_down_takes_routes_and_changes_off_the_picture() -> None:
    picture = up(ROUTE)
    begun(picture, withdraw=(ROUTE,))
    assert picture.session_changed(SessionDown(peer_address=PEER, reason="peer reset"), LATER)
    lost = ObservedPeer(peer_address=PEER, is_established=False, since=LATER, last_error="peer reset")
    assert seen(picture) == lost
    assert not picture.session_changed(SessionDown(peer_address=PEER, reason="peer reset"), LATER + MINUTE)
    assert seen(picture) == lost


# -- since when, and why -----------------------------------------------------------------------------------------------


def ends(picture: Picture, *notifications: str, reason: str = "closing connection") -> str:
    for text in notifications:
        picture.notified(Notified(peer_address=PEER, text=text))
    picture.session_changed(SessionDown(peer_address=PEER, reason=reason), LATER)
    return seen(picture).last_error


def test_session_that_was_up_before_anybody_listened_says_since_when() -> None:
    picture = Picture()
    (one,) = state().neighbors
    picture.states(NeighborStates(neighbors=(replace(one, up_seconds=60),)), NOON)
    picture.give_up()
    assert (seen(picture).since, seen(picture).is_since_seen) == (NOON - MINUTE, False)
    assert seen(up()).is_since_seen


def test_session_that_exabgp_shows_as_ended_ended_by_then() -> None:
    picture = up(ROUTE)
    picture.notified(Notified(peer_address=PEER, text="why"))
    picture.states(state(is_established=False), LATER)
    assert (seen(picture).since, seen(picture).last_error) == (LATER, "why")


def test_notification_says_why_a_session_ended_and_attempts_after_it_do_not_hide_it() -> None:
    picture = up()
    assert ends(picture, "shut down", reason="notification received (6,2)") == "shut down"
    assert ends(picture) == "shut down"
    assert ends(picture, "bad AS", reason="notification received (2,2)") == "bad AS"
    picture.session_changed(SessionUp(peer_address=PEER), LATER + MINUTE)
    assert (seen(picture).last_error, seen(picture).since) == ("bad AS", LATER + MINUTE)
    assert ends(picture) == CLOSED


def test_error_of_a_route_goes_and_leaves_why_the_session_had_ended() -> None:
    picture = up()
    ends(picture, "shut down")
    picture.session_changed(SessionUp(peer_address=PEER), LATER)
    picture.answered(begun(picture, advertise=(ROUTE,)), until=20.0, error="ExaBGP refused")
    assert (seen(picture).last_error, seen(picture).refused) == ("ExaBGP refused", frozenset({ROUTE.prefix}))
    picture.sent(sent(ROUTE), now=5.0)
    assert (seen(picture).last_error, seen(picture).refused) == ("shut down", frozenset())


def test_families_are_shown_once_they_are_agreed() -> None:
    picture = up()
    assert seen(picture).families == frozenset()
    assert seen(picture).carries(net("fd00::/64"))
    picture.states(state(), NOON)
    assert seen(picture).families == frozenset({4})
    assert not seen(picture).carries(net("fd00::/64"))


# -- changes in flight -----------------------------------------------------------------------------------------------


def test_advertised_route_is_pending_until_sent() -> None:
    picture = up()
    begun(picture, advertise=(ROUTE,))
    assert (seen(picture).pending, dict(seen(picture).routes)) == (frozenset({ROUTE.prefix}), {})
    picture.sent(sent(ROUTE), now=5.0)
    assert seen(picture).pending == frozenset()
    assert seen(picture).routes[ROUTE.prefix].since == 5.0


def test_change_is_not_proven_by_another_route_for_the_same_prefix() -> None:
    picture = up()
    begun(picture, advertise=(DRAINING,))
    picture.sent(sent(ROUTE), now=5.0)
    assert seen(picture).pending == frozenset({ROUTE.prefix})
    assert seen(picture).routes[ROUTE.prefix].route == ROUTE


def test_withdraw_is_proven_by_the_prefix() -> None:
    picture = up(ROUTE)
    begun(picture, withdraw=(ROUTE,))
    picture.sent(sent(withdrawn=(ROUTE,)), now=5.0)
    assert (seen(picture).pending, dict(seen(picture).routes)) == (frozenset(), {})


def test_route_sent_again_keeps_since() -> None:
    picture = up(ROUTE)
    picture.sent(sent(ROUTE), now=9.0)
    assert seen(picture).routes[ROUTE.prefix].since == 1.0


def test_route_keeps_what_the_wire_does_not_show() -> None:
    asked = Route(prefix=ROUTE.prefix, local_pref=100)
    picture = up()
    begun(picture, advertise=(asked,))
    picture.sent(sent(ROUTE, speaker=IBGP), now=5.0)
    assert seen(picture).routes[ROUTE.prefix].route == asked


def test_adopt_sends_nothing_that_is_on_the_wire_by_another_name() -> None:
    picture = up(ROUTE)
    asked = Route(prefix=ROUTE.prefix, local_pref=200)  # eBGP: not sent
    assert picture.adopt(PEER, (asked,)) == ()
    assert seen(picture).routes[ROUTE.prefix].route == asked


def test_adopt_and_idle_leave_out_prefixes_in_flight() -> None:
    picture = up()
    begun(picture, advertise=(ROUTE,))
    assert picture.adopt(PEER, (DRAINING,)) == ()
    assert picture.idle(PEER, (ROUTE,)) == ()


def test_change_that_is_never_shown_stops_being_pending_and_makes_its_peer_suspect() -> None:
    picture = up()
    change = begun(picture, advertise=(ROUTE,))
    assert not picture.expire(1000.0), "unanswered lines have their own deadline"
    picture.answered(change, until=20.0, error="")
    assert (picture.expire(19.0), picture.expire(20.0)) == (False, True)
    assert (seen(picture).pending, picture.suspects()) == (frozenset(), (PEER,))
    picture.trust(PEER)
    assert picture.suspects() == ()


def test_refused_line_is_shown_and_stays_pending_until_its_deadline() -> None:
    picture = up()
    picture.answered(begun(picture, advertise=(ROUTE,)), until=20.0, error="ExaBGP refused")
    assert (seen(picture).last_error, seen(picture).pending) == ("ExaBGP refused", frozenset({ROUTE.prefix}))
    picture.sent(sent(ROUTE), now=5.0)
    assert seen(picture).last_error == ""


def refused() -> Picture:
    """Asked for ROUTE, and after the answer's time nothing is in flight."""
    picture = up()
    picture.answered(begun(picture, advertise=(ROUTE,)), until=20.0, error="ExaBGP refused")
    assert picture.expire(20.0), "it is to be asked for again"
    return picture


def test_refused_change_stays_refused_after_its_deadline_and_makes_nobody_suspect() -> None:
    picture = refused()
    assert (seen(picture).refused, seen(picture).pending) == (frozenset({ROUTE.prefix}), frozenset())
    assert (seen(picture).last_error, picture.suspects()) == ("ExaBGP refused", ())
    other = Route(prefix=net("10.1.0.2/32"))
    picture.sent(sent(other), now=5.0)
    assert seen(picture).last_error == "ExaBGP refused"
    begun(picture, advertise=(ROUTE,))
    assert seen(picture).refused == frozenset({ROUTE.prefix})


@pytest.mark.parametrize("how", ["another", "taken", "shown", "gone"])
def test_refusal_ends(how: str) -> None:
    picture = refused()
    change = begun(picture, advertise=(DRAINING if how == "another" else ROUTE,))
    if how == "taken":
        assert seen(picture).refused
        picture.answered(change, until=40.0, error="")
    elif how != "another":
        picture.sent(sent(ROUTE) if how == "shown" else sent(withdrawn=(ROUTE,)), now=30.0)
    assert seen(picture).refused == frozenset()


def test_not_agreed_names_families_once_they_are_known() -> None:
    picture = up()
    v6 = Route(prefix=net("fd00::/64"))
    assert picture.not_agreed(PEER, (ROUTE, v6)) == frozenset()
    picture.states(state(), NOON)
    assert picture.not_agreed(PEER, (ROUTE, v6)) == frozenset({"ipv6 unicast"})


def test_events_of_peers_that_are_not_known_change_nothing() -> None:
    picture = Picture()
    picture.sent(sent(ROUTE), now=1.0)
    assert not picture.end_of_rib(lines.EndOfRib(peer_address=PEER, family="ipv4 unicast"))
    picture.answered(lines.advertise(PEER, (ROUTE,))[0], until=1.0, error="")
    picture.trust(PEER)
    picture.notified(Notified(peer_address=PEER, text="x"))
    assert picture.observed() == ObservedBgp()
