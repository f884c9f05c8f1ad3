"""Rules of both dialects about who may have which address: admission, dual stack, sharing, several ranges, changes."""

from typing import Any

import pytest

from announcer.core.allocate import Assignment
from announcer.core.model import Reason
from tests.builders import Raw, announcement, group, group_v2, ip, namespace, pool, service
from tests.unit.core.allocating import decide, given, pool_given, sharing, why

PREFER: dict[str, Any] = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]}
REQUIRE: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
FOUR, SIX = "10.0.0.0/28", "fd00::/120"


# -- whom a pool is for ----------------------------------------------------------------------------------------------


def test_group_that_is_not_default_serves_only_those_who_name_it() -> None:
    found = decide(group("internet"), service("a"), service("b", pool="internet"))
    assert why(found["a"]) is Reason.NO_POOL
    assert given(found["b"]) == ["10.113.113.100"]


def test_group_named_default_serves_those_who_name_none() -> None:
    assert pool_given(decide(group("default"), service("a"))["a"]) == "default"


@pytest.mark.parametrize(
    ("allocation", "is_for_it"),
    [
        ({"namespaces": ["test"]}, True),
        ({"namespaces": ["other"]}, False),
        ({"namespaceSelectors": [{"matchLabels": {"team": "red"}}]}, True),
        ({"namespaces": ["other"], "namespaceSelectors": [{"matchLabels": {"team": "red"}}]}, True),
        ({"serviceSelectors": [{"matchLabels": {"app": "x"}}]}, False),
        ({"namespaces": ["test"], "serviceSelectors": [{"matchLabels": {"app": "x"}}]}, False),
        ({"priority": 10}, True),
    ],
)
def test_service_allocation_is_a_fence_for_the_pool(allocation: dict[str, Any], is_for_it: bool) -> None:
    objects = [namespace("test", team="red"), pool("p", FOUR, serviceAllocation=allocation)]
    for one in (service("a"), service("a", pool="p"), service("a", loadBalancerIP="10.0.0.1")):
        assert isinstance(decide(*objects, one)["a"], Assignment) is is_for_it


def test_pinned_pools_come_by_priority_with_zero_last_and_before_open_ones() -> None:
    pools = [
        pool("a-open", "10.0.0.0/32"),
        pool("b-last", "10.0.1.0/32", serviceAllocation={"namespaces": ["test"]}),
        pool("c-second", "10.0.2.0/32", serviceAllocation={"namespaces": ["test"], "priority": 20}),
        pool("d-first", "10.0.3.0/32", serviceAllocation={"namespaces": ["test"], "priority": 10}),
    ]
    found = decide(*pools, *(service(name) for name in "wxyz"))
    assert [pool_given(found[name]) for name in "wxyz"] == ["d-first", "c-second", "b-last", "a-open"]


def test_service_that_leaves_a_pools_selectors_moves() -> None:
    pools = [pool("a", FOUR, serviceAllocation={"namespaces": ["other"]}), pool("b", "10.0.1.0/28")]
    assert given(decide(*pools, service("s", addresses=["10.0.0.3"]))["s"]) == ["10.0.1.0"]


def test_namespaces_of_groups_choose_for_services_that_name_none() -> None:
    groups = [group("default"), group_v2("red", ranges=[("10.0.0.0/24", FOUR)], namespaces=["red"])]
    found = decide(*groups, service("a", namespace="red"), service("b"), service("c", pool="red"))
    assert [pool_given(found[name]) for name in "abc"] == ["red", "default", "red"]


def test_enforced_namespaces_fence_both_ways() -> None:
    red = group_v2("red", ranges=[("10.0.0.0/24", FOUR)], namespaces=["red"], enforceNamespaces=True)
    outsider, member = service("a", pool="red"), service("b", namespace="red", pool="default")
    found = decide(group("default"), red, outsider, member, service("c", namespace="red"))
    assert [why(found[name]) for name in "ab"] == [Reason.POOL_NOT_ADMITTED] * 2
    assert pool_given(found["c"]) == "red"


