"""The order of candidates, against vectors of MetalLB's own tests."""

import pytest

from announcer.core.elect import elect
from announcer.core.model import NodeName
from tests.builders import ip


@pytest.mark.parametrize(
    ("nodes", "address", "order"),
    [
        ("node-a node-b node-c", "10.0.0.1", "node-b node-a node-c"),
        ("node-a node-b node-c", "10.0.0.2", "node-b node-c node-a"),
        ("edge-a edge-b", "10.20.30.1", "edge-b edge-a"),
        ("worker-b worker-a", "10.20.30.1", "worker-a worker-b"),
    ],
)
def test_elect_orders_as_metallb_does(nodes: str, address: str, order: str) -> None:
    assert elect([NodeName(n) for n in nodes.split()], ip(address)) == tuple(order.split())
