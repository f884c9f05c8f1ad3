"""The nine defects of PureLB's allocator (facts: purelb.md §2, "Defects found"), one after the other: ours has none.

`test_defect_N_...`; those that only the report can show (4, its counts) are here too, as the reader looks for nine.
"""

from typing import Any

import pytest

from announcer.core.allocate import Decision, allocate
from announcer.core.model import Reason
from announcer.core.report.cluster import pool_counts
from tests.builders import Raw, group, group_v2, ip, pool, service, snapshot
from tests.unit.core.allocating import decide, given, sharing, why

REQUIRE: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
PREFER: dict[str, Any] = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]}
SIX_ONLY: dict[str, Any] = {"ipFamilies": ["IPv6"]}
FOUR, SIX = "10.0.0.0/28", "fd00::/120"
ACCEPTED = {"status": {"conditions": [{"type": "announcer.io/Accepted", "status": "True"}]}}


def test_defect_1_range_strictly_inside_another_groups_range_is_an_overlap() -> None:
    wide, inner = pool("wide", "10.0.0.0/24"), pool("inner", "10.0.0.64/28")
    found = snapshot(wide | ACCEPTED, inner)
    assert [p.name for p in found.pools] == ["wide"]
    assert [(p.ref.name, p.reason) for p in found.problems] == [("inner", Reason.OVERLAPPING_POOL)]


def test_defect_1_ranges_of_one_group_may_not_overlap() -> None:
    ranges = [("10.0.0.0/24", "10.0.0.0/24"), ("10.0.0.0/24", "10.0.0.7-10.0.0.9")]
    assert [p.reason for p in snapshot(group_v2("g", ranges=ranges)).problems] == [Reason.OVERLAPPING_POOL]


def test_defect_2_later_group_does_not_knock_out_the_live_one() -> None:
    live = group("default", "10.113.113.0/24") | ACCEPTED
    found = snapshot(group("aaa", "10.113.113.7-10.113.113.9"), live)
    assert [p.name for p in found.pools] == ["default"]
    assert [p.ref.name for p in found.problems] == ["aaa"]


@pytest.mark.parametrize("brand", ["metallb.io", "purelb.io"])
def test_defect_3_port_conflict_in_a_huge_ipv6_pool_ends(brand: str) -> None:
    first, second = (sharing(name, 80, brand=brand, **SIX_ONLY) for name in "ab")
    found = decide(pool("p", "fd00::/32"), first, second)
    assert [given(found[name]) for name in "ab"] == [["fd00::"], ["fd00::1"]]


@pytest.mark.parametrize("length", [32, 63, 64, 65, 127, 128])
def test_defect_4_counts_of_ipv6_pools_of_any_size_fit_the_api(length: int) -> None:
    found = snapshot(pool("p", f"fd00::/{length}"), service("a", **SIX_ONLY))
    (counts,) = pool_counts(found, allocate(found)).values()
    assert found.pools[0].ranges[0].size == 2 ** (128 - length)
    assert (counts["assignedIPv6"], counts["availableIPv6"]) == (1, min(2 ** (128 - length) - 1, 2**63 - 1))


def test_defect_5_address_without_brand_is_adopted_and_not_given_again() -> None:
    found = decide(pool("p", FOUR), service("a"), service("b", addresses=["10.0.0.0"]))
    assert (given(found["a"]), given(found["b"])) == (["10.0.0.1"], ["10.0.0.0"])


def test_defect_6_request_that_fails_in_part_takes_nothing() -> None:
    taken = service("old", addresses=["fd00::1"], **SIX_ONLY)
    asked = service("a", annotations={"purelb.io/addresses": "10.0.0.0,fd00::1"}, **REQUIRE)
    found = decide(pool("p", FOUR, SIX), taken, asked, service("z"))
    assert why(found["a"]) is Reason.ADDRESS_IN_USE
    assert given(found["z"]) == ["10.0.0.0"]


def test_defect_6_request_whose_companion_is_missing_takes_nothing() -> None:
    asked = service("a", annotations={"purelb.io/addresses": "10.0.0.0"}, **REQUIRE)
    found = decide(pool("p", FOUR), asked, service("z"))
    assert why(found["a"]) is Reason.POOL_EXHAUSTED
    assert given(found["z"]) == ["10.0.0.0"]


@pytest.mark.parametrize("status", [["10.0.0.2"], ["10.0.0.2", "fd00::2"], ["fd00::2", "10.0.0.2"]])
def test_defect_6_transition_with_requested_addresses_repeats_none(status: list[str]) -> None:
    asked = service("a", annotations={"purelb.io/addresses": "10.0.0.2"}, addresses=status, **PREFER)
    expected = ["10.0.0.2", "fd00::2" if len(status) == 2 else "fd00::"]
    assert given(decide(pool("p", FOUR, SIX), asked)["a"]) == expected


def test_defect_7_edited_ports_of_sharers_are_checked_again() -> None:
    have: dict[str, Any] = {"addresses": ["10.0.0.0"]}
    found = decide(pool("p", FOUR), sharing("a", 80, **have), sharing("b", 80, **have))
    assert [given(found[name]) for name in "ab"] == [["10.0.0.0"], ["10.0.0.1"]]


def test_defect_7_port_that_a_sharer_has_no_more_is_free() -> None:
    have: dict[str, Any] = {"addresses": ["10.0.0.0"]}
    found = decide(pool("p", FOUR), sharing("a", 8080, **have), sharing("b", 80))
    assert given(found["b"]) == ["10.0.0.0"]


def test_defect_8_duplicates_that_are_found_at_start_are_settled() -> None:
    have: dict[str, Any] = {"addresses": ["10.0.0.0"], "annotations": {"purelb.io/allocated-by": "PureLB"}}
    found = decide(pool("p", FOUR), service("a", **have), service("b", **have))
    assert [given(found[name]) for name in "ab"] == [["10.0.0.0"], ["10.0.0.1"]]


def purelb_sharers(first: str = "", second: str = "") -> list[Decision]:
    def one(name: str, namespace: str, port: int, shares_with: str) -> Raw:
        notes = {"purelb.io/allow-shared-ip": "k", "announcer.io/share-with-namespaces": shares_with}
        return service(name, namespace=namespace, annotations=notes, ports=[{"port": port}])

    found = decide(pool("p", FOUR), one("a", "test", 80, first), one("b", "other", 443, second))
    return [found["a"], found["b"]]


@pytest.mark.parametrize(("first", "second"), [("", ""), ("other", ""), ("", "test"), ("third", "test")])
def test_defect_9_guessing_a_key_of_another_namespace_shares_nothing(first: str, second: str) -> None:
    a, b = purelb_sharers(first, second)
    assert given(a) != given(b)


@pytest.mark.parametrize(("first", "second"), [("other", "test"), ("*", "test, third"), ("*", "*")])
def test_defect_9_namespaces_share_where_both_say_so(first: str, second: str) -> None:
    a, b = purelb_sharers(first, second)
    assert given(a) == given(b) == [str(ip("10.0.0.0"))]
