"""What allocation costs, counted in bytecode operations, which no machine and no load changes.

Twice the Services may cost a little more than twice as much (bisection, heaps): 2.3 times. What grows with fill, with
sharers or with pools would cost four times.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from announcer.core.allocate import allocate
from announcer.core.dialects import assemble
from announcer.core.model import Snapshot
from tests.builders import Raw, group_v2, parsed, pool, service, snapshot
from tests.unit.core.allocating import fed_back, sharing

SMALL = 100
Objects = Callable[[int], list[Raw]]


def operations(found: Snapshot, work: Callable[[Snapshot], object] = allocate) -> int:
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(found)
    finally:
        sys.settrace(before)
    return count


def names(count: int) -> list[str]:
    return [f"s{i:04}" for i in range(count)]


def filled(count: int) -> list[Raw]:
    return [pool("p", "10.0.0.0/16"), *map(service, names(count))]


def dual(count: int) -> list[Raw]:
    both: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    return [pool("p", "10.0.0.0/16", "fd00::/32"), *(service(name, **both) for name in names(count))]


def exhausted(count: int) -> list[Raw]:
    return [pool("p", "10.0.0.0/27"), *map(service, names(count))]


def requested(count: int) -> list[Raw]:
    return [pool("p", "10.0.0.0/16"), *(service(n, loadBalancerIP=f"10.0.1.{i}") for i, n in enumerate(names(count)))]


def one_port(count: int) -> list[Raw]:
    return [pool("p", "10.0.0.0/16"), *(sharing(name) for name in names(count))]


def one_address(count: int) -> list[Raw]:
    return [pool("p", "10.0.0.0/16"), *(sharing(name, i + 1) for i, name in enumerate(names(count)))]


def many_ranges(count: int) -> list[Raw]:
    return [pool("p", *(f"10.0.{i}.1/32" for i in range(count))), *map(service, names(count))]


def many_pools(count: int) -> list[Raw]:
    pools = [pool(f"p{i}", f"10.0.{i}.0/32", serviceAllocation={"namespaces": [f"n{i}"]}) for i in range(count)]
    return [*pools, *(service(name, namespace=f"n{i}") for i, name in enumerate(names(count)))]


def balanced(count: int) -> list[Raw]:
    ranges = [(f"10.{i}.0.0/16", f"10.{i}.0.0/16") for i in range(4)]
    return [group_v2("default", ranges=ranges, body={"balancePools": True}), *map(service, names(count))]


CASES = [filled, dual, exhausted, requested, one_port, one_address, many_ranges, many_pools, balanced]


@pytest.mark.parametrize("objects", CASES)
@pytest.mark.parametrize("settle", [lambda found: found, fed_back], ids=["new", "again"])
def test_cost_does_not_grow_with_fill(objects: Objects, settle: Callable[[Snapshot], Snapshot]) -> None:
    once, twice = (operations(settle(snapshot(*objects(n)))) for n in (SMALL, 2 * SMALL))
    assert twice <= 2.3 * once


@pytest.mark.parametrize("objects", CASES)
def test_a_newcomer_costs_little_beside_those_who_are_there(objects: Objects) -> None:
    settled = fed_back(snapshot(*objects(SMALL)))
    (newcomer,) = assemble(parsed(service("zz"))).services
    arrived = replace(settled, services=(*settled.services, newcomer))
    assert operations(arrived) <= 1.3 * operations(settled)


@pytest.mark.parametrize("objects", [many_ranges, many_pools])
def test_pools_are_compared_in_the_order_of_their_addresses(objects: Objects) -> None:
    def compare(count: int) -> int:
        values = parsed(*objects(count))
        return operations(Snapshot(), lambda _: assemble(values))

    assert compare(2 * SMALL) <= 2.3 * compare(SMALL)
