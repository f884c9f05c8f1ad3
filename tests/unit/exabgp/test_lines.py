"""The codec: routes to command lines, and lines as ExaBGP 5.0.15 wrote them to values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from announcer.core.model import GRACEFUL_SHUTDOWN, LinkBandwidth, Route
from announcer.exabgp import lines
from announcer.exabgp.lines import Speaker, as_sent, parse
from announcer.exabgp.text import ExabgpError
from tests.builders import ip, net

PEER = ip("10.9.0.1")
EBGP = Speaker(own_next_hops=frozenset({ip("10.9.0.2")}), is_ibgp=False)
IBGP = Speaker(own_next_hops=frozenset({ip("10.9.0.2")}), is_ibgp=True)


def route(prefix: str = "10.1.0.1/32", *communities: str, **more: object) -> Route:
    local_pref = more.get("local_pref")
    next_hop = more.get("next_hop")
    assert local_pref is None or isinstance(local_pref, int)
    return Route(
        prefix=net(prefix),
        communities=frozenset(communities),
        local_pref=local_pref,
        next_hop=ip(str(next_hop)) if next_hop else None,
    )


def event(content: str, kind: str = "update") -> str:
    """A line as ExaBGP writes it, of which `content` is what follows the address and the AS numbers."""
    return (
        '{ "exabgp": "5.0.0", "time": 1795528942.16, "host" : "vm", "pid" : 11806, "ppid" : 1, "counter": 5, '
        f'"type": "{kind}", "neighbor": {{ "address": {{ "local": "10.9.0.2", "peer": "10.9.0.1" }}, '
        f'"asn": {{ "local": 64512, "peer": 64513 }}, "router-id": "10.9.0.2" , {content} }} }}'
    )


def sent(message: str) -> str:
    return event(f'"direction": "send", "message": {{ {message} }}')


# -- routes → lines --------------------------------------------------------------------------------------------------


def test_advertise_groups_by_attributes_and_sorts_by_prefix() -> None:
    changes = lines.advertise(PEER, [route("10.1.0.2/32"), route("10.1.0.3/32", "64512:7"), route("10.1.0.1/32")])
    assert [change.line for change in changes] == [
        "neighbor 10.9.0.1 announce attributes next-hop self origin igp nlri 10.1.0.1/32 10.1.0.2/32",
        "neighbor 10.9.0.1 announce attributes next-hop self origin igp community [64512:7] nlri 10.1.0.3/32",
    ]


def test_withdraw_carries_the_attributes_of_the_advertisement() -> None:
    given_route = route("10.1.0.1/32", GRACEFUL_SHUTDOWN, "large:1:2:3", local_pref=200)
    announced, withdrawn = lines.advertise(PEER, [given_route]), lines.withdraw(PEER, [given_route])
    assert withdrawn[0].line == announced[0].line.replace("announce", "withdraw")
    assert "local-preference 200 community [65535:0] large-community [1:2:3] nlri" in withdrawn[0].line


def test_advertise_puts_no_more_prefixes_on_a_line_than_exabgp_takes_in_at_one_go() -> None:
    changes = lines.advertise(PEER, [route(f"10.1.{i // 256}.{i % 256}/32") for i in range(99)])
    assert [len(change.routes) for change in changes] == [49, 49, 1]


@pytest.mark.parametrize(("is_transitive", "start"), [(True, "0004"), (False, "4004")])
def test_link_bandwidth_is_written_in_bytes_and_read_back(is_transitive: bool, start: str) -> None:
    bandwidth = LinkBandwidth(asn=64512, bytes_per_second=250_000, is_transitive=is_transitive)
    (change,) = lines.advertise(PEER, [replace(route(), link_bandwidth=bandwidth)])
    text = f"0x{start}FC0048742400"
    assert f"origin igp extended-community [{text}] nlri" in change.line
    values = f'{{ "value": 844424930131969 }}, {{ "value": 1 }}, {{ "value": {int(text, 16)}, "string": "x" }}'
    prefixes = '"announce": { "ipv4 unicast": { "10.9.0.2": [ "10.1.0.1/32" ] } }'
    event = parse(sent(f'"update": {{ "attribute": {{ "extended-community": [ {values} ] }}, {prefixes} }}'))
    assert isinstance(event, lines.RoutesSent)
    assert event.routes == (replace(route(), link_bandwidth=bandwidth),)


@pytest.mark.parametrize("value", [-1, 2**64, int("0x0004FC007F800000", 16), int("0x0004FC007FC00000", 16)])
def test_update_with_an_impossible_bandwidth_is_passed_over(value: int) -> None:
    text = f'"update": {{ "attribute": {{ "extended-community": [ {{ "value": {value} }} ] }}, "announce": {{}} }}'
    assert parse(sent(text)) is None


def test_advertise_names_a_next_hop_of_its_own() -> None:
    (change,) = lines.advertise(PEER, [route("fd00:7::/64", next_hop="fd00:9::2")])
    assert change.line == "neighbor 10.9.0.1 announce attributes next-hop fd00:9::2 origin igp nlri fd00:7::/64"


@pytest.mark.parametrize("text", ["no-export", "1:2:3", "large:1:2", "1:2]", "1:2 shutdown", ""])
def test_advertise_refuses_a_community_of_another_form(text: str) -> None:
    with pytest.raises(ExabgpError):
        lines.advertise(PEER, [route("10.1.0.1/32", text)])


def test_tear_down_says_bfd_down() -> None:
    assert lines.tear_down(PEER) == "neighbor 10.9.0.1 teardown 10"


def test_end_of_rib_refuses_other_families() -> None:
    with pytest.raises(ExabgpError):
        lines.end_of_rib(PEER, "ipv4 flow")


# -- lines → values --------------------------------------------------------------------------------------------------


def test_parse_reads_what_was_advertised_with_its_attributes() -> None:
    line = sent(
        '"update": { "attribute": { "origin": "igp", "as-path": {"0": {"element": "as-sequence", "value": [64512]}}, '
        '"community": [ [ 64512, 7 ], [ 65535, 0 ] ], "large-community": [ [ 1, 2 , 3 ] ] }, '
        '"announce": { "ipv4 unicast": { "10.9.0.2": [ "10.1.0.1/32", { "nlri": "10.1.0.2/32" } ] } } }'
    )
    communities = ("64512:7", "65535:0", "large:1:2:3")
    expected = (route("10.1.0.1/32", *communities), route("10.1.0.2/32", *communities))
    assert parse(line) == lines.RoutesSent(peer_address=PEER, speaker=EBGP, routes=expected)


def test_parse_keeps_a_next_hop_that_is_not_the_sessions_own() -> None:
    line = sent(
        '"update": { "attribute": { "origin": "igp" }, '
        '"announce": { "ipv6 unicast": { "fd00:9::2": [ "fd00:7::/64" ] } } }'
    )
    expected = (route("fd00:7::/64", next_hop="fd00:9::2"),)
    assert parse(line) == lines.RoutesSent(peer_address=PEER, speaker=EBGP, routes=expected)


def test_parse_reads_what_was_withdrawn() -> None:
    line = sent('"update": { "withdraw": { "ipv4 unicast": [ "10.1.0.1/32" ] } }')
    assert parse(line) == lines.RoutesSent(peer_address=PEER, speaker=EBGP, withdrawn=(net("10.1.0.1/32"),))


def test_parse_takes_the_router_id_for_the_own_ipv4_next_hop_of_an_ipv6_session() -> None:
    line = sent('"update": { "announce": { "ipv4 unicast": { "10.9.0.2": [ "10.1.0.0/24" ] } } }')
    found = parse(line.replace('"local": "10.9.0.2"', '"local": "fd00:9::2"'))
    assert isinstance(found, lines.RoutesSent)
    assert found.routes == (route("10.1.0.0/24"),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("done", lines.Answer(is_done=True)),
        ("error", lines.Answer(is_done=False)),
        ('  description "announcer-0123";', lines.Described(description="announcer-0123")),
        (
            '{"bridge": "hello", "started": 1795528937.29, "exabgp_pid": 7, "bridge_pid": 8}',
            lines.Hello(exabgp_pid=7, bridge_pid=8, started=1795528937.29),
        ),
        ('{"bridge": "reload"}', lines.ReloadAsked()),
        ('{"bridge": "refused", "line": "shutdown"}', lines.Refused(line="shutdown")),
        (event('"state": "up"', "state"), lines.SessionUp(peer_address=PEER)),
        (
            event('"state": "down", "reason": "peer reset"', "state"),
            lines.SessionDown(peer_address=PEER, reason="peer reset"),
        ),
        (
            event('"direction": "send", "notification": { "code": 4, "subcode": 0, "data": "0x" }', "notification"),
            lines.Notified(peer_address=PEER, text="NOTIFICATION sent: 4/0 Hold Timer Expired"),
        ),
        (
            event('"direction": "receive", "message": { "category": 3, "body": "0x0604" }', "notification"),
            lines.Notified(peer_address=PEER, text="NOTIFICATION received: 6/4 Cease, Administrative Reset"),
        ),
        (
            sent('"eor": { "afi" : "ipv4", "safi" : "unicast" }'),
            lines.EndOfRib(peer_address=PEER, family="ipv4 unicast"),
        ),
        ("[]", lines.NeighborStates(neighbors=())),
    ],
)
def test_parse_reads_every_other_line_that_matters(line: str, expected: lines.Event) -> None:
    assert parse(line) == expected


def test_parse_trusts_fsm_and_not_state() -> None:
    line = (
        '[{"state": "up", "fsm": "CONNECT", "peer": {"address": "10.9.0.1"}, "families": ["ipv4 unicast"]}, '
        '{"state": "down", "duration": 9, "fsm": "ESTABLISHED", "peer": {"address": "fd00::1"}, '
        '"families": ["ipv6 unicast"]}, 7]'
    )
    down = lines.NeighborState(peer_address=PEER, is_established=False)
    v6 = frozenset({"ipv6 unicast"})
    up = lines.NeighborState(peer_address=ip("fd00::1"), is_established=True, up_seconds=9, families=v6)
    assert parse(line) == lines.NeighborStates(neighbors=(down, up))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "router-id 10.9.0.2;",
        "{",
        '{"type": "notification", "notification": "shutdown"}',
        event('"direction": "receive", "message": { "category": 3, "body": "0x06" }', "notification"),
        event('"direction": "receive", "message": { "category": 3, "body": "garbage" }', "notification"),
        event('"direction": "send", "notification": { "code": 999, "subcode": 0, "data": "" }', "notification"),
        event('"state": "connected"', "state"),
        event('"direction": "receive", "message": { "update": {} }'),
        sent('"open": {}'),
        sent('"update": { "withdraw": { "ipv4 unicast": [ "garbage" ] } }'),
        sent('"update": { "attribute": 5, "announce": [] }'),
    ],
)
def test_parse_passes_over_everything_else(line: str) -> None:
    assert parse(line) is None


@given(st.text())
def test_parse_never_raises(text: str) -> None:
    parse(text)
    parse("{" + text)
    parse(sent(text))


# -- what can be seen on the wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speaker", "given_route", "expected"),
    [
        (EBGP, route(), route()),
        (EBGP, route(local_pref=200), route()),
        (EBGP, route(next_hop="10.9.0.2"), route()),
        (EBGP, route(next_hop="10.9.0.3"), route(next_hop="10.9.0.3")),
        (IBGP, route(local_pref=100), route()),
        (IBGP, route(local_pref=200), route(local_pref=200)),
    ],
)
def test_as_sent_leaves_what_a_send_event_shows(speaker: Speaker, given_route: Route, expected: Route) -> None:
    assert as_sent(given_route, speaker) == expected
