"""What changes do to those who have addresses: families, requests, pools that shrink, go, or can't be understood."""

from dataclasses import replace
from typing import Any

import pytest

from announcer.core.allocate import Assignment, allocate
from announcer.core.dialects.mistakes import explain
from announcer.core.model import Reason, Snapshot
from announcer.core.report import writings
from tests.builders import Raw, agent, announcement, group, group_v2, namespace, peer, pool, raw, service, snapshot
from tests.unit.core.allocating import decide, fed_back, given, pool_given, sharing, why

FOUR, SIX = "10.0.0.0/28", "fd00::/120"
V4, V6, BOTH, REVERSE = ["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
REFUSED_SERVICE: dict[str, Any] = {"externalTrafficPolicy": "x"}
BROKEN = group("broken", "10.9.9-1-10.9.9.9", "10.9.9.0/24")


def asking(name: str, asked: str, brand: str = "metallb.io/loadBalancerIPs", **more: Any) -> Raw:
    return service(name, annotations={brand: asked}, **more)


# -- dual stack: every policy, every transition ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "families", "had", "gets"),
    [
        (SINGLE, V4, [], ["10.0.0.0"]),
        (SINGLE, V6, [], ["fd00::"]),
        (SINGLE, BOTH, [], ["10.0.0.0"]),
        (PREFER, BOTH, [], ["10.0.0.0", "fd00::"]),
        (REQUIRE, REVERSE, [], ["fd00::", "10.0.0.0"]),
        (PREFER, BOTH, ["10.0.0.5"], ["10.0.0.5", "fd00::"]),  # single → dual keeps its first address
        (REQUIRE, BOTH, ["10.0.0.5"], ["10.0.0.5", "fd00::"]),
        (REQUIRE, REVERSE, ["10.0.0.5"], ["fd00::", "10.0.0.5"]),
        (SINGLE, V4, ["10.0.0.5", "fd00::5"], ["10.0.0.5"]),  # dual → single drops the second
        (SINGLE, V6, ["fd00::5", "10.0.0.5"], ["fd00::5"]),
        (SINGLE, V6, ["10.0.0.5"], ["fd00::"]),  # the family changes
        (PREFER, REVERSE, ["10.0.0.5", "fd00::5"], ["fd00::5", "10.0.0.5"]),  # their order changes
        (PREFER, BOTH, ["10.0.0.5", "fd00::5"], ["10.0.0.5", "fd00::5"]),  # prefer ⇄ require
        (REQUIRE, BOTH, ["10.0.0.5", "fd00::5"], ["10.0.0.5", "fd00::5"]),
    ],
)
def test_families_of_a_dual_pool(policy: str, families: list[str], had: list[str], gets: list[str]) -> None:
    one = service("a", ipFamilyPolicy=policy, ipFamilies=families, addresses=had)
    assert given(decide(pool("p", FOUR, SIX), one)["a"]) == gets


def test_require_dual_stack_leaves_a_single_pool_for_a_dual_one() -> None:
    one = service("a", ipFamilyPolicy=REQUIRE, ipFamilies=BOTH, addresses=["10.0.0.5"])
    found = decide(pool("p", FOUR), pool("q", "10.1.0.0/28", SIX), one, service("z", addresses=["10.0.0.1"]))
    assert given(found["a"]) == ["10.1.0.0", "fd00::"]


def test_address_given_up_is_free_in_the_same_pass() -> None:
    leaver = service("a", ipFamilyPolicy=REQUIRE, ipFamilies=BOTH, addresses=["10.0.0.0"])
    found = decide(pool("p", "10.0.0.0/32"), leaver, service("b"), asking("c", "10.9.9.9"))
    assert why(found["a"]) is Reason.POOL_EXHAUSTED
    assert given(found["b"]) == ["10.0.0.0"]


def test_prefer_dual_stack_takes_nothing_from_a_pool_it_passes_over() -> None:
    taken = service("t", ipFamilies=V6, addresses=["fd00::"])
    found = decide(pool("p", "10.0.0.0/32", "fd00::/128"), taken, service("a", ipFamilyPolicy=PREFER, ipFamilies=BOTH))
    assert given(found["a"]) == ["10.0.0.0"]


