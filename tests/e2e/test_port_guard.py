"""The port guard in the lab: no packet is lost when somebody flushes the nodes' rules, and it is back at once."""

from collections.abc import Iterator
from json import loads

import pytest

from lab.checks import VIP_1, VIP_3, VIP_3_V6
from lab.command import inside, run
from lab.topology import NODES, Lab, LabNode
from tests.e2e.laboratory import keeps_promises, laboratory, put, remove_tree, service, stream, until

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory("purelb") as made:
        yield made


def guarded(lab: Lab, node: LabNode) -> dict[str, set[int]]:
    """The addresses that a node guards and the ports that it opens; nothing where it has no such table."""
    ruleset = loads(run(inside(lab.namespace(node.short), ["nft", "-j", "list", "ruleset"])))["nftables"]
    sets = {s["set"]["name"]: s["set"].get("elem", []) for s in ruleset if s.get("set", {}).get("table") == "announcer"}
    found: dict[str, set[int]] = {a: set() for name in ("addresses-4", "addresses-6") for a in sets.get(name, [])}
    for name in ("ports-4", "ports-6"):
        for address, _, port in (one["concat"] for one in sets.get(name, [])):
            found[address].add(port)
    return found


def test_rules_that_are_flushed_come_back_and_nothing_is_lost(lab: Lab) -> None:
    before = [guarded(lab, node) for node in NODES]
    assert all(str(VIP_3) in found and found[str(VIP_3)] == {80} for found in before)
    with stream(lab, VIP_1, VIP_3, VIP_3_V6):
        for node in NODES:
            run(inside(lab.namespace(node.short), ["nft", "flush", "ruleset"]))
        until(lambda: [guarded(lab, node) for node in NODES] == before, what="the guard on every node")
    keeps_promises(lab)


def test_guard_follows_a_service_that_comes_and_goes(lab: Lab) -> None:
    before = set(guarded(lab, NODES[0]))
    path = put(lab, "more/more.yaml", service("more", "subnet-3"))
    until(lambda: all(len(guarded(lab, node)) == len(before) + 1 for node in NODES), what="one address more")
    remove_tree(path.parent)
    until(lambda: all(set(guarded(lab, node)) == before for node in NODES), seconds=60, what="one address less")
    keeps_promises(lab)
