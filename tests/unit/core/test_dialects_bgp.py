"""BGP objects of both API groups: what each field becomes, and every mistake by its name."""

from typing import Any

import pytest

from announcer.core.dialects import parse
from announcer.core.model import (
    BfdProfile,
    BfdSettings,
    CommunityAliases,
    Parsed,
    Peer,
    Peers,
    Problem,
    Reason,
    RouteAdvertisement,
    RouterId,
    RouterIdFrom,
    Secret,
)
from tests.builders import ip, metallb, net, peer, raw, snapshot
from tests.builders import pool as address_pool

NODE_1 = {"matchLabels": {"kubernetes.io/hostname": "n1"}}
NODE_2 = {"matchLabels": {"kubernetes.io/hostname": "n2"}}


def only_problem(parsed: Parsed) -> Problem:
    assert len(parsed.problems) == 1, parsed.problems
    return parsed.problems[0]


def one(parsed: Parsed) -> Peer:
    assert isinstance(parsed.value, Peers), parsed.problems
    (found,) = parsed.value.peers
    return found


def configuration(*neighbors: dict[str, Any], **spec: Any) -> dict[str, Any]:
    whole = {
        "global": {"asn": 64512},
        "neighbors": list(neighbors),
        "netlinkImport": {"enabled": True, "interfaceList": ["kube-lb0"]},
    }
    return raw("bgp.purelb.io/v1", "BGPConfiguration", "bgp", namespace="purelb-system", spec=whole | spec)


def neighbor(address: str = "10.111.111.254", *, config: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"config": {"neighborAddress": address, "peerAsn": 64513} | (config or {})} | more


# -- metallb.io ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_peer_reads_every_field_of_metallb(version: str) -> None:
    spec: dict[str, Any] = {
        "holdTime": "1m30s",
        "keepaliveTime": "30s",
        "peerPort": 1179,
        "routerID": "10.0.0.1",
        "ebgpMultiHop": True,
        "sourceAddress": "10.0.0.2",
        "password": "hush",
        "dualStackAddressFamily": True,
        "nodeSelectors": [NODE_1],
    }
    found = one(parse(peer(**spec) | {"apiVersion": f"metallb.io/{version}"}))
    assert (found.hold_time_seconds, found.peer_port, found.multihop_ttl) == (90, 1179, 255)
    assert (found.router_id, found.source_address) == (RouterId(written=ip("10.0.0.1")), ip("10.0.0.2"))  # type: ignore[arg-type]
    assert found.families == {4, 6}
    assert found.password == "hush"
    assert len(found.node_selectors) == 1


@pytest.mark.parametrize(
    ("more", "my_asn", "peer_asn"),
    [
        ({}, 64512, 64513),
        ({"localASN": 65000}, 65000, 64513),
        ({"peerASN": 0, "dynamicASN": "internal"}, 64512, 64512),
        ({"peerASN": None, "dynamicASN": "internal", "localASN": 7}, 7, 7),
    ],
)
def test_peer_has_the_as_that_the_router_sees(more: dict[str, Any], my_asn: int, peer_asn: int) -> None:
    found = one(parse(peer(**more)))
    assert (found.my_asn, found.peer_asn) == (my_asn, peer_asn)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"myASN": None}, "myASN"),
        ({"peerASN": 2**32}, "peerASN"),
        ({"peerASN": None}, "peerASN"),
        ({"dynamicASN": "internal"}, "dynamicASN"),
        ({"peerASN": None, "dynamicASN": "external"}, "dynamicASN"),
        ({"peerAddress": "tor"}, "peerAddress"),
        ({"peerAddress": None}, "peerAddress"),
        ({"peerAddress": "fe80::1%eth0"}, "peerAddress"),
        ({"peerAddress": "fe80::1"}, "peerAddress"),
        ({"peerAddress": "0.0.0.0"}, "peerAddress"),
        ({"peerAddress": "ff02::1"}, "peerAddress"),
        ({"sourceAddress": "fe80::1%eth0"}, "sourceAddress"),
        ({"holdTime": "2s"}, "holdTime"),
        ({"holdTime": "soon"}, "holdTime"),
        ({"holdTime": "3500ms"}, "holdTime"),
        ({"keepaliveTime": "90s", "holdTime": "9s"}, "keepaliveTime"),
        ({"connectTime": "500ms"}, "connectTime"),
        ({"routerID": "fd00::1"}, "routerID"),
        ({"sourceAddress": "fd00::1"}, "sourceAddress"),
        ({"peerASN": 64512, "ebgpMultiHop": True}, "ebgpMultiHop"),
        ({"peerPort": True}, "peerPort"),
        ({"vrf": "red"}, "vrf"),
        ({"interface": "eth1", "peerAddress": None}, "interface"),
        ({"enableGracefulRestart": True}, "enableGracefulRestart"),
        ({"passwordSecret": {}}, "passwordSecret.name"),
        ({"passwordSecret": {"name": "../pods/s"}}, "passwordSecret.name"),
        ({"passwordSecret": {"name": "s?watch=1"}}, "passwordSecret.name"),
        ({"passwordSecret": {"name": "s", "namespace": "other"}}, "passwordSecret.namespace"),
        ({"passwordSecret": {"name": "s"}, "password": "hush"}, "password"),
    ],
)
def test_peer_field_that_is_wrong_or_cannot_be_honored_is_named(more: dict[str, Any], field: str) -> None:
    parsed = parse(peer(**more))
    assert only_problem(parsed).field == f"spec.{field}"
    assert parsed.value is None


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({"holdTime": "0s"}, 0),
        ({"holdTime": "0"}, 0),
        ({"keepaliveTime": "1s"}, 3),
        ({"holdTime": "9000ms"}, 9),
        ({}, 90),
    ],
)
def test_peer_time_that_is_given_makes_the_other(more: dict[str, Any], seconds: int) -> None:
    assert one(parse(peer(**more))).hold_time_seconds == seconds


