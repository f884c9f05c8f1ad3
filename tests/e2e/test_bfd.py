"""BFD between the nodes' bfdd and the router's, in the running lab: what fails, and what must not."""

import signal
from collections.abc import Iterator

import pytest

from lab import processes
from lab.command import LabError, run
from lab.topology import MANIFEST_SETS, NODES, Lab
from tests.e2e.laboratory import (
    hops,
    keeps_promises,
    kill,
    laboratory,
    metric,
    put,
    restarted,
    sessions,
    until,
)

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(300)]
N1 = {str(NODES[0].address), str(NODES[0].address_v6)}
PATIENT = {"receiveInterval: 100": "receiveInterval: 500", "transmitInterval: 100": "transmitInterval: 500"}
PATIENT |= {"detectMultiplier: 3": "detectMultiplier: 5"}
"""2.5 s at the router, 1.5 s on the nodes: a machine that is busy with other tests must not look like a dead node."""
BFD_SECONDS = 5.0
"""Before the hold time could end: what is noticed by then is noticed by BFD."""


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    with laboratory("purelb") as made:
        text = (MANIFEST_SETS / "bfd" / "bgp.yaml").read_text("utf-8")
        for fast, patient in PATIENT.items():
            text = text.replace(fast, patient)
        put(made, "bgp.yaml", text)
        yield made


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    """Every path is watched, before and after."""
    watches_all(built)
    yield built
    watches_all(built)
    keeps_promises(built)


def watches_all(lab: Lab) -> None:
    until(lambda: all(count(lab, node.short, "up") == 2 for node in NODES), what="all paths up")


def count(lab: Lab, node: str, state: str) -> float | None:
    """None while the agent can't be asked."""
    try:
        return metric(lab, node, f'announcer_bfd_sessions{{state="{state}"}}')
    except LabError:
        return None


def cut(lab: Lab, *, is_cut: bool = True) -> None:
    """n1 is off its switch, and has carrier all the same."""
    what = ["nomaster"] if is_cut else ["master", "switch-a"]
    run(["ip", "-n", lab.namespace("net"), "link", "set", "dev", "n1-eth0", *what])


def others(lab: Lab) -> dict[str, str]:
    return {peer: found for peer, found in sessions(lab).items() if peer not in N1}


def teardowns(lab: Lab) -> int:
    return sum(lab.log(f"agent-{node.name}").read_text("utf-8").count("TearDown") for node in NODES)


def test_node_in_a_black_hole_is_out_by_bfd_and_comes_back_with_it(lab: Lab) -> None:
    before = others(lab)
    cut(lab)
    until(lambda: hops(lab) == (2, 2), seconds=BFD_SECONDS, what="two next hops")
    until(lambda: count(lab, "n1", "down") == 2, seconds=BFD_SECONDS, what="both paths down, for n1 too")
    cut(lab, is_cut=False)
    until(lambda: hops(lab) == (3, 3), what="three next hops again")
    assert others(lab) == before
    assert teardowns(lab) >= 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_agents_that_end_leave_bfd_and_sessions_alone(lab: Lab, number: signal.Signals) -> None:
    before = sessions(lab)
    for node in NODES:
        old = kill(lab, f"agent-{node.name}", number)
        until(lambda node=node, old=old: restarted(lab, f"agent-{node.name}", old), what="the agent")  # type: ignore[misc]
    watches_all(lab)
    assert sessions(lab) == before


def test_bfdd_of_a_node_that_is_away_ends_nothing_on_our_side(lab: Lab) -> None:
    """The router gives up its session with n1, whose BFD it doesn't hear any more; n1 goes on trying."""
    before, ended = others(lab), teardowns(lab)
    processes.hold(lab, "bfdd-ann-n1")
    kill(lab, "bfdd-ann-n1")
    until(lambda: metric(lab, "n1", "announcer_bfd_known") == 0, what="not known")
    until(lambda: hops(lab) == (3, 3), what="three next hops again, without BFD to n1")
    processes.release(lab, "bfdd-ann-n1")
    watches_all(lab)
    assert (others(lab), teardowns(lab)) == (before, ended)
