"""Lines and answers of bfdd 8.4.4: what is asked is what is meant, and what can't be understood is not guessed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from announcer.bfd.messages import BfdError, canonical, parse_list, parse_notice, put, remove
from announcer.core.model import BfdSession, BfdSettings, BfdState, Diagnostic, ObservedBfd
from tests.builders import ip

SESSION = BfdSession(peer_address=ip("10.9.0.1"), local_address=ip("10.9.0.2"))
FAR = BfdSession(
    peer_address=ip("fd00:9::1"),
    local_address=ip("fd00:8::2"),
    is_multihop=True,
    settings=BfdSettings(receive_milliseconds=10, detect_multiplier=5, is_passive=True, minimum_ttl=200),
)
LISTED: dict[str, Any] = {
    "multihop": False,
    "peer": "10.9.0.1",
    "local": "10.9.0.2",
    "vrf": "default",
    "passive-mode": False,
    "status": "down",
    "downtime": 4,
    "diagnostic": "neighbor signaled session down",
    "remote-diagnostic": "control detection time expired",
    "receive-interval": 300,
    "transmit-interval": 300,
    "echo-receive-interval": 50,
    "echo-transmit-interval": 0,
    "detect-multiplier": 3,
}
SEEN = ObservedBfd(
    peer_address=ip("10.9.0.1"),
    local_address=ip("10.9.0.2"),
    state=BfdState.DOWN,
    diagnostic=Diagnostic.NEIGHBOR_SIGNALED_DOWN,
    remote_diagnostic=Diagnostic.DETECTION_TIME_EXPIRED,
    since=96.0,
)
NOTICE: dict[str, Any] = {
    "op": "status",
    "ipv6": False,
    "multihop": False,
    "peer-address": "10.9.0.1",
    "local-address": "10.9.0.2",
    "state": "down",
    "downtime": 4,
    "diagnostics": 3,
    "remote-diagnostics": 1,
}


def test_session_over_one_hop_has_echo_and_no_minimum_ttl() -> None:
    assert put(replace(SESSION, settings=BfdSettings(is_echoing=True, echo_milliseconds=60))) == (
        "peer 10.9.0.1 local-address 10.9.0.2",
        "detect-multiplier 3",
        "receive-interval 300",
        "transmit-interval 300",
        "no passive-mode",
        "echo transmit-interval 60",
        "echo receive-interval 60",
        "echo-mode",
    )


def test_session_over_several_hops_has_a_minimum_ttl_and_no_echo() -> None:
    assert put(FAR) == (
        "peer fd00:9::1 multihop local-address fd00:8::2",
        "detect-multiplier 5",
        "receive-interval 10",
        "transmit-interval 300",
        "passive-mode",
        "minimum-ttl 200",
    )


def test_removal_tells_the_neighbor_first() -> None:
    peer = "peer fd00:9::1 multihop local-address fd00:8::2"
    assert remove(FAR) == (peer, "shutdown", f"no {peer}")


def test_canonical_leaves_out_what_cannot_be_set() -> None:
    every = BfdSettings(is_echoing=True, echo_milliseconds=60, minimum_ttl=200)
    near, far = (canonical(replace(one, settings=every)).settings for one in (SESSION, FAR))
    assert near == BfdSettings(is_echoing=True, echo_milliseconds=60)
    assert far == BfdSettings(minimum_ttl=200)


def test_list_gives_settings_and_state() -> None:
    (found,) = parse_list(json.dumps([LISTED]), 100.0)
    assert (found.session, found.seen) == (SESSION, SEEN)


def test_list_of_a_session_over_several_hops_gives_what_was_put() -> None:
    raw = LISTED | {"multihop": True, "peer": "fd00:9::1", "local": "fd00:8::2", "minimum-ttl": 200}
    raw |= {"receive-interval": 10, "detect-multiplier": 5, "passive-mode": True, "status": "shutdown"}
    (found,) = parse_list(json.dumps([raw]), 100.0)
    assert (found.session, found.seen.state) == (FAR, BfdState.ADMIN_DOWN)


@pytest.mark.parametrize("more", [{"interface": "eth0"}, {"vrf": "red"}])
def test_list_leaves_out_what_is_not_ours(more: dict[str, Any]) -> None:
    assert parse_list(json.dumps([LISTED | more]), 0.0) == ()
    assert parse_list(json.dumps([{k: v for k, v in LISTED.items() if k != "local"}]), 0.0) == ()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"local": "x"}]', json.dumps([LISTED | {"status": "?"}])])
def test_list_that_is_none_says_so(text: str) -> None:
    with pytest.raises(BfdError, match="not a list of sessions"):
        parse_list(text, 0.0)


def test_notice_gives_the_state() -> None:
    assert parse_notice(json.dumps(NOTICE).encode(), 100.0) == SEEN


@pytest.mark.parametrize(
    "more",
    [{"op": "add"}, {"state": "unknown"}, {"local-interface": "eth0"}, {"peer-address": "x"}, {"diagnostics": None}],
)
def test_notice_that_is_not_for_us_is_none(more: dict[str, Any]) -> None:
    found = parse_notice(json.dumps(NOTICE | more).encode(), 0.0)
    assert found is None or (more == {"diagnostics": None} and found.diagnostic is Diagnostic.NONE)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{}", b'"x"', b"1"])
def test_notice_that_is_broken_is_none(payload: bytes) -> None:
    assert parse_notice(payload, 0.0) is None


def test_reason_that_nobody_knows_is_none() -> None:
    found = parse_notice(json.dumps(NOTICE | {"diagnostics": 31}).encode(), 0.0)
    assert found is not None
    assert found.diagnostic is Diagnostic.NONE