def test_enforced_namespaces_cover_requested_addresses() -> None:
    red = group_v2("red", ranges=[("10.0.0.0/24", FOUR)], namespaces=["red"], enforceNamespaces=True)
    asked = service("a", annotations={"purelb.io/addresses": "10.0.0.1"})
    assert why(decide(red, asked)["a"]) is Reason.POOL_NOT_ADMITTED


def test_enforced_namespaces_are_not_retroactive() -> None:
    red = group_v2("red", ranges=[("10.0.0.0/24", FOUR)], namespaces=["red"], enforceNamespaces=True)
    assert given(decide(red, service("a", addresses=["10.0.0.5"]))["a"]) == ["10.0.0.5"]


def test_two_groups_for_a_namespace_need_a_default() -> None:
    def groups(**more: Any) -> list[Raw]:
        one = group_v2("one", ranges=[("10.0.0.0/24", FOUR)], namespaces=["test"], **more)
        return [one, group_v2("two", ranges=[("10.0.1.0/24", "10.0.1.0/28")], namespaces=["test"])]

    assert why(decide(*groups(), service("a"))["a"]) is Reason.AMBIGUOUS_POOL
    assert pool_given(decide(*groups(namespaceDefault=True), service("a"))["a"]) == "one"


# -- dual stack ------------------------------------------------------------------------------------------------------


def test_prefer_dual_stack_takes_a_dual_pool_before_one_of_better_priority() -> None:
    first = pool("single", FOUR, serviceAllocation={"priority": 1})
    second = pool("dual", "10.0.1.0/28", SIX, serviceAllocation={"priority": 2})
    assert given(decide(first, second, service("a", **PREFER))["a"]) == ["10.0.1.0", "fd00::"]


def test_prefer_dual_stack_takes_a_pinned_single_pool_before_an_open_dual_one() -> None:
    pinned = pool("pinned", FOUR, serviceAllocation={"namespaces": ["test"]})
    assert given(decide(pinned, pool("dual", "10.0.1.0/28", SIX), service("a", **PREFER))["a"]) == ["10.0.0.0"]


def test_prefer_dual_stack_falls_back_to_its_second_family() -> None:
    assert given(decide(pool("six", SIX), service("a", **PREFER))["a"]) == ["fd00::"]


def test_dual_stack_service_that_becomes_single_keeps_its_first_family() -> None:
    found = decide(pool("p", FOUR, SIX), service("a", ipFamilies=["IPv4"], addresses=["10.0.0.5", "fd00::5"]))
    assert given(found["a"]) == ["10.0.0.5"]


@pytest.mark.parametrize("policy", [PREFER, REQUIRE])
def test_single_stack_service_that_becomes_dual_keeps_its_address(policy: dict[str, Any]) -> None:
    assert given(decide(pool("p", FOUR, SIX), service("a", addresses=["10.0.0.5"], **policy))["a"]) == [
        "10.0.0.5",
        "fd00::",
    ]


def test_dual_pool_that_becomes_single_leaves_the_other_address_alone() -> None:
    found = decide(pool("p", FOUR), service("a", addresses=["10.0.0.5", "fd00::5"], **PREFER))
    assert given(found["a"]) == ["10.0.0.5"]


def test_require_dual_stack_gets_nothing_from_a_single_pool() -> None:
    assert why(decide(pool("p", FOUR), service("a", addresses=["10.0.0.5"], **REQUIRE))["a"]) is Reason.POOL_EXHAUSTED


@pytest.mark.parametrize("policy", [PREFER, REQUIRE])
def test_dual_stack_service_that_asks_for_one_address_gets_a_companion(policy: dict[str, Any]) -> None:
    asked = service("a", annotations={"metallb.io/loadBalancerIPs": "fd00::7"}, **policy)
    assert given(decide(pool("p", FOUR, SIX), asked)["a"]) == ["10.0.0.0", "fd00::7"]


def test_requested_address_of_an_unwanted_family_is_refused() -> None:
    asked = service("a", loadBalancerIP="fd00::7", ipFamilies=["IPv4"])
    assert why(decide(pool("p", FOUR, SIX), asked)["a"]) is Reason.ADDRESS_FAMILY


