"""What is computed in the loop's own turn, and what is not."""

import asyncio
import threading

import pytest

from announcer.daemons.aside import aside
from tests.builders import node, service, snapshot


@pytest.mark.parametrize(
    ("services", "nodes", "is_in_turn"),
    [(50, 3, True), (51, 3, False), (50, 300, False), (3, 300, True)],
)
def test_little_is_computed_in_the_loops_own_turn(services: int, nodes: int, is_in_turn: bool) -> None:
    seen = snapshot(*(service(f"s{i}") for i in range(services)), *(node(f"n{i}") for i in range(nodes)))
    where = asyncio.run(aside(seen, threading.current_thread))
    assert (where is threading.current_thread()) is is_in_turn
