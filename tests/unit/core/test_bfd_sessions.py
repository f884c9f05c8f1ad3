"""From BFDProfiles and peers to the sessions of bfdd, and what is said of those that can't be."""

from typing import Any

import pytest

from announcer.core.desired import Desired, desired
from announcer.core.model import (
    UNKNOWN,
    BfdSession,
    BfdSettings,
    NodeName,
    ObservedBfd,
    Problem,
    Reason,
    SessionReport,
    SetBfd,
    SetPeers,
    TearDown,
    Unknown,
)
from announcer.core.plan import Pace, plan
from announcer.core.report import with_bfd
from tests.builders import Raw, kernel, metallb, peer, raw, snapshot
from tests.unit.core.test_detection import BGP_DOWN, BGP_UP, FAILED, JUST_TOR, OTHER, OWN, TOR, UP

FAST = metallb("BFDProfile", "fast", receiveInterval=100, transmitInterval=100)
WATCHED = peer(bfdProfile="fast")
SESSION = BfdSession(
    peer_address=TOR,
    local_address=OWN,
    settings=BfdSettings(receive_milliseconds=100, transmit_milliseconds=100),
)


def wanted(*objects: Raw, has_bfd: bool = True) -> Desired:
    found = desired(snapshot(*objects), NodeName("n1"), kernel(), has_bfd=has_bfd)
    assert isinstance(found, Desired)
    return found


def sessions(*objects: Raw) -> list[BfdSession]:
    return [one.bfd for one in wanted(*objects).peers if one.bfd]


def problem(*objects: Raw) -> Problem:
    (found,) = snapshot(*objects).problems
    assert found.field == "spec.bfdProfile"
    return found


def test_peer_has_a_session_with_the_settings_of_its_profile() -> None:
    assert sessions(FAST, WATCHED, peer("plain", "10.111.111.253")) == [SESSION]


@pytest.mark.parametrize(
    ("more", "is_multihop"),
    [
        ({}, False),
        ({"ebgpMultiHop": True}, True),
        ({"peerASN": 64512}, False),
        ({"peerASN": 64512, "peerAddress": "192.0.2.1"}, True),
    ],
)
def test_bfd_goes_over_several_hops_where_frr_would(more: dict[str, Any], is_multihop: bool) -> None:
    (found,) = sessions(FAST, peer(**{"bfdProfile": "fast"} | more))
    assert found.is_multihop == is_multihop


def test_every_field_of_a_profile_is_read() -> None:
    fields = {"receiveInterval": 10, "transmitInterval": 20, "detectMultiplier": 5, "echoInterval": 30}
    every = metallb("BFDProfile", "fast", **fields, echoMode=True, passiveMode=True, minimumTtl=200)
    (found,) = sessions(every, WATCHED)
    assert found.settings == BfdSettings(
        receive_milliseconds=10,
        transmit_milliseconds=20,
        detect_multiplier=5,
        echo_milliseconds=30,
        is_echoing=True,
        is_passive=True,
        minimum_ttl=200,
    )


def configuration(**bfd: Any) -> Raw:
    neighbor = {"config": {"neighborAddress": str(TOR), "peerAsn": 64513}, "bfd": bfd}
    body = {"global": {"asn": 64512}, "neighbors": [neighbor]}
    spec = {"netlinkImport": {"enabled": True, "interfaceList": ["kube-lb0"]}} | body
    return raw("bgp.purelb.io/v1", "BGPConfiguration", "default", namespace="purelb-system", spec=spec)


def test_neighbor_of_purelb_has_its_own_settings() -> None:
    (found,) = sessions(configuration(enabled=True, desiredMinimumTxInterval=300000, detectionMultiplier=4))
    assert found.settings == BfdSettings(receive_milliseconds=1000, transmit_milliseconds=300, detect_multiplier=4)
    assert sessions(configuration(enabled=False)) == []


