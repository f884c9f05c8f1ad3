"""Objects of every dialect, right and wrong, and what is said about the wrong ones."""

from typing import Any

import pytest

from announcer.core.dialects import assemble, parse
from announcer.core.model import (
    Announce,
    IPFamilyPolicy,
    LocalAdvertisement,
    Node,
    NodeAgentConfig,
    Pool,
    Problem,
    Reason,
    Service,
    TrafficPolicy,
)
from tests.builders import agent, group, group_v2, ip, metallb, net, node, parsed, peer, raw, service


def only_problem(one: dict[str, Any]) -> Problem:
    result = parse(one, "f.yaml:1")
    assert result.value is None
    assert len(result.problems) == 1
    return result.problems[0]


def pool(one: dict[str, Any]) -> Pool:
    result = parse(one)
    assert result.problems == ()
    assert isinstance(result.value, Pool)
    return result.value


def test_purelb_v1_group_reads_ranges_with_subnet_and_aggregation() -> None:
    (found,) = pool(group()).ranges
    assert (found.first, found.last) == (ip("10.113.113.100"), ip("10.113.113.200"))
    assert (found.subnet, found.aggregation) == (net("10.113.113.0/24"), 24)


def test_purelb_v1_group_takes_the_legacy_pool_where_the_family_has_no_other() -> None:
    legacy = {"subnet": "10.0.0.0/24", "pool": "10.0.0.0/28", "aggregation": "/32"}
    v6 = {"subnet": "fd00::/64", "pool": "fd00::1-fd00::9"}
    found = pool(raw("purelb.io/v1", "ServiceGroup", "g", spec={"local": legacy | {"v6pool": v6}}))
    assert [r.aggregation for r in found.ranges] == [64, 32]
    assert found.announce is Announce.AUTO


def test_purelb_v1_group_refuses_a_legacy_pool_beside_another_of_its_family() -> None:
    both = {
        "v4pools": [{"subnet": "10.0.0.0/24", "pool": "10.0.0.1-10.0.0.2"}],
        "pool": "10.0.0.9/32",
        "subnet": "10.0.0.0/24",
    }
    assert only_problem(raw("purelb.io/v1", "ServiceGroup", "g", spec={"local": both})).field == "spec.local.pool"


@pytest.mark.parametrize(("kind", "announce"), [("local", Announce.LOCAL), ("remote", Announce.REMOTE)])
def test_purelb_v2_group_says_local_or_remote(kind: str, announce: Announce) -> None:
    body = {"v4pool": {"subnet": "10.0.0.0/24", "pool": "10.0.0.1-10.0.0.2"}, "skipIPv6DAD": True}
    assert pool(raw("purelb.io/v2", "ServiceGroup", "g", spec={kind: body})).announce is announce


def test_purelb_range_begins_where_it_is_written_and_metallbs_at_the_network() -> None:
    (purelb,) = pool(group(pool="10.113.113.100/24")).ranges
    assert (purelb.first, purelb.last) == (ip("10.113.113.100"), ip("10.113.113.255"))
    (metal,) = pool(metallb("IPAddressPool", "p", addresses=["10.113.113.100/24"])).ranges
    assert metal.first == ip("10.113.113.0")


