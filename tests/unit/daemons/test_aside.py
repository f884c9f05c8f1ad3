"""What is computed in the loop's own turn, and what is not."""

import asyncio
import threading

import pytest

from announcer.daemons.aside import aside
from tests.builders import endpoints, node, service, snapshot


@pytest.mark.parametrize(
    ("services", "nodes", "slices", "each", "is_in_turn"),
    [
        (50, 3, 50, 200, True),
        (51, 3, 0, 0, False),
        (50, 300, 0, 0, False),
        (3, 300, 0, 0, True),
        (10, 3, 11, 1000, False),
        (10, 3, 2001, 1, False),
    ],
)
def test_little_is_computed_in_the_loops_own_turn(
    services: int, nodes: int, slices: int, each: int, is_in_turn: bool
) -> None:
    seen = snapshot(
        *(service(f"s{i}") for i in range(services)),
        *(node(f"n{i}") for i in range(nodes)),
        *(endpoints(f"e{i}", ["n0"] * each) for i in range(slices)),
    )
    where = asyncio.run(aside(seen, threading.current_thread))
    assert (where is threading.current_thread()) is is_in_turn
