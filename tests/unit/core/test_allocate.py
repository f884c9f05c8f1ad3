"""Who gets which address, and why not."""

from typing import Any

import pytest

from announcer.core.model import Reason
from tests.builders import group, ip, metallb, pool, service
from tests.unit.core.allocating import decide
from tests.unit.core.allocating import given as addresses
from tests.unit.core.allocating import why as reason

SMALL = pool("small", "10.113.113.1-10.113.113.2")
DUAL: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}


def test_allocate_gives_the_lowest_free_addresses_in_order() -> None:
    found = decide(SMALL, service("b"), service("a"))
    assert addresses(found["a"]) == ["10.113.113.1"]
    assert addresses(found["b"]) == ["10.113.113.2"]


def test_allocate_keeps_a_status_address_against_an_older_newcomer() -> None:
    found = decide(SMALL, service("a"), service("b", addresses=["10.113.113.1"]))
    assert addresses(found["b"]) == ["10.113.113.1"]
    assert addresses(found["a"]) == ["10.113.113.2"]


def test_allocate_gives_one_address_to_one_of_two_that_claim_it() -> None:
    twins = [service(name, addresses=["10.113.113.1"]) for name in "ab"]
    found = decide(SMALL, *twins)
    assert [addresses(found[name]) for name in "ab"] == [["10.113.113.1"], ["10.113.113.2"]]


def test_allocate_gives_the_requested_address_before_anybody_else_takes_it() -> None:
    found = decide(SMALL, service("a"), service("z", annotations={"metallb.io/loadBalancerIPs": "10.113.113.1"}))
    assert addresses(found["z"]) == ["10.113.113.1"]


def test_allocate_follows_a_changed_request() -> None:
    found = decide(SMALL, service("a", addresses=["10.113.113.1"], loadBalancerIP="10.113.113.2"))
    assert addresses(found["a"]) == ["10.113.113.2"]


def test_allocate_follows_a_changed_pool() -> None:
    other = group("other", "10.114.0.1-10.114.0.9", "10.114.0.0/24")
    found = decide(SMALL, other, service("a", pool="other", addresses=["10.113.113.1"]))
    assert addresses(found["a"]) == ["10.114.0.1"]


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (service("a", pool="none"), Reason.UNKNOWN_POOL),
        (service("a", loadBalancerIP="10.0.0.1"), Reason.ADDRESS_NOT_IN_POOL),
        (service("a", loadBalancerIP="10.113.113.2"), Reason.ADDRESS_IN_USE),
        (service("a", ipFamilies=["IPv6"]), Reason.POOL_EXHAUSTED),
        (service("a", **DUAL), Reason.POOL_EXHAUSTED),
    ],
)
def test_allocate_says_why_there_is_no_address(one: dict[str, Any], why: Reason) -> None:
    assert reason(decide(SMALL, service("old", addresses=["10.113.113.2"]), one)["a"]) is why


def test_allocate_says_when_no_pool_assigns_by_itself() -> None:
    manual = metallb("IPAddressPool", "manual", addresses=["10.0.0.0/24"], autoAssign=False)
    found = decide(manual, service("a"), service("b", pool="manual"))
    assert reason(found["a"]) is Reason.NO_POOL
    assert addresses(found["b"]) == ["10.0.0.0"]


def test_allocate_gives_both_families_in_the_order_of_the_service() -> None:
    both = metallb("IPAddressPool", "both", addresses=["10.0.0.0/24", "fd00::/64"])
    assert addresses(decide(both, service("a", **DUAL))["a"]) == ["fd00::", "10.0.0.0"]


def test_allocate_prefers_dual_stack_and_is_content_with_one() -> None:
    assert addresses(decide(SMALL, service("a", ipFamilyPolicy="PreferDualStack"))["a"]) == ["10.113.113.1"]


def test_allocate_skips_buggy_addresses_where_the_pool_says_so() -> None:
    buggy = pool("p", "10.0.0.255-10.0.1.1", avoidBuggyIPs=True)
    assert addresses(decide(buggy, service("a"))["a"]) == ["10.0.1.1"]


def test_allocate_leaves_other_classes_and_types_alone() -> None:
    assert decide(SMALL, service("a", type="ClusterIP"), service("b", loadBalancerClass="else.io/lb")) == {}


def test_allocate_replaces_an_address_outside_every_pool() -> None:
    assert addresses(decide(SMALL, service("a", addresses=["10.9.9.9"]))["a"]) == ["10.113.113.1"]


def test_allocate_keeps_an_address_whose_pool_cannot_be_understood() -> None:
    broken = group("broken", "10.9.9-1-10.9.9.9", "10.9.9.0/24")
    assert addresses(decide(SMALL, broken, service("a", addresses=["10.9.9.9"]))["a"]) == ["10.9.9.9"]


def test_allocate_never_gives_what_a_refused_service_has() -> None:
    refused = service("r", addresses=["10.113.113.1"], externalTrafficPolicy="x")
    assert addresses(decide(SMALL, refused, service("a"))["a"]) == ["10.113.113.2"]


def test_allocate_fills_a_large_ipv6_pool_from_its_start() -> None:
    huge = pool("huge", "fd00:113::/64")
    found = decide(huge, *(service(f"s{i}", ipFamilies=["IPv6"]) for i in range(3)))
    assert addresses(found["s2"]) == ["fd00:113::2"]
    assert ip("fd00:113::2").version == 6