@pytest.mark.parametrize(
    ("spec", "body", "field"),
    [
        ({}, {"multiPool": True, "balancePools": True}, "local.balancePools"),
        ({"enforceNamespaces": True}, {}, "enforceNamespaces"),
        ({"namespaceDefault": True}, {}, "namespaceDefault"),
    ],
)
def test_purelb_v2_group_that_contradicts_itself_is_refused(
    spec: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    one = group_v2("g", "local", ranges=[("10.0.0.0/24", "10.0.0.0/28")], body=body, **spec)
    assert only_problem(one).field == f"spec.{field}"


def test_purelb_v1_group_whose_legacy_pool_is_wrong_has_one_mistake() -> None:
    legacy = {"subnet": "10.0.0.0/24", "pool": "10.0.0-1-10.0.0.2"}
    assert only_problem(raw("purelb.io/v1", "ServiceGroup", "g", spec={"local": legacy})).field == "spec.local.pool"


def test_purelb_v2_group_must_be_one_of_local_and_remote() -> None:
    assert "exactly one" in only_problem(raw("purelb.io/v2", "ServiceGroup", "g", spec={})).message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "10.111.111-100-10.111.111.200",
            "did you mean 10.111.111.100-10.111.111.200?",
        ),  # as in the customer's document
        ("10.0.0.9-10.0.0.1", "did you mean 10.0.0.1-10.0.0.9?"),
        ("10.0.0.1 - 10.0.0. 9", "did you mean 10.0.0.1-10.0.0.9?"),
        ("10.0.0.300-10.0.0.301", "write it as 192.0.2.10-192.0.2.20 or 192.0.2.0/28"),
        ("10.0.0.1", "write it as 192.0.2.10-192.0.2.20 or 192.0.2.0/28"),
    ],
)
def test_range_that_is_none_gets_a_hint(text: str, hint: str) -> None:
    problem = only_problem(group(pool=text, subnet="10.0.0.0/8"))
    assert (problem.field, problem.value, problem.remedy) == ("spec.local.v4pools[0].pool", text, hint)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"pool": "10.9.9.1-10.9.9.2"}, "pool"),
        ({"pool": "fd00::1-fd00::2", "subnet": "fd00::/64"}, "pool"),
        ({"subnet": "10.113.113.0/40"}, "subnet"),
        ({"aggregation": "/33"}, "aggregation"),
        ({"aggregation": "wide"}, "aggregation"),
        ({"pool": None}, "pool"),
        ({"ranges": []}, "ranges"),
    ],
)
def test_pool_field_that_is_wrong_is_named(more: dict[str, Any], field: str) -> None:
    item = {"subnet": "10.113.113.0/24", "pool": "10.113.113.1-10.113.113.2"} | more
    one = raw("purelb.io/v1", "ServiceGroup", "g", spec={"local": {"v4pools": [item]}})
    assert only_problem(one).field == f"spec.local.v4pools[0].{field}"


def test_group_without_a_pool_is_refused() -> None:
    assert "no pool" in only_problem(raw("purelb.io/v1", "ServiceGroup", "g", spec={"local": {}})).message


def test_unknown_field_is_refused_with_a_hint() -> None:
    problem = only_problem(agent(extlbnt="eth1"))
    assert (problem.reason, problem.field, problem.remedy) == (
        Reason.UNKNOWN_FIELD,
        "spec.local.extlbnt",
        "did you mean extlbint?",
    )


def test_unsupported_field_is_refused_with_the_reason_and_passes_when_it_asks_for_nothing() -> None:
    problem = only_problem(peer(vrf="red"))
    assert problem.reason is Reason.UNSUPPORTED_FIELD
    assert "VRF" in problem.message
    assert parse(peer(vrf="")).value is not None


def test_agent_v1_reads_the_documents_fields() -> None:
    value = parse(agent(extlbint="eth1", localint="default", sendgarp=False)).value
    assert isinstance(value, NodeAgentConfig)
    assert (value.external_link, value.local_link) == ("eth1", "default")


def test_agent_v2_reads_its_selector() -> None:
    spec = {
        "nodeSelector": {"matchLabels": {"rack": "a"}},
        "local": {"localInterface": "eth.*", "dummyInterface": "lb0"},
    }
    value = parse(raw("purelb.io/v2", "LBNodeAgent", "a", spec=spec)).value
    assert isinstance(value, NodeAgentConfig)
    assert value.node_selector.selects({"rack": "a"})
    assert not value.node_selector.selects({})


@pytest.mark.parametrize(("field", "value"), [("localint", "eth["), ("extlbint", "a name with blanks")])
def test_agent_field_that_is_wrong_is_named(field: str, value: str) -> None:
    assert only_problem(agent(**{field: value})).field == f"spec.local.{field}"