@pytest.mark.parametrize(
    "more", [{"connectTime": "10s"}, {"keepaliveTime": "10s", "holdTime": "90s"}, {"disableMP": True}]
)
def test_peer_is_used_without_what_makes_no_difference_and_says_so(more: dict[str, Any]) -> None:
    parsed = parse(peer(**more))
    assert parsed.value is not None
    assert only_problem(parsed).reason is Reason.NO_EFFECT


@pytest.mark.parametrize("password", ["p" * 81, 12345678, ["hush"], {"a": "hush"}, "hush\n"])
def test_password_that_is_wrong_is_never_shown(password: object) -> None:
    for parsed in (
        parse(peer(password=password)),
        parse(configuration(neighbor(config={"authPassword": password}))),
    ):
        problem = only_problem(parsed)
        assert problem.field.endswith(("password", "authPassword"))
        assert "ppp" not in str(problem)
        assert "hush" not in str(problem)
        assert "12345" not in str(problem)


@pytest.mark.parametrize(
    "more",
    [
        {"Password": "hush"},
        {"passwd": "hush"},
        {"bgpSecret": "hush"},
        {"passwordSecret": "hush"},
        {"passwordSecret": {"name": "tor", "key": "hush"}},
    ],
)
def test_password_under_another_name_is_never_shown(more: dict[str, Any]) -> None:
    problems = (*parse(peer(**more)).problems, *parse(configuration(neighbor(config=more))).problems)
    assert len(problems) >= 2
    assert all("hush" not in f"{problem} {problem.remedy}" for problem in problems)


@pytest.mark.parametrize(
    ("more", "field", "remedy"),
    [
        ({"stringDate": {"password": "hush"}}, "stringDate", "did you mean stringData?"),
        ({"password": "hush"}, "password", ""),
        ({"data": {"password": 5150}}, "data.password", "put it between quotes"),
        ({"stringData": {"pin": ["hush"]}}, "stringData.pin", "put it between quotes"),
        ({"stringData": {5150: 5150.5}}, "stringData.5150", "put it between quotes"),
        ({"data": ["hush"]}, "data", ""),
    ],
)
def test_mistake_in_a_secret_is_named_without_its_value_and_the_rest_is_used(
    more: dict[str, Any], field: str, remedy: str
) -> None:
    parsed = parse(raw("v1", "Secret", "tor", namespace="lb", immutable=True, **({"data": {"other": "eA=="}} | more)))
    problem = only_problem(parsed)
    assert (problem.field, problem.value, problem.remedy) == (field, "", remedy)
    assert "hush" not in str(problem)
    assert isinstance(parsed.value, Secret)
    assert parsed.value.data == ({} if "data" in more else {"other": "eA=="})


def test_secret_may_have_keys_of_all_names_and_empty_ones() -> None:
    data = {"tls.crt": "eA==", "password": None}
    assert parse(raw("v1", "Secret", "tor", namespace="lb", data=data, stringData=None)).problems == ()


def test_name_of_a_secret_is_shown() -> None:
    assert only_problem(parse(peer(passwordSecret={"name": "Tor"}))).value == "Tor"


def test_password_is_not_in_the_text_of_a_peer() -> None:
    assert one(parse(peer(password="hush"))).password == "hush"
    assert "hush" not in repr(parse(peer(password="hush")))


