"""allocate: nothing twice but what is shared; a newcomer moves nobody; input order is irrelevant; once is enough.

A *settled* snapshot is one whose statuses say what was decided, as after a pass: restarts and new leaders begin there.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from announcer.core.allocate import Assignment, Decision, allocate
from announcer.core.dialects import assemble
from announcer.core.model import IPAddress, Service, ServiceKey, Snapshot
from tests.builders import Raw, parsed, service
from tests.property.strategies import CHOICES, balanced, quarrels
from tests.unit.core.allocating import fed_back

OBJECTS = quarrels().map(lambda found: found[1])
Addresses = Mapping[ServiceKey, tuple[IPAddress, ...]]


def snapshot(*objects: Raw) -> Snapshot:
    return assemble(parsed(*objects))


def given_in(decisions: Mapping[ServiceKey, Decision]) -> Addresses:
    return {key: d.addresses for key, d in decisions.items() if isinstance(d, Assignment)}


def may_share(one: Service, other: Service) -> bool:
    """The rule in one place and the other way round: what the allocator's Book is measured by."""
    if not one.sharing_key or one.sharing_key != other.sharing_key or one.backend != other.backend:
        return False
    here, there = one.ref.namespace, other.ref.namespace
    default = {"*"} if one.sharing_key.startswith("metallb") else set()
    is_agreed = {"*", there} & (one.shares_with or default) and {"*", here} & (other.shares_with or default)
    return not one.ports & other.ports and bool(here == there or is_agreed)


def in_pools(found: Snapshot, addresses: tuple[IPAddress, ...]) -> bool:
    return all(any(a in r for pool in found.pools for r in pool.ranges) for a in addresses)


@given(OBJECTS)
def test_no_address_is_given_twice_but_to_sharers(objects: list[Raw]) -> None:
    found = snapshot(*objects)
    given_now = given_in(allocate(found))
    services = [s for s in found.services if s.key in given_now]
    for one, other in combinations(services, 2):
        assert may_share(one, other) or not set(given_now[one.key]) & set(given_now[other.key])


@given(OBJECTS)
def test_addresses_are_of_one_pool_and_of_wanted_families(objects: list[Raw]) -> None:
    found = snapshot(*objects)
    homes = {pool.name: pool.ranges for pool in found.pools}
    for key, decision in allocate(found).items():
        (one,) = (s for s in found.services if s.key == key)
        if isinstance(decision, Assignment):
            assert all(any(a in r for r in homes[decision.pool]) for a in decision.addresses)
            assert not one.families or {a.version for a in decision.addresses} <= set(one.families)


@given(OBJECTS, st.randoms(use_true_random=False))
def test_input_order_is_irrelevant(objects: list[Raw], random: Random) -> None:
    shuffled = random.sample(objects, len(objects))
    assert allocate(snapshot(*objects)) == allocate(snapshot(*shuffled))


@given(OBJECTS)
def test_running_it_again_changes_nothing(objects: list[Raw]) -> None:
    once = fed_back(snapshot(*objects))
    assert given_in(allocate(once)) == given_in(allocate(snapshot(*objects)))
    assert fed_back(once) == once


@given(st.data())
def test_a_newcomer_moves_nobody(data: st.DataObject) -> None:
    pools, objects = data.draw(quarrels())
    newcomer = data.draw(balanced("a-newcomer", pools, has_status=False))
    settled = fed_back(snapshot(*objects))
    (arrived,) = snapshot(newcomer).services
    after = given_in(allocate(replace(settled, services=(*settled.services, arrived))))
    before = given_in(allocate(settled))
    assert {key: after[key] for key in before} == before


@given(OBJECTS, st.integers(0, 7))
def test_a_service_that_goes_moves_nobody(objects: list[Raw], which: int) -> None:
    settled = fed_back(snapshot(*objects))
    stay = tuple(s for i, s in enumerate(settled.services) if i != which)
    after = given_in(allocate(replace(settled, services=stay)))
    for key, addresses in given_in(allocate(settled)).items():
        assert key not in {s.key for s in stay} or set(addresses) <= set(after[key])


@given(quarrels())
def test_a_pool_that_goes_moves_only_those_of_it(found: tuple[tuple[str, ...], list[Raw]]) -> None:
    (changed, *_), objects = found
    settled = fed_back(snapshot(*objects))
    left = replace(settled, pools=tuple(p for p in settled.pools if p.name != changed))
    after = given_in(allocate(left))
    for key, addresses in given_in(allocate(settled)).items():
        if in_pools(left, addresses):
            assert after[key] == addresses
        else:
            assert not set(after.get(key, ())) & set(addresses)


@given(quarrels())
def test_a_pool_that_shrinks_moves_only_those_outside(found: tuple[tuple[str, ...], list[Raw]]) -> None:
    (changed, *_), objects = found
    settled = fed_back(snapshot(*objects))
    before = given_in(allocate(settled))
    halves = (replace(p, ranges=p.ranges[:1]) if p.name == changed else p for p in settled.pools)
    left = replace(settled, pools=tuple(halves))
    after = given_in(allocate(left))
    for key, addresses in before.items():
        if in_pools(left, addresses):
            assert set(addresses) <= set(after[key])


@given(quarrels())
def test_a_pool_that_cannot_be_understood_moves_nobody(found: tuple[tuple[str, ...], list[Raw]]) -> None:
    (changed, *_), objects = found
    settled = fed_back(snapshot(*objects))
    lost = [p for p in settled.pools if p.name == changed]
    left = tuple(p for p in settled.pools if p not in lost)
    refused = settled.refused | {p.ref for p in lost}
    after = given_in(allocate(replace(settled, pools=left, refused=refused)))
    assert {key: after[key] for key in given_in(allocate(settled))} == given_in(allocate(settled))


@given(st.lists(st.integers(0, 3), unique=True, min_size=1), st.sampled_from(["purelb", "metallb", ""]))
def test_status_addresses_are_adopted_whoever_wrote_them(last: list[int], brand: str) -> None:
    notes = {"purelb": {"purelb.io/allocated-by": "PureLB"}, "metallb": {"metallb.io/ip-allocated-from-pool": "x"}}
    owned = [service(f"s{i}", addresses=[f"10.121.0.{i}"], annotations=notes.get(brand)) for i in last]
    after = given_in(allocate(snapshot(CHOICES["six"][0], *owned, service("a-newcomer"))))
    assert {str(after[ServiceKey(f"test/s{i}")][0]) for i in last} == {f"10.121.0.{i}" for i in last}
