"""Why a local address moved, as people find it on a real API server: in the nodes' reports and as Events, once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab import control_plane
from lab.checks import VIP_1
from lab.topology import NODES, Lab
from tests.e2e.laboratory import holders, keeps_promises, kill, laboratory, restarted, status, until

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.kubernetes, pytest.mark.timeout(420)]
SERVICE = "test-nginx-1"
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory("purelb", "kubernetes") as made:
        yield made


def get(lab: Lab, *arguments: str) -> Any:
    return json.loads(control_plane.kubectl(lab, "get", *arguments, "-o", "json"))


def moves(lab: Lab, node: str) -> list[Any]:
    """Of the address, as the node reports them."""
    found = get(lab, "nodeannouncement", node)["status"].get("moves", ())
    return [move for move in found if f"test/{SERVICE} {VIP_1}" in move["services"]]


def events(lab: Lab, text: str) -> list[tuple[str, str]]:
    found = get(lab, "events", "--namespace=test")["items"]
    told = [e for e in found if e["involvedObject"]["name"] == SERVICE and text in e["message"]]
    return [(e["reason"], e["message"]) for e in told]


def holder(lab: Lab) -> str:
    """The name of the node that alone holds the address; empty where it isn't one."""
    found = holders(lab, VIP_1, "eth0")
    return next(node.name for node in NODES if node.short == found[0]) if len(found) == 1 else ""


@contextmanager
def drained(lab: Lab) -> Iterator[tuple[str, str]]:
    """The node that held the address is not eligible, and another one holds it: the names of both."""
    old = holder(lab)
    try:
        control_plane.kubectl(lab, "label", "node", old, f"{EXCLUDE}=")
        until(lambda: holder(lab) not in {"", old}, what="the move")
        yield old, holder(lab)
    finally:
        control_plane.kubectl(lab, "label", "node", old, f"{EXCLUDE}-")
    keeps_promises(lab)


def has_moved(lab: Lab, node: str, old: str, new: str) -> bool:
    """The node's last move. Who is drained may learn of it from its successor first, which is a conflict to it."""
    found = moves(lab, node)[-1:]
    return [(m["link"], m["from"], m["to"]) for m in found] == [("eth0", old, new)]


def test_planned_move_is_in_the_reports_and_told_once(lab: Lab) -> None:
    with drained(lab) as (old, new):
        text = f"taken over from {old}: planned"
        until(lambda: events(lab, text), what="the Event")
        for node in (old, new):
            until(lambda node=node: has_moved(lab, node, old, new), what="the report")  # type: ignore[misc]
        assert moves(lab, new)[-1]["reason"] == "planned"
        (row,) = [r for r in status(lab)["services"] if r["address"] == str(VIP_1)]
        assert (row["last_move"]["old"], row["last_move"]["new"]) == (old, new)
        shown = control_plane.kubectl(lab, "get", "nodeannouncements")
        assert "planned" in next(line for line in shown.splitlines() if line.startswith(new))
    claims = [m for m in moves(lab, new) if (m["from"], m["reason"]) == (old, "planned")]
    told = events(lab, text)
    assert set(told) == {("AnnouncingLocal", f"Node {new} announcing {VIP_1} on interface eth0, {text}")}
    assert len(told) <= len(claims)
    assert len(events(lab, f"Node {old} doesn't announce {VIP_1} any more")) == 1


def test_agent_that_is_killed_leaves_what_it_reported_to_the_next(lab: Lab) -> None:
    with drained(lab) as (old, middle):
        until(lambda: has_moved(lab, middle, old, middle), what="the report")
    before = moves(lab, middle)
    killed = kill(lab, f"agent-{middle}")
    until(lambda: restarted(lab, f"agent-{middle}", killed), what="the agent again")
    keeps_promises(lab)
    with drained(lab) as (_, new):
        until(lambda: has_moved(lab, middle, middle, new), what="the next report")
        assert moves(lab, middle)[: len(before)] == before