def test_route_advertisement_reads_every_field() -> None:
    spec = {
        "localPref": 200,
        "communities": ["64512:1", "large:1:2:3", "mine"],
        "peers": ["tor"],
        "serviceSelectors": [{"matchLabels": {"app": "web"}}],
        "ipAddressPools": ["a"],
    }
    value = parse(metallb("BGPAdvertisement", "b", **spec)).value
    assert isinstance(value, RouteAdvertisement)
    assert (value.aggregation, value.local_pref) == (32, 200)
    assert value.peers == {"tor"}
    assert value.communities == {"64512:1", "large:1:2:3", "mine"}
    assert value.service_selectors[0].selects({"app": "web"})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"communities": ["65536:1"]}, "communities"),
        ({"communities": ["large:1:2"]}, "communities"),
        ({"communities": ["large:1:2:4294967296"]}, "communities"),
        ({"communities": [f"1:{i}" for i in range(64)]}, "communities"),
        ({"communities": ["1:1", "1:1"]}, "communities"),
        ({"peers": ["tor", "tor"]}, "peers"),
        ({"aggregationLength": 33}, "aggregationLength"),
        ({"aggregationLength": 24, "serviceSelectors": [{}]}, "aggregationLength"),
        ({"aggregationLengthV6": 64, "serviceSelectors": [{}]}, "aggregationLengthV6"),
    ],
)
def test_route_advertisement_that_is_wrong_is_named(more: dict[str, Any], field: str) -> None:
    assert only_problem(parse(metallb("BGPAdvertisement", "b", **more))).field == f"spec.{field}"


def test_community_and_bfd_profile_are_read() -> None:
    names = metallb("Community", "c", communities=[{"name": "mine", "value": "64512:7"}])
    assert parse(names).value == CommunityAliases(ref=parse(names).ref, values={"mine": "64512:7"})
    profile = parse(metallb("BFDProfile", "fast", receiveInterval=50, echoMode=True)).value
    assert isinstance(profile, BfdProfile)
    assert profile.settings == BfdSettings(receive_milliseconds=50, is_echoing=True)


@pytest.mark.parametrize(
    "item", [{"name": "a"}, {"name": "a", "value": "1"}, {"name": "a:b", "value": "1:2"}, {"value": "1:2"}]
)
def test_community_that_is_none_is_refused(item: dict[str, Any]) -> None:
    only_problem(parse(metallb("Community", "c", communities=[item])))


# -- beside each other -----------------------------------------------------------------------------------------------

POOL = address_pool("p", "10.9.0.2-10.9.0.254")


def refused(*objects: dict[str, Any]) -> dict[str, Reason]:
    found = snapshot(*objects)
    assert {p.ref for p in found.problems} == found.refused
    return {p.ref.name: p.reason for p in found.problems}


def ad(name: str, **spec: Any) -> dict[str, Any]:
    return metallb("BGPAdvertisement", name, **spec)


def test_community_name_stands_for_what_its_object_says() -> None:
    names = metallb("Community", "c", communities=[{"name": "mine", "value": "64512:7"}])
    (found,) = snapshot(POOL, names, ad("a", communities=["mine", "no-export"])).route_advertisements
    assert found.communities == {"64512:7", "65535:65281"}


def test_community_name_that_nobody_gives_refuses_the_advertisement_with_a_hint() -> None:
    names = metallb("Community", "c", communities=[{"name": "transit", "value": "64512:7"}])
    (problem,) = snapshot(names, ad("a", communities=["tranist"])).problems
    assert (problem.reason, problem.remedy) == (Reason.UNKNOWN_ALIAS, "did you mean transit?")


def test_community_name_of_two_objects_is_refused_in_the_second() -> None:
    two = [metallb("Community", name, communities=[{"name": "x", "value": "1:1"}]) for name in ("a", "b")]
    assert refused(*two) == {"b": Reason.DUPLICATE_ALIAS}


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ({}, {}, True),
        ({"nodeSelectors": [NODE_1]}, {}, True),
        ({"nodeSelectors": [NODE_1]}, {"nodeSelectors": [NODE_2]}, False),
        ({"nodeSelectors": [NODE_1]}, {"nodeSelectors": [NODE_1, NODE_2]}, True),
        ({}, {"nodeSelectors": [{"matchLabels": {"nobody": "here"}}]}, False),
    ],
)
def test_two_peers_at_one_address_quarrel_on_a_node_of_both(
    first: dict[str, Any], second: dict[str, Any], is_refused: bool
) -> None:
    expected = {"b": Reason.DUPLICATE_PEER} if is_refused else {}
    assert refused(peer("a", **first), peer("b", **second)) == expected