def test_requested_addresses_of_two_pools_are_refused() -> None:
    asked = service("a", annotations={"purelb.io/addresses": "10.0.0.1, fd00::1"}, **REQUIRE)
    assert why(decide(pool("p", FOUR), pool("q", SIX), asked)["a"]) is Reason.ADDRESS_NOT_IN_POOL


def test_three_addresses_in_a_status_become_one_per_family() -> None:
    found = decide(pool("p", FOUR), service("a", ipFamilies=["IPv4"], addresses=["10.0.0.1", "10.0.0.2", "10.0.0.3"]))
    assert given(found["a"]) == ["10.0.0.1"]


# -- sharing ---------------------------------------------------------------------------------------------------------


def test_sharers_of_a_key_with_other_ports_get_one_address() -> None:
    found = decide(pool("p", FOUR), sharing("a", 80), sharing("b", 443), sharing("c", 53, key="else"))
    assert [given(found[name]) for name in "abc"] == [["10.0.0.0"], ["10.0.0.0"], ["10.0.0.1"]]


def test_same_port_of_another_protocol_is_no_conflict() -> None:
    udp = service("b", annotations={"metallb.io/allow-shared-ip": "k"}, ports=[{"port": 80, "protocol": "UDP"}])
    assert given(decide(pool("p", FOUR), sharing("a", 80), udp)["b"]) == ["10.0.0.0"]


def test_local_sharers_need_the_same_pods() -> None:
    local: dict[str, Any] = {"externalTrafficPolicy": "Local"}
    one, two = sharing("a", 80, selector={"app": "x"}, **local), sharing("b", 81, selector={"app": "x"}, **local)
    other, cluster = sharing("c", 82, selector={"app": "y"}, **local), sharing("d", 83)
    found = decide(pool("p", FOUR), one, two, other, cluster)
    assert [given(found[name])[0][-1] for name in "abcd"] == ["0", "0", "1", "2"]


def test_local_without_selector_does_not_share_with_cluster() -> None:
    found = decide(pool("p", FOUR), sharing("a", 80, externalTrafficPolicy="Local"), sharing("b", 81))
    assert given(found["a"]) != given(found["b"])


def test_requested_address_is_shared_only_with_the_key() -> None:
    asked: dict[str, Any] = {"loadBalancerIP": "10.0.0.9"}
    found = decide(pool("p", FOUR), sharing("a", 80, **asked), sharing("b", 443, **asked), service("c", **asked))
    assert given(found["a"]) == given(found["b"]) == ["10.0.0.9"]
    assert why(found["c"]) is Reason.ADDRESS_IN_USE


def test_sole_holder_may_change_its_key_and_ports() -> None:
    found = decide(pool("p", FOUR), sharing("a", 8080, key="new", addresses=["10.0.0.3"]))
    assert given(found["a"]) == ["10.0.0.3"]


def test_metallb_key_is_shared_across_namespaces_as_metallb_documents() -> None:
    found = decide(pool("p", FOUR), sharing("a", 80), sharing("b", 443, namespace="other"))
    assert given(found["a"]) == given(found["b"])


# -- several ranges --------------------------------------------------------------------------------------------------

TWO_RANGES = [("10.0.0.0/24", "10.0.0.1-10.0.0.9"), ("10.0.1.0/24", "10.0.1.1-10.0.1.9")]


def test_multi_pool_takes_one_address_of_every_range() -> None:
    many = group_v2("m", ranges=TWO_RANGES, body={"multiPool": True})
    assert given(decide(many, service("a", pool="m"))["a"]) == ["10.0.0.1", "10.0.1.1"]


def test_multi_pool_gives_a_range_that_came_later_to_those_who_are_there() -> None:
    many = group_v2("m", ranges=TWO_RANGES, body={"multiPool": True})
    assert given(decide(many, service("a", pool="m", addresses=["10.0.1.5"]))["a"]) == ["10.0.1.5", "10.0.0.1"]


