"""Whatever takes a Service from all nodes at once: the router has a path to a node that still has the address, for the
drain time after the last node has heard of it, and prefers nodes that haven't yet. After that nothing is left.
"""

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from announcer.core.model import Snapshot
from tests.builders import NODES, Raw, endpoints, metallb, net, node, peer, pool, service, snapshot
from tests.property.aggregates import PACE, Node

ADDRESS = "10.113.113.100"
HOST = net(f"{ADDRESS}/32")
TICKS = 10
"""In a second."""
NOBODY = [{"matchLabels": {"no": "such"}}]
SHUTDOWN = {"conditions": [{"type": "Ready", "status": "False", "message": "node is shutting down"}]}


def label(name: str) -> Raw:
    return node(name, **{"node.kubernetes.io/exclude-from-external-load-balancers": ""})


CAUSES: dict[str, list[Raw]] = {
    "label": [label(name) for name in NODES],
    "shutdown": [node(name) | {"status": SHUTDOWN} for name in NODES],
    "endpoints": [endpoints(nodes=[])],
    "advertisement": [metallb("BGPAdvertisement", "ad", nodeSelectors=NOBODY)],
    "peer": [peer(nodeSelectors=NOBODY)],
    "service": [service() | {"spec": {"type": "ClusterIP"}}],
}


def cluster(policy: str, *changed: Raw) -> Snapshot:
    objects = [
        pool("pool", f"{ADDRESS}/32"),
        metallb("BGPAdvertisement", "ad"),
        peer(),
        service(addresses=[ADDRESS], externalTrafficPolicy=policy),
        endpoints(),
    ]
    new = {(one["kind"], one["metadata"]["name"]) for one in changed}
    return snapshot(*(one for one in objects if (one["kind"], one["metadata"]["name"]) not in new), *changed)


def used(nodes: dict[str, Node]) -> dict[str, bool]:
    """The paths that the router takes (RFC 8326: one that drains only where there is no other), and which drain."""
    paths = {name: one.wire[HOST].route.is_draining for name, one in nodes.items() if one.wire and HOST in one.wire}
    return {name: drains for name, drains in paths.items() if not drains} or paths


def run(nodes: dict[str, Node], before: Snapshot, after: Snapshot, late: dict[str, int]) -> Iterator[tuple[int, Any]]:
    """Tick by tick: who has heard looks, and slow ExaBGPs prove what they were told one tick later."""
    last = max(late.values())
    for tick in range(last + int(PACE.drain * TICKS) + 10):
        for name, one in nodes.items():
            one.prove(tick / TICKS)
            for action in one.decide(after if tick >= late[name] else before, tick / TICKS):
                one.apply(action, tick / TICKS)
        yield tick - last, used(nodes)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(CAUSES)),
    st.sampled_from(["Cluster", "Local"]),
    st.fixed_dictionaries({name: st.integers(0, 15) for name in NODES}),
    st.sets(st.sampled_from(NODES)),
)
def test_last_paths_serve_for_the_drain_time_when_all_nodes_lose_a_service(
    cause: str, policy: str, late: dict[str, int], slow: set[str]
) -> None:
    before, after = cluster(policy), cluster(policy, *CAUSES[cause])
    nodes = {name: Node(name) for name in NODES}
    for one in nodes.values():
        for _ in range(2):
            for action in one.decide(before, -1.0):
                one.apply(action, -1.0)
        one.is_slow = one.name in slow
    assert used(nodes) == dict.fromkeys(NODES, False)
    for since, paths in run(nodes, before, after, late):
        if since < PACE.drain * TICKS:
            assert paths
            assert all(nodes[name].has_end(HOST) for name in paths)
        unaware = {name for name in NODES if late[name] - max(late.values()) > since}
        assert not unaware or set(paths) - slow >= unaware - slow
    assert not paths