@pytest.mark.parametrize(
    ("length", "is_refused"),
    [(26, False), (25, True), (24, True)],  # MetalLB's own example
)
def test_aggregate_wider_than_the_pool_is_refused(length: int, is_refused: bool) -> None:
    expected = {"a": Reason.AGGREGATION_TOO_WIDE} if is_refused else {}
    assert refused(POOL, ad("a", aggregationLength=length)) == expected


@pytest.mark.parametrize(
    ("other", "is_refused"),
    [
        ({"localPref": 100}, True),
        ({}, True),
        ({"localPref": 200}, False),
        ({"localPref": 100, "peers": ["second"]}, False),
        ({"localPref": 100, "peers": ["first", "second"]}, True),
        ({"localPref": 100, "aggregationLength": 27, "aggregationLengthV6": 64}, False),
        ({"localPref": 100, "nodeSelectors": [{"matchLabels": {"nobody": "here"}}]}, False),
        ({"localPref": 100, "nodeSelectors": [NODE_1]}, True),
        ({"localPref": 100, "ipAddressPools": ["other"]}, False),
        ({"localPref": 100, "serviceSelectors": [{}]}, False),  # judged for each Service
    ],
)
def test_two_values_of_local_pref_for_one_route_are_refused(other: dict[str, Any], is_refused: bool) -> None:
    pools = (POOL, address_pool("other", "10.8.0.0/24"))
    peers = (peer("first", "10.1.0.1"), peer("second", "10.1.0.2"))
    first = ad("a", localPref=200, peers=["first"], ipAddressPools=["p"])
    expected = {"b": Reason.CONFLICTING_ADVERTISEMENT} if is_refused else {}
    assert refused(*pools, *peers, first, ad("b", **{"ipAddressPools": ["p"]} | other)) == expected


# -- bgp.purelb.io ---------------------------------------------------------------------------------------------------


def test_neighbor_reads_what_purelb_says() -> None:
    found = one(
        parse(
            configuration(
                neighbor(
                    config={"localAsn": 65000, "authPassword": "hush"},
                    nodeSelector=NODE_1,
                    afiSafis=[{"family": "ipv4-unicast", "enabled": True}, {"family": "ipv6-unicast", "enabled": True}],
                    timers={"config": {"holdTime": 9, "keepaliveInterval": 3}},
                    transport={"localAddress": "10.111.111.2"},
                    ebgpMultihop={"enabled": True, "multihopTtl": 3},
                )
            )
        )
    )
    assert (found.name, found.my_asn, found.peer_asn) == ("10.111.111.254", 65000, 64513)
    assert found.families == {4, 6}
    assert (found.hold_time_seconds, found.multihop_ttl, found.source_address) == (9, 3, ip("10.111.111.2"))
    assert found.password == "hush"
    assert found.node_selectors[0].selects({"kubernetes.io/hostname": "n1"})


def test_neighbor_is_laid_over_its_group() -> None:
    group = {
        "config": {"peerGroupName": "g", "peerAsn": 64999, "authPassword": "hush"},
        "timers": {"config": {"holdTime": 12}},
    }
    mine = {"config": {"neighborAddress": "10.1.0.1", "peerGroup": "g", "authPassword": "own"}}
    found = one(parse(configuration(mine, peerGroups=[group])))
    assert (found.peer_asn, found.password, found.hold_time_seconds) == (64999, "own", 12)


@pytest.mark.parametrize(
    ("text", "pool", "wanted"),
    [
        ("", "", RouterId()),
        ("auto", "", RouterId()),
        ("192.0.2.1", "", RouterId(written=ip("192.0.2.1"))),  # type: ignore[arg-type]
        ("${NODE_IP}", "", RouterId(source=RouterIdFrom.INTERNAL_IP)),
        ("${NODE_EXTERNAL_IP}", "", RouterId(source=RouterIdFrom.EXTERNAL_IP)),
        ("${node.annotations['a/b']}", "", RouterId(source=RouterIdFrom.ANNOTATION, annotation="a/b")),
        ("", "10.255.0.0/16", RouterId(pool=net("10.255.0.0/16"))),  # type: ignore[arg-type]
    ],
)
def test_router_id_has_purelbs_forms(text: str, pool: str, wanted: RouterId) -> None:
    asked = {"asn": 64512, "routerID": text, "routerIDPool": pool}
    assert one(parse(configuration(neighbor(), **{"global": asked}))).router_id == wanted


def test_neighbor_that_is_down_has_no_session() -> None:
    value = parse(configuration(neighbor(config={"adminDown": True}))).value
    assert isinstance(value, Peers)
    assert value.peers == ()