@pytest.mark.parametrize(("text", "count"), [("true", 2), ("false", 1)])
def test_multi_pool_annotation_counts_over_the_group(text: str, count: int) -> None:
    many = group_v2("m", ranges=TWO_RANGES, body={"multiPool": text == "false"})
    one = service("a", pool="m", annotations={"purelb.io/multi-pool": text})
    assert len(given(decide(many, one)["a"])) == count


def test_multi_pool_counts_local_ranges_only_where_a_node_has_the_subnet() -> None:
    link = {"ifname": "eth0", "lladdr": "02:00:00:00:00:01", "subnets": ["10.0.1.0/24"]}
    many = group_v2("m", "local", ranges=TWO_RANGES, body={"multiPool": True})
    assert given(decide(many, announcement("n1", link), service("a", pool="m"))["a"]) == ["10.0.1.1"]


def test_balance_pools_takes_the_least_used_range() -> None:
    many = group_v2("m", ranges=TWO_RANGES, body={"balancePools": True})
    found = decide(many, *(service(name, pool="m") for name in "abc"))
    assert [given(found[name])[0] for name in "abc"] == ["10.0.0.1", "10.0.1.1", "10.0.0.2"]


# -- changes of pools ------------------------------------------------------------------------------------------------


def test_renamed_or_split_pool_keeps_addresses() -> None:
    halves = [pool("x", "10.0.0.0/29"), pool("y", "10.0.0.8/29")]
    found = decide(*halves, service("a", addresses=["10.0.0.3"]), service("b", addresses=["10.0.0.9"]))
    assert [given(found[name]) for name in "ab"] == [["10.0.0.3"], ["10.0.0.9"]]


def test_pool_that_stops_assigning_by_itself_moves_nobody() -> None:
    manual = pool("p", FOUR, autoAssign=False)
    assert given(decide(manual, service("a", addresses=["10.0.0.3"]))["a"]) == ["10.0.0.3"]


def test_shrunk_pool_moves_only_those_outside() -> None:
    found = decide(pool("p", "10.0.0.0/30"), service("a", addresses=["10.0.0.9"]), service("b", addresses=["10.0.0.0"]))
    assert [given(found[name]) for name in "ab"] == [["10.0.0.1"], ["10.0.0.0"]]


def test_avoid_buggy_ips_evicts_holders() -> None:
    buggy = pool("p", "10.0.0.255-10.0.1.1", avoidBuggyIPs=True)
    assert given(decide(buggy, service("a", addresses=["10.0.1.0"]))["a"]) == ["10.0.1.1"]
    assert why(decide(buggy, service("a", loadBalancerIP="10.0.1.0"))["a"]) is Reason.ADDRESS_NOT_IN_POOL


def test_replacement_never_takes_what_a_later_service_has() -> None:
    found = decide(pool("p", FOUR), service("a", addresses=["10.9.9.9"]), service("b", addresses=["10.0.0.0"]))
    assert [given(found[name]) for name in "ab"] == [["10.0.0.1"], ["10.0.0.0"]]


def test_ipv6_pool_of_any_size_is_filled_from_its_start() -> None:
    found = decide(pool("p", "fd00::/32"), service("a", ipFamilies=["IPv6"]))
    assert given(found["a"]) == [str(ip("fd00::"))]


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [("", "", True), ("other", "", True), ("test", "", False), ("", "third", False), ("other", "test", True)],
)
def test_key_of_metallb_is_for_all_namespaces_but_where_a_service_names_some(
    first: str, second: str, is_shared: bool
) -> None:
    def one(name: str, namespace: str, port: int, shares_with: str) -> Raw:
        notes = {"metallb.io/allow-shared-ip": "k", "announcer.io/share-with-namespaces": shares_with}
        return service(name, namespace=namespace, annotations=notes, ports=[{"port": port}])

    found = decide(pool("p", FOUR), one("a", "test", 80, first), one("b", "other", 443, second))
    assert (given(found["a"]) == given(found["b"])) is is_shared