def test_prefer_dual_stack_gets_its_second_address_when_one_is_free_again() -> None:
    one = service("a", ipFamilyPolicy=PREFER, ipFamilies=BOTH, addresses=["10.0.0.3"])
    assert given(decide(pool("p", FOUR, "fd00::/128"), one)["a"]) == ["10.0.0.3", "fd00::"]


def test_family_that_nobody_stated_stays_when_the_pool_turns_dual() -> None:
    assert given(decide(pool("p", FOUR, SIX), service("a", addresses=["fd00::5"]))["a"]) == ["fd00::5"]
    assert given(decide(pool("p", FOUR), service("a", addresses=["fd00::5"]))["a"]) == ["10.0.0.0"]


def test_family_that_nobody_stated_is_open_again_for_who_loses_its_address() -> None:
    twins = [service(name, addresses=["fd00::5"]) for name in "ab"]
    found = decide(pool("p", "10.0.0.0/32", "fd00::5/128"), *twins, service("c", addresses=["10.9.9.9", "fd00::9"]))
    assert [given(found[name]) for name in "ab"] == [["fd00::5"], ["10.0.0.0"]]


def test_family_that_nobody_stated_is_one() -> None:
    assert given(decide(pool("p", FOUR, SIX), service("a", addresses=["fd00::5", "10.0.0.5"]))["a"]) == ["fd00::5"]


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "more", "gets"),
    [
        ("10.0.0.7", {}, ["10.0.0.7"]),
        ("fd00::7", {}, ["fd00::7"]),  # nobody stated a family but the request
        ("10.0.0.7,fd00::7", {}, ["10.0.0.7", "fd00::7"]),
        ("fd00::7, 10.0.0.7", {"ipFamilyPolicy": REQUIRE, "ipFamilies": BOTH}, ["10.0.0.7", "fd00::7"]),
        ("fd00::7", {"ipFamilyPolicy": PREFER, "ipFamilies": BOTH}, ["10.0.0.0", "fd00::7"]),
        ("10.0.0.7", {"ipFamilyPolicy": REQUIRE, "ipFamilies": REVERSE}, ["fd00::", "10.0.0.7"]),
    ],
)
def test_requested_addresses_are_given_and_completed(text: str, more: dict[str, Any], gets: list[str]) -> None:
    for brand in ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs", "purelb.io/addresses"):
        assert given(decide(pool("p", FOUR, SIX), asking("a", text, brand, **more))["a"]) == gets


def test_requested_pair_for_a_single_stack_service_is_refused() -> None:
    one = asking("a", "10.0.0.7,fd00::7", ipFamilyPolicy=SINGLE, ipFamilies=V4)
    assert why(decide(pool("p", FOUR, SIX), one)["a"]) is Reason.ADDRESS_FAMILY


def test_holder_of_a_requested_address_keeps_it_against_an_older_request() -> None:
    holder = asking("b", "fd00::7", addresses=["fd00::7"])
    found = decide(pool("p", FOUR, SIX), asking("a", "fd00::7"), holder)
    assert given(found["b"]) == ["fd00::7"]
    assert why(found["a"]) is Reason.ADDRESS_IN_USE


def test_companion_comes_from_the_pool_of_the_requested_address() -> None:
    pools = [pool("p", FOUR, SIX), pool("q", "10.1.0.0/28", "fd01::/120")]
    have: dict[str, Any] = {"addresses": ["10.0.0.5", "fd00::5"], "ipFamilyPolicy": PREFER, "ipFamilies": BOTH}
    assert given(decide(*pools, asking("a", "10.1.0.1", **have))["a"]) == ["10.1.0.1", "fd01::"]


def test_changed_request_that_is_impossible_clears_the_address() -> None:
    one = asking("a", "10.0.0.9", addresses=["10.0.0.1"])
    found = decide(pool("p", FOUR), one, service("b", addresses=["10.0.0.9"]), service("c", addresses=["10.0.0.0"]))
    assert why(found["a"]) is Reason.ADDRESS_IN_USE