def test_selector_operators_work_as_in_kubernetes() -> None:
    rules = [
        {"key": "a", "operator": "In", "values": ["1", "2"]},
        {"key": "b", "operator": "NotIn", "values": ["1"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    value = parse(metallb("L2Advertisement", "l2", nodeSelectors=[{"matchExpressions": rules}])).value
    assert isinstance(value, LocalAdvertisement)
    (selector,) = value.node_selectors
    assert selector.selects({"a": "2", "c": ""})
    assert not selector.selects({"a": "3", "c": ""})
    assert not selector.selects({"a": "2", "b": "1", "c": ""})
    assert not selector.selects({"a": "2"})
    assert not selector.selects({"a": "2", "c": "", "d": ""})


def test_address_pool_reads_ranges_and_cidrs() -> None:
    found = pool(metallb("IPAddressPool", "p", addresses=["10.0.0.0/30", "10.1.0.1 - 10.1.0.9"], autoAssign=False))
    assert [(str(r.first), str(r.last)) for r in found.ranges] == [("10.0.0.0", "10.0.0.3"), ("10.1.0.1", "10.1.0.9")]
    assert not found.auto_assign


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "addresses"),
        ({"addresses": ["10.0.0.0"]}, "addresses[0]"),
        ({"addresses": ["10.0.0.0/24", "10.0.0.1-fd00::1"]}, "addresses[1]"),
        ({"addresses": "10.0.0.0/24"}, "addresses"),
        ({"addresses": [7]}, "addresses"),
        ({"addresses": ["10.0.0.0/24"], "autoAssign": "yes"}, "autoAssign"),
        ({"addresses": ["10.0.0.0/24"], "serviceAllocation": {"priority": -1}}, "serviceAllocation.priority"),
    ],
)
def test_address_pool_field_that_is_wrong_is_named(spec: dict[str, Any], field: str) -> None:
    problems = parse(metallb("IPAddressPool", "p", **spec)).problems
    assert f"spec.{field}" in {problem.field for problem in problems}


def test_service_reads_what_matters() -> None:
    one = service(pool="p", addresses=["10.0.0.1"], externalTrafficPolicy="Local", ipFamilies=["IPv6", "IPv4"])
    value = parse(one).value
    assert isinstance(value, Service)
    assert value.traffic_policy is TrafficPolicy.LOCAL
    assert (value.families, value.requested_pool, value.status_addresses) == ((6, 4), "p", (ip("10.0.0.1"),))


