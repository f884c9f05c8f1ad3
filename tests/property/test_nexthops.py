"""Bounded next-hop sets: as many nodes as the pool says, the same in every node's view, and nothing else changes."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from announcer.core.desired import Desired, desired
from announcer.core.model import IPAddress, IPNetwork, NodeName, Reason, RouteKind
from tests.builders import NODES, Raw, kernel, snapshot
from tests.property.strategies import clusters

Table = dict[tuple[IPAddress, IPNetwork], set[str]]


def bounded(objects: list[Raw], most: int) -> list[Raw]:
    notes = {"annotations": {"announcer.io/max-next-hops": str(most)}}
    pools = {"ServiceGroup", "IPAddressPool"}
    return [one | {"metadata": one["metadata"] | notes} if one["kind"] in pools else one for one in objects]


def everywhere(objects: list[Raw]) -> dict[str, Desired]:
    cluster = snapshot(*objects)
    found: dict[str, Any] = {name: desired(cluster, NodeName(name), kernel(name)) for name in NODES}
    return found


def table(found: dict[str, Desired]) -> Table:
    """Which nodes advertise what to whom."""
    out: Table = {}
    for node, wanted in found.items():
        for peer, routes in wanted.bgp.items():
            for prefix in routes:
                out.setdefault((peer, prefix), set()).add(node)
    return out


@given(clusters(), st.integers(1, 4))
def test_as_many_nodes_advertise_as_the_pool_says(objects: list[Raw], most: int) -> None:
    free, bound = everywhere(objects), everywhere(bounded(objects, most))
    all_of, some_of = table(free), table(bound)
    assert all_of.keys() == some_of.keys()
    for key, nodes in some_of.items():
        assert nodes <= all_of[key]
        assert len(nodes) == min(most, len(all_of[key]))


@given(clusters(), st.integers(1, 4))
def test_addresses_stay_on_every_node_and_who_does_not_advertise_says_so(objects: list[Raw], most: int) -> None:
    free, bound = everywhere(objects), everywhere(bounded(objects, most))
    for node in NODES:
        mine = {prefix for routes in bound[node].bgp.values() for prefix in routes}
        assert bound[node].addresses == free[node].addresses
        ends = {r.destination for r in bound[node].routes if r.kind is RouteKind.UNREACHABLE}
        if bound[node].peers:
            assert ends >= {prefix for prefix in mine if prefix.prefixlen < prefix.max_prefixlen}
        for one in bound[node].placements:
            if one.reason is Reason.ENOUGH_NEXT_HOPS:
                assert one.prefix not in mine


@given(clusters(), st.sampled_from(NODES))
def test_node_that_leaves_is_replaced_and_nobody_else_moves(objects: list[Raw], gone: str) -> None:
    label = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    leaving = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": gone, "labels": label}}
    cluster = [one for one in bounded(objects, 2) if one["kind"] != "Node"]
    before, after = table(everywhere(cluster)), table(everywhere([*cluster, leaving]))
    for key in before.keys() & after.keys():
        assert before[key] - {gone} <= after[key]