def test_purelb_addresses_count_over_the_named_group() -> None:
    notes = {"purelb.io/addresses": "10.0.0.3", "purelb.io/service-group": "default"}
    assert given(decide(group("default"), pool("p", FOUR), service("a", annotations=notes))["a"]) == ["10.0.0.3"]


def test_metallb_addresses_and_pool_must_agree() -> None:
    notes = {"metallb.io/loadBalancerIPs": "10.0.0.3", "metallb.io/address-pool": "q"}
    found = decide(pool("q", "10.1.0.0/28"), pool("p", FOUR), service("a", annotations=notes))
    assert why(found["a"]) is Reason.ADDRESS_NOT_IN_POOL


def test_enforced_namespaces_are_not_retroactive_for_requests_either() -> None:
    red = group_v2("red", ranges=[("10.0.0.0/24", FOUR)], namespaces=["red"], enforceNamespaces=True)
    asked = asking("a", "10.0.0.5", "purelb.io/addresses", addresses=["10.0.0.5"])
    assert given(decide(red, asked)["a"]) == ["10.0.0.5"]


def test_request_takes_one_address_also_of_a_multi_pool_group() -> None:
    ranges = [("10.0.0.0/24", FOUR), ("10.0.1.0/24", "10.0.1.0/28")]
    many = group_v2("m", ranges=ranges, body={"multiPool": True})
    one = asking("a", "10.0.1.3", "purelb.io/addresses", ipFamilyPolicy=PREFER, ipFamilies=BOTH)
    assert given(decide(many, one)["a"]) == ["10.0.1.3"]


def test_reason_does_not_depend_on_how_the_holder_is_called() -> None:
    found = decide(pool("p", FOUR), service("sharepoint", addresses=["10.0.0.1"]), asking("a", "10.0.0.1"))
    assert why(found["a"]) is Reason.ADDRESS_IN_USE


def test_address_of_a_service_of_another_class_is_not_given() -> None:
    foreign = service("f", addresses=["10.0.0.0"], loadBalancerClass="else.io/lb")
    found = decide(pool("p", FOUR), foreign, service("a"), asking("b", "10.0.0.0"))
    assert given(found["a"]) == ["10.0.0.1"]
    assert why(found["b"]) is Reason.ADDRESS_IN_USE


# -- several ranges --------------------------------------------------------------------------------------------------


def test_multi_pool_prefers_dual_stack_and_is_content_with_every_range_of_one() -> None:
    ranges = [("10.0.0.0/24", FOUR), ("10.0.1.0/24", "10.0.1.0/28"), ("fd00::/64", "fd00::/128")]
    many = group_v2("m", ranges=ranges, body={"multiPool": True})
    taken = service("t", pool="m", ipFamilies=V6, addresses=["fd00::"])
    found = decide(many, taken, service("a", pool="m", ipFamilyPolicy=PREFER, ipFamilies=BOTH))
    assert given(found["a"]) == ["10.0.0.0", "10.0.1.0"]


def test_multi_pool_of_a_v1_group_counts_every_range() -> None:
    pools = [{"subnet": f"10.0.{i}.0/24", "pool": f"10.0.{i}.0/28"} for i in (0, 1)]
    old = raw("purelb.io/v1", "ServiceGroup", "m", spec={"local": {"v4pools": pools}})
    one = service("a", pool="m", annotations={"purelb.io/multi-pool": "true"})
    assert given(decide(old, one)["a"]) == ["10.0.0.0", "10.0.1.0"]


def test_multi_pool_keeps_what_it_has_of_a_range_that_no_node_has_any_more() -> None:
    ranges = [("10.0.0.0/24", FOUR), ("10.111.111.0/24", "10.111.111.100-10.111.111.109")]
    many = group_v2("m", "local", ranges=ranges, body={"multiPool": True})
    found = decide(many, announcement("n1"), service("a", pool="m", addresses=["10.0.0.3", "10.111.111.105"]))
    assert given(found["a"]) == ["10.0.0.3", "10.111.111.105"]