@pytest.mark.parametrize(
    "prefix", ["purelb.io/addresses", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"]
)
def test_service_reads_requested_addresses_of_both_dialects(prefix: str) -> None:
    value = parse(service(annotations={prefix: "10.0.0.1, fd00::1"})).value
    assert isinstance(value, Service)
    assert value.requested_addresses == (ip("10.0.0.1"), ip("fd00::1"))


@pytest.mark.parametrize(
    "one",
    [
        service(annotations={"purelb.io/service-group": "a", "metallb.io/address-pool": "b"}),
        service(annotations={"metallb.io/loadBalancerIPs": "ten"}),
        service(annotations={"metallb.io/loadBalancerIPs": "10.0.0.1,10.0.0.2"}),
        service(annotations={"metallb.io/loadBalancerIPs": "10.0.0.1"}, loadBalancerIP="10.0.0.1"),
        service(externalTrafficPolicy="Lokal"),
        service(ports=[]),
    ],
)
def test_service_that_contradicts_itself_is_refused(one: dict[str, Any]) -> None:
    assert parse(one).value is None


SINGLE, PREFER, REQUIRE = IPFamilyPolicy


@pytest.mark.parametrize(
    ("spec", "asked", "families", "policy"),
    [
        ({}, "", (), SINGLE),
        ({"ipFamilies": ["IPv6"]}, "", (6,), SINGLE),
        ({"ipFamilies": ["IPv6", "IPv4"]}, "", (6, 4), REQUIRE),  # as the API server completes it
        ({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "SingleStack"}, "", (6,), SINGLE),
        ({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}, "", (6, 4), PREFER),
        ({"ipFamilyPolicy": "RequireDualStack"}, "", (4, 6), REQUIRE),
        ({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.1"]}, "", (4,), PREFER),
        ({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["fd00::1", "10.96.0.1"]}, "", (6, 4), PREFER),
        ({"ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.96.0.1"]}, "", (4, 6), REQUIRE),
        ({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["None"]}, "", (4, 6), PREFER),
        ({}, "fd00::1", (6,), SINGLE),
        ({}, "fd00::1,10.0.0.1", (6, 4), REQUIRE),
        ({"ipFamilyPolicy": "PreferDualStack"}, "fd00::1", (6, 4), PREFER),
    ],
)
def test_service_families(spec: dict[str, Any], asked: str, families: tuple[int, ...], policy: IPFamilyPolicy) -> None:
    value = parse(service(annotations={"metallb.io/loadBalancerIPs": asked}, **spec)).value
    assert isinstance(value, Service)
    assert (value.families, value.family_policy) == (families, policy)


@pytest.mark.parametrize(
    ("one", "field"),
    [
        (service(ipFamilies=["ipv6"]), "spec.ipFamilies"),
        (service(loadBalancerIP="ten"), "spec.loadBalancerIP"),
        (service(annotations={"purelb.io/addresses": "ten"}), "metadata.annotations.purelb.io/addresses"),
        (service(annotations={"purelb.io/multi-pool": "yes"}), "metadata.annotations.purelb.io/multi-pool"),
    ],
)
def test_service_field_that_is_wrong_is_named(one: dict[str, Any], field: str) -> None:
    assert only_problem(one).field == field


@pytest.mark.parametrize(
    ("notes", "spec", "pool_name"),
    [
        ({"purelb.io/service-group": "p"}, {}, "p"),
        ({"metallb.universe.tf/address-pool": "p"}, {}, "p"),
        ({"purelb.io/service-group": "p", "metallb.io/address-pool": "p"}, {}, "p"),
        ({"purelb.io/service-group": "p", "purelb.io/addresses": "10.0.0.1"}, {}, ""),  # they override the group
        ({"purelb.io/service-group": "p"}, {"loadBalancerIP": "10.0.0.1"}, ""),
        ({"metallb.io/address-pool": "p", "metallb.io/loadBalancerIPs": "10.0.0.1"}, {}, "p"),
        ({"metallb.io/address-pool": "p"}, {"loadBalancerIP": "10.0.0.1"}, "p"),
    ],
)
def test_service_names_a_pool(notes: dict[str, str], spec: dict[str, Any], pool_name: str) -> None:
    value = parse(service(annotations=notes, **spec)).value
    assert isinstance(value, Service)
    assert value.requested_pool == pool_name


def test_service_whose_spec_is_a_list_gets_a_hint() -> None:
    one = raw("v1", "Service", "s", namespace="test", spec=[{"name": "app", "port": 80}])
    problem = only_problem(one)
    assert (problem.field, problem.remedy) == ("spec", "put these items under `ports:`")


def test_service_with_an_annotation_that_has_no_effect_is_used_and_told() -> None:
    result = parse(service(annotations={"purelb.io/node-affinity": "k", "purelb.io/allocated-by": "PureLB"}))
    assert result.value is not None
    assert [p.field for p in result.problems] == ["metadata.annotations.purelb.io/node-affinity"]


def test_refused_service_says_which_addresses_it_has() -> None:
    result = parse(service(addresses=["10.0.0.1"], externalTrafficPolicy="x"))
    assert result.in_use == (ip("10.0.0.1"),)
    assert assemble([result]).in_use == {ip("10.0.0.1")}


def test_node_reads_label_condition_and_addresses() -> None:
    one = node("n1", **{"node.kubernetes.io/exclude-from-external-load-balancers": ""})
    conditions = [{"type": "NetworkUnavailable", "status": "True"}]
    one["status"] = {"conditions": conditions, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
    value = parse(one).value
    assert isinstance(value, Node)
    assert (value.excluded, value.network_unavailable, value.internal_addresses) == (True, True, (ip("10.0.0.1"),))


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (raw("purelb.io/v3", "ServiceGroup", "g"), "is served as purelb.io/v1, purelb.io/v2"),
        (raw("announcer.io/v1", "Thing", "g"), "is not supported yet"),
    ],
)
def test_kind_of_a_peer_that_is_not_known_is_refused(one: dict[str, Any], message: str) -> None:
    assert only_problem(one).message == message


def test_kind_of_somebody_else_is_left_alone() -> None:
    result = parse(raw("apps/v1", "Deployment", "d"))
    assert (result.value, result.problems) == (None, ())


def test_object_without_a_name_is_refused() -> None:
    assert only_problem({"apiVersion": "v1", "kind": "Service", "metadata": {}}).field == "metadata.name"


def test_overlapping_pools_refuse_the_wider_one_with_a_hint() -> None:
    wide = metallb("IPAddressPool", "subnet-1", addresses=["10.111.111.100-10.222.222.200"])
    narrow = metallb("IPAddressPool", "subnet-2", addresses=["10.112.112.100-10.112.112.200"])
    found = assemble(parsed(wide, narrow))
    assert [p.name for p in found.pools] == ["subnet-2"]
    assert found.problems[0].remedy == "did you mean 10.111.111.100-10.111.111.200?"


def test_overlapping_pools_keep_the_older_one() -> None:
    old = group("zzz", "10.113.113.0/24")
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    new = group("aaa", "10.113.113.7-10.113.113.8")
    new["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    assert [p.name for p in assemble(parsed(new, old)).pools] == ["zzz"]


def test_overlapping_pools_keep_the_one_that_was_accepted_before() -> None:
    live = group("zzz", "10.113.113.0/24")
    live["status"] = {"conditions": [{"type": "announcer.io/Accepted", "status": "True"}]}
    assert [p.name for p in assemble(parsed(group("aaa", "10.113.113.7-10.113.113.8"), live)).pools] == ["zzz"]


def test_pool_that_overlaps_itself_is_refused() -> None:
    found = assemble(parsed(metallb("IPAddressPool", "p", addresses=["10.0.0.0/24", "10.0.0.7/32"])))
    assert (found.pools, found.problems[0].reason) == ((), Reason.OVERLAPPING_POOL)


def test_pools_of_one_name_in_two_dialects_keep_one() -> None:
    found = assemble(parsed(group("same"), metallb("IPAddressPool", "same", addresses=["10.0.0.0/8"])))
    assert [str(p.ref) for p in found.pools] == ["ServiceGroup purelb-system/same"]
    assert found.problems[0].reason is Reason.DUPLICATE_POOL


def test_two_peers_at_one_address_keep_the_first() -> None:
    found = assemble(parsed(peer("b"), peer("a")))
    assert [p.ref.name for p in found.peers] == ["a"]
    assert found.problems[0].reason is Reason.DUPLICATE_PEER


def test_twin_that_is_wrong_does_not_refuse_the_one_that_counts() -> None:
    found = assemble(parsed(group("g"), group("g", "10.9.9-1-10.9.9.9")))
    assert found.refused == frozenset()
    assert len(found.problems) == 1


@pytest.mark.parametrize("nothing", [{"nodeSelector": {}}, {"nodeSelector": None}])
def test_agent_of_v1_takes_defaults_of_v2_that_ask_for_nothing(nothing: Any) -> None:
    one = raw("purelb.io/v1", "LBNodeAgent", "a", spec={"local": {"extlbint": "eth1"}})
    assert parse(one | {"spec": one["spec"] | nothing}).problems == ()
    selector = {"nodeSelector": {"matchLabels": {"a": "b"}}}
    assert only_problem(one | {"spec": one["spec"] | selector}).field == "spec.nodeSelector"


def test_group_of_v1_takes_defaults_of_v2_that_ask_for_nothing() -> None:
    one = group()
    nothing = {"enforceNamespaces": False, "namespaceDefault": False}
    assert parse(one | {"spec": one["spec"] | nothing}).problems == ()
    assert only_problem(one | {"spec": one["spec"] | {"enforceNamespaces": True}}).field == "spec.enforceNamespaces"