def test_profile_that_is_not_there_refuses_the_peer_with_a_hint() -> None:
    found = problem(FAST, peer(bfdProfile="fats"))
    assert (found.reason, found.remedy) == (Reason.UNKNOWN_PROFILE, "did you mean fast?")


@pytest.mark.parametrize("more", [{"ebgpMultiHop": True}, {"peerAddress": "fd00:111::fe"}])
def test_echo_where_there_is_none_refuses_the_peer(more: dict[str, Any]) -> None:
    echo = metallb("BFDProfile", "echo", echoMode=True)
    assert "echoMode" in problem(echo, peer(**{"bfdProfile": "echo"} | more)).message


def test_echo_over_several_hops_of_ibgp_is_said_by_the_node() -> None:
    echo = metallb("BFDProfile", "echo", echoMode=True)
    found = wanted(echo, peer(bfdProfile="echo", peerASN=64512, peerAddress="192.0.2.1"))
    assert [one.bfd for one in found.peers] == [None]
    assert "echoMode" in found.notes[0]


def test_without_bfdd_the_session_runs_and_the_profile_is_refused_by_name() -> None:
    found = wanted(FAST, WATCHED, has_bfd=False)
    assert [(one.peer_address, one.bfd) for one in found.peers] == [(TOR, None)]
    assert "bfdProfile fast" in found.notes[0]
    assert "--bfd-dir" in found.notes[0]


def actions(seen: tuple[ObservedBfd, ...] | Unknown | None, *, is_up: bool = True, now: float = 100.5) -> list[Any]:
    found = plan(wanted(FAST, WATCHED), kernel(), BGP_UP if is_up else BGP_DOWN, now, Pace(), seen).actions
    return [a for a in found if isinstance(a, SetBfd | SetPeers | TearDown)]


def test_plan_ends_the_session_and_leaves_the_peer_out() -> None:
    watch, without = SetBfd(sessions=(SESSION,)), SetPeers(peers=(), left_out=JUST_TOR)
    assert actions((FAILED,)) == [watch, TearDown(peer_address=TOR), without]
    assert actions((FAILED,), is_up=False) == [watch, without]
    assert actions((UP,)) == [watch, SetPeers(peers=wanted(FAST, WATCHED).peers)]


def test_plan_without_bfdd_says_nothing_to_it() -> None:
    assert actions(None) == [SetPeers(peers=wanted(FAST, WATCHED).peers)]


def test_plan_tears_down_a_peer_that_is_not_ready_and_keeps_it_configured() -> None:
    """Left out, it would be lost: its password isn't known."""
    found = wanted(FAST, peer(bfdProfile="fast", passwordSecret={"name": "tor"}))
    made = plan(found, kernel(), BGP_UP, 100.5, Pace(), (FAILED,))
    keeping = SetPeers(peers=(), keeps=JUST_TOR)
    assert made.actions == (SetBfd(sessions=(), keeps=JUST_TOR), TearDown(peer_address=TOR), keeping)
    assert plan(found, kernel(), BGP_UP, 100.5, Pace(), (UP,)).actions[1:] == (keeping,)


def test_plan_keeps_sessions_while_peers_are_not_known() -> None:
    broken = peer("broken", "10.111.111.253", peerASN=0)
    found = plan(wanted(FAST, WATCHED, broken), kernel(), BGP_UP, 0.0, Pace(), ()).actions
    assert SetBfd(sessions=(SESSION,), keeps_others=True) in found


@pytest.mark.parametrize(
    ("seen", "words"),
    [((UP,), "up"), ((FAILED,), "down: detection time expired"), ((), "unknown"), (UNKNOWN, "unknown"), (None, "")],
)
def test_report_says_how_each_path_fares(seen: tuple[ObservedBfd, ...] | Unknown | None, words: str) -> None:
    told = (SessionReport(peer_address=TOR), SessionReport(peer_address=OTHER))
    assert [one.bfd for one in with_bfd(told, wanted(FAST, WATCHED).peers, seen)] == [words, ""]