# -- pools that shrink, go, or can't be understood -------------------------------------------------------------------


def told(found: Snapshot) -> str:
    """The Event for Service `a`, whose status has had these addresses for long."""
    (writing,) = (w for w in writings(found, allocate(found)) if w.ref.name == "a")
    ingress = [{"ip": str(a)} for s in found.services for a in s.status_addresses]
    return writing.tell({"status": {"loadBalancer": {"ingress": ingress}}})[0].message


def test_address_of_a_deleted_pool_is_replaced_and_the_event_says_so() -> None:
    found = snapshot(pool("p", FOUR), service("a", addresses=["10.9.9.9"]))
    assert told(found) == "10.0.0.0 from pool p, instead of 10.9.9.9, which it may not have any more"


def test_service_whose_pool_is_deleted_is_refused_where_no_other_is_for_it() -> None:
    found = snapshot(service("a", pool="p", addresses=["10.0.0.3"]))
    assert told(found) == "UnknownPool: asks for pool 'p', and the usable pools are: none; it had 10.0.0.3"


@pytest.mark.parametrize("broken", [service("r", **REFUSED_SERVICE), agent(extlbint="a b"), peer(holdTime="2s")])
def test_refused_object_that_is_no_pool_keeps_nobody_in_a_pool_that_is_gone(broken: Raw) -> None:
    assert given(decide(pool("p", FOUR), broken, service("a", addresses=["10.9.9.9"]))["a"]) == ["10.0.0.0"]


def test_pool_that_cannot_be_understood_loses_no_address_and_gives_none_twice() -> None:
    have: dict[str, Any] = {"ipFamilyPolicy": PREFER, "ipFamilies": BOTH}
    half = service("a", addresses=["10.0.0.0", "fd09::1"], **have)
    found = decide(pool("p", FOUR), BROKEN, half, service("b"), service("c", pool="p", addresses=["10.9.9.9"]))
    assert [given(found[name]) for name in "abc"] == [["10.0.0.0", "fd09::1"], ["10.0.0.1"], ["10.9.9.9"]]
    assert pool_given(found["a"]) == ""


def test_pool_that_cannot_be_understood_stays_the_one_that_is_named() -> None:
    other = pool("other", "10.9.9.0/24", serviceAllocation={"namespaces": ["else"]})
    one = service("a", pool="broken", addresses=["10.9.9.5"])
    assert given(decide(BROKEN, other, one)["a"]) == ["10.9.9.5"]


def test_text_that_cannot_be_read_leaves_known_pools_known() -> None:
    text = explain("spec:\n  - a\n  b: c", 2, "wrong", "f.yaml:1")
    found = snapshot(pool("p", FOUR), service("a", addresses=["10.0.0.3"]), service("b", addresses=["10.9.9.9"]))
    decisions = allocate(replace(found, refused=frozenset({text.ref})))
    assert [pool_given(d) for d in decisions.values()] == ["p", ""]


def test_duplicates_of_a_pool_that_cannot_be_understood_are_settled() -> None:
    twins = [service(name, addresses=["10.9.9.5"]) for name in "ab"]
    found = decide(pool("p", FOUR), BROKEN, *twins)
    assert [given(found[name]) for name in "ab"] == [["10.9.9.5"], ["10.0.0.0"]]


def test_sharer_keeps_its_address_when_the_other_is_refused() -> None:
    have: dict[str, Any] = {"addresses": ["10.0.0.3"]}
    found = decide(pool("p", FOUR), sharing("a", 80, **have), sharing("b", 443, **have, **REFUSED_SERVICE))
    assert given(found["a"]) == ["10.0.0.3"]