def test_name_that_stands_twice_in_one_community_is_named() -> None:
    twice = [{"name": "mine", "value": "64512:7"}] * 2
    assert only_problem(parse(metallb("Community", "c", communities=twice))).message == "is given twice"


def test_link_that_netlink_import_names_beside_ours_has_no_effect_and_says_so() -> None:
    parsed = parse(configuration(neighbor(), netlinkImport={"enabled": True, "interfaceList": ["kube-lb0", "eth1"]}))
    assert only_problem(parsed).value == "eth1"
    assert one(parsed).takes_routes


@pytest.mark.parametrize("spec", [{}, {"enabled": True}, {"interfaceList": ["kube-lb0"]}])
def test_neighbors_without_netlink_import_get_no_routes_and_say_so(spec: dict[str, Any]) -> None:
    parsed = parse(configuration(neighbor(), netlinkImport=spec))
    assert only_problem(parsed).reason is Reason.NO_EFFECT
    assert not one(parsed).takes_routes


@pytest.mark.parametrize(
    ("where", "field"),
    [
        (neighbor(bfd={"enabled": True, "port": 4784}), "neighbors[0].bfd.port"),
        (neighbor(gracefulRestart={"enabled": True}), "neighbors[0].gracefulRestart"),
        (neighbor(transport={"passiveMode": True}), "neighbors[0].transport.passiveMode"),
        (neighbor(transport={"bindInterface": "eth1"}), "neighbors[0].transport.bindInterface"),
        (neighbor(config={"vrf": "red"}), "neighbors[0].config.vrf"),
        (neighbor(config={"sendCommunity": "none"}), "neighbors[0].config.sendCommunity"),
        (neighbor("fe80::1%eth0"), "neighbors[0].config.neighborAddress"),
        (neighbor("tor"), "neighbors[0].config.neighborAddress"),
        (neighbor("169.254.1.1"), "neighbors[0].config.neighborAddress"),
        (neighbor(""), "neighbors[0].config.neighborAddress"),
        (neighbor(config={"peerAsn": None}), "neighbors[0].config.peerAsn"),
        (neighbor(config={"authPasswordSecretRef": {"key": "k"}}), "neighbors[0].config.authPasswordSecretRef.name"),
        (
            neighbor(config={"authPassword": "hush", "authPasswordSecretRef": {"name": "s", "key": "k"}}),
            "neighbors[0].config.authPassword",
        ),
        (neighbor(config={"peerGroup": "none"}), "neighbors[0].config.peerGroup"),
        (neighbor(afiSafis=[{"family": "l2vpn-evpn", "enabled": True}]), "neighbors[0].afiSafis[0].family"),
        (neighbor(applyPolicy={"exportPolicy": {"policies": ["p"]}}), "neighbors[0].applyPolicy.exportPolicy"),
        (neighbor(timers={"config": {"holdTime": 2}}), "neighbors[0].timers.config.holdTime"),
        ({"dynamicNeighbors": [{"prefix": "10.0.0.0/8", "peerGroup": "g"}]}, "dynamicNeighbors"),
        ({"vrfs": [{"name": "red"}]}, "vrfs"),
        ({"global": None}, "global"),
        ({"global": {"asn": 1, "routerIDPool": "fd00::/64"}}, "global.routerIDPool"),
        ({"peerGroups": [{"config": {"peerGroupName": "g"}}] * 2}, "peerGroups[1].config.peerGroupName"),
        (neighbor(applyPolicy={"exportPolicy": {"defaultAction": "reject"}}), "neighbors[0].applyPolicy.exportPolicy"),
        ({"netlinkExport": {"enabled": True}}, "netlinkExport"),
        ({"global": {"asn": 0}}, "global.asn"),
        ({"global": {}}, "global.asn"),
        ({"global": {"asn": 1, "confederation": {"enabled": True}}}, "global.confederation"),
        ({"global": {"asn": 1, "routerID": "${HOSTNAME}"}}, "global.routerID"),
    ],
)
def test_configuration_that_is_wrong_or_cannot_be_honored_is_named(where: dict[str, Any], field: str) -> None:
    parsed = parse(configuration(where) if "config" in where else configuration(**where))
    found = [p.field for p in parsed.problems if p.reason is not Reason.NO_EFFECT]
    assert f"spec.{field}" in found, parsed.problems
    assert parsed.value is None


def test_peers_of_both_groups_stand_in_one_list() -> None:
    found = snapshot(peer(), configuration(neighbor("10.1.0.1"), neighbor("10.1.0.2")))
    assert [p.name for p in found.peers] == ["10.1.0.1", "10.1.0.2", "tor"]
