"""allocate: no address twice; a newcomer moves nobody; input order is irrelevant; running it again changes nothing."""

from collections.abc import Mapping
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from announcer.core.allocate import Assignment, Decision, allocate
from announcer.core.dialects import assemble
from tests.builders import Raw, parsed, service
from tests.property.strategies import POOLS, services


def decide(objects: list[Raw]) -> Mapping[str, Decision]:
    return {str(key): decision for key, decision in allocate(assemble(parsed(*objects))).items()}


def written_back(objects: list[Raw]) -> list[Raw]:
    """The same objects with every decision in their status, as the allocator writes it."""
    decisions = decide(objects)
    found = []
    for one in objects:
        decision = decisions.get(f"test/{one['metadata']['name']}") if one["kind"] == "Service" else None
        given = decision.addresses if isinstance(decision, Assignment) else ()
        status = {"loadBalancer": {"ingress": [{"ip": str(address)} for address in given]}}
        found.append(one | ({"status": status} if decision else {}))
    return found


@given(services())
def test_no_address_is_given_twice(found: list[Raw]) -> None:
    addresses = [a for d in decide([*POOLS, *found]).values() if isinstance(d, Assignment) for a in d.addresses]
    assert len(addresses) == len(set(addresses))


@given(services(), st.randoms(use_true_random=False))
def test_input_order_is_irrelevant(found: list[Raw], random: Random) -> None:
    objects = [*POOLS, *found]
    shuffled = random.sample(objects, len(objects))
    assert decide(objects) == decide(shuffled)


@given(services())
def test_running_it_again_changes_nothing(found: list[Raw]) -> None:
    once = written_back([*POOLS, *found])
    assert written_back(once) == once


@given(services())
def test_a_newcomer_moves_nobody(found: list[Raw]) -> None:
    settled = written_back([*POOLS, *found])
    before = decide(settled)
    after = decide([*settled, service("a-newcomer")])
    for key, decision in before.items():
        if isinstance(decision, Assignment):
            assert after[key] == decision