def test_service_of_a_namespace_that_cannot_be_understood_stays() -> None:
    red = pool("red", FOUR, serviceAllocation={"namespaceSelectors": [{"matchLabels": {"team": "red"}}]})
    wrong = raw("v1", "Namespace", "test", metadata={"labels": ["team"]})
    found = decide(red, pool("p", "10.1.0.0/28"), wrong, service("a", addresses=["10.0.0.3"]))
    assert given(found["a"]) == ["10.0.0.3"]


@pytest.mark.parametrize(
    ("allocation", "address"),
    [
        ({"namespaceSelectors": [{"matchLabels": {"team": "red"}}]}, "10.0.0.3"),
        ({"namespaces": ["other"]}, "10.1.0.0"),  # no label of its namespace would help
        ({"namespaceSelectors": [{}], "serviceSelectors": [{"matchLabels": {"app": "x"}}]}, "10.1.0.0"),
    ],
)
def test_service_of_a_namespace_that_nobody_has_heard_of_keeps_what_it_may_have(allocation: Raw, address: str) -> None:
    red = pool("red", FOUR, serviceAllocation=allocation)
    found = decide(red, pool("p", "10.1.0.0/28"), service("a", addresses=["10.0.0.3"]))
    assert given(found["a"]) == [address]


def test_namespace_that_nobody_has_heard_of_is_selected_by_its_name() -> None:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "test"}}
    red = pool("red", FOUR, serviceAllocation={"namespaceSelectors": [selector]})
    assert given(decide(red, service("a"))["a"]) == ["10.0.0.0"]


def test_namespace_is_selected_by_the_label_that_the_api_server_gives() -> None:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "test"}}
    red = pool("red", FOUR, serviceAllocation={"namespaceSelectors": [selector]})
    assert given(decide(red, namespace("test"), service("a"))["a"]) == ["10.0.0.0"]


def test_fence_of_a_purelb_group_evicts_nobody_from_a_metallb_pool() -> None:
    red = group_v2("red", ranges=[("10.2.0.0/24", "10.2.0.0/28")], namespaces=["test"], enforceNamespaces=True)
    metal = pool("p", FOUR, serviceAllocation={"namespaces": ["test"]})
    assert given(decide(red, metal, service("a", addresses=["10.0.0.3"]))["a"]) == ["10.0.0.3"]


# -- sharing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [{}, {"app": "x"}])
def test_local_sharers_of_two_namespaces_have_other_pods(selector: dict[str, str]) -> None:
    local: dict[str, Any] = {"externalTrafficPolicy": "Local", "selector": selector}
    found = decide(pool("p", FOUR), sharing("a", 80, **local), sharing("b", 81, namespace="other", **local))
    assert given(found["a"]) != given(found["b"])


def test_sharers_with_one_port_take_the_lowest_address_where_it_is_free() -> None:
    first = [sharing(name, 80, addresses=[f"10.0.0.{n}"]) for n, name in ((3, "a"), (2, "b"))]
    found = decide(pool("p", FOUR), *first, sharing("c", 80), sharing("d", 443), sharing("e", 443))
    assert [given(found[name]) for name in "cde"] == [["10.0.0.0"], ["10.0.0.0"], ["10.0.0.2"]]


def test_sharing_key_stays_within_the_pools_a_service_may_use() -> None:
    found = decide(
        pool("p", FOUR), pool("q", "10.1.0.0/28"), sharing("a", 80), sharing("b", 443, addresses=["10.1.0.3"])
    )
    assert given(found["a"]) == ["10.0.0.0"]


def test_status_that_names_an_address_twice_is_one_address() -> None:
    found = decide(pool("p", FOUR), BROKEN, service("a", addresses=["10.0.0.3", "10.0.0.3"]))
    assert (given(found["a"]), pool_given(found["a"])) == (["10.0.0.3"], "p")


# -- cost ------------------------------------------------------------------------------------------------------------


def test_fed_back_decisions_are_settled() -> None:
    found = fed_back(snapshot(pool("p", FOUR, SIX), *(sharing(name, 80 + i) for i, name in enumerate("abc"))))
    assert {d.addresses for d in allocate(found).values() if isinstance(d, Assignment)} == {
        found.services[0].status_addresses
    }
