"""deploy/ as it is shipped, on three kubelets: what a user of it sees of upgrades, dead nodes and of taking it away."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from lab import control_plane, live, nodes, pods, processes
from lab.checks import VIP_1, VIP_2, VIP_3, VIP_3_V6, fetch
from lab.command import LabError, inside, run
from lab.topology import NODES, REPOSITORY, Lab, LabNode
from tests.e2e.laboratory import addresses, holders, hops, keeps_promises, laboratory, routes, stream, until

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.netns, pytest.mark.kubernetes, pytest.mark.timeout(900)]
SYSTEM = ("--namespace=announcer-system",)
POD_SECONDS = 120.0
TAKEOVER_SECONDS = 20.0
"""The fence falls after 7 to 10 s, another node takes over 3 to 4 s later (docs/ownership.md)."""
GAP_PACKETS = 5000
"""What a stream of 1 kHz may lose between the two."""


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    with laboratory("purelb", "cluster") as made:
        yield made


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    """Each test finds the lab whole and leaves it whole, without a container that was restarted."""
    yield built
    pods.wait(built)
    keeps_promises(built)


def kubectl(lab: Lab, *arguments: str) -> str:
    return control_plane.kubectl(lab, *arguments)


def agents(lab: Lab) -> set[str]:
    found = json.loads(kubectl(lab, *SYSTEM, "get", "pods", "-o", "json"))["items"]
    return {pod["metadata"]["uid"] for pod in found if pod["metadata"]["name"].startswith("announcer-agent")}


def is_rolled_out(lab: Lab, answers: Counter[str]) -> bool:
    """Counts who answers new connections meanwhile, by way of kube-proxy."""
    for address in (VIP_1, VIP_3):
        answers.update(fetch(lab, address, 10))
    with suppress(LabError):
        return bool(kubectl(lab, *SYSTEM, "rollout", "status", "daemonset/announcer-agent", "--timeout=1s"))
    return False


def test_rolling_restart_of_the_agents_loses_no_packet(lab: Lab) -> None:
    answers: Counter[str] = Counter()
    before, held = agents(lab), [holders(lab, VIP_1, "eth0"), holders(lab, VIP_2, "eth1")]
    with stream(lab, VIP_1, VIP_2, VIP_3, VIP_3_V6, seconds=300):
        kubectl(lab, *SYSTEM, "rollout", "restart", "daemonset/announcer-agent")
        until(lambda: is_rolled_out(lab, answers), seconds=240, what="the rollout")
    print(f"new connections: {dict(answers)}")
    assert set(answers) == {node.name for node in NODES}
    assert not agents(lab) & before
    assert [holders(lab, VIP_1, "eth0"), holders(lab, VIP_2, "eth1")] == held


def end(lab: Lab, node: LabNode) -> None:
    """Its kubelet, containerd, kube-proxy and all containers, and they stay away; the kernel goes on."""
    for kind in nodes.argvs(lab, node):
        processes.hold(lab, f"{kind}-{node.name}")
        if pid := processes.find(lab, f"{kind}-{node.name}"):
            os.kill(pid, signal.SIGKILL)
    nodes.end_containers(lab, node)


@contextmanager
def ended(lab: Lab, node: LabNode) -> Iterator[None]:
    """Afterwards it starts again, with new pods."""
    end(lab, node)
    try:
        yield
    finally:
        for kind in nodes.argvs(lab, node):
            processes.release(lab, f"{kind}-{node.name}")
        on_it = f"--field-selector=spec.nodeName={node.name}"
        kubectl(lab, "delete", "pods", "--all-namespaces", "--wait=false", on_it)


def test_node_whose_kubelet_and_containers_die_hands_over_within_the_bounds(lab: Lab) -> None:
    (held,) = holders(lab, VIP_1, "eth0")
    node = next(one for one in NODES if one.short == held)
    with stream(lab, VIP_3, VIP_3_V6, seconds=120), stream(lab, VIP_1, lost=GAP_PACKETS, seconds=120), ended(lab, node):
        until(lambda: hops(lab) == (2, 2), what="two next hops")
        until(lambda: held not in holders(lab, VIP_1, "eth0"), seconds=TAKEOVER_SECONDS, what="the end of the fence")
        until(lambda: len(holders(lab, VIP_1, "eth0")) == 1, seconds=TAKEOVER_SECONDS, what="another holder")
    until(lambda: hops(lab) == (3, 3), seconds=POD_SECONDS, what="three next hops again")


def traces(lab: Lab, node: LabNode) -> list[str]:
    """Of announcer on a node: addresses, links, routes, rules and tables."""
    namespace = lab.namespace(node.short)
    found = [f"{a} on {i}" for i in ("eth0", "eth1") for a in addresses(lab, node.short, i) & {str(VIP_1), str(VIP_2)}]
    found += [f"link {one}" for one in run(["ip", "-n", namespace, "-br", "link"]).split() if "kube-lb0" in one]
    found += [f"route {one}" for one in routes(lab, node.short)]
    found += run(["ip", "-6", "-n", namespace, "route", "show", "proto", "201"]).splitlines()
    rules = run(["ip", "-n", namespace, "rule"]).splitlines()
    found += [one for one in rules if not one.endswith(("lookup local", "lookup main", "lookup default"))]
    tables = run(inside(namespace, ["nft", "list", "tables"])).splitlines()
    return found + [one for one in tables if "announcer" in one]


def test_uninstalling_by_the_guide_leaves_nothing_on_the_nodes(lab: Lab) -> None:
    assert all(traces(lab, node) for node in NODES)
    deploy, clean = str(REPOSITORY / "deploy"), str(REPOSITORY / "deploy" / "cleanup")
    kubectl(
        lab, *SYSTEM, "delete", "deployment/announcer-allocator", "daemonset/announcer-agent", "--cascade=foreground"
    )
    kubectl(lab, "apply", "-k", clean)
    kubectl(lab, "--namespace=kube-system", "rollout", "status", "daemonset/announcer-cleanup", "--timeout=55s")
    kubectl(lab, "delete", "-k", clean)
    kubectl(lab, "delete", "--ignore-not-found", "-k", deploy)
    try:
        assert {node.name: traces(lab, node) for node in NODES} == {node.name: [] for node in NODES}
        until(lambda: hops(lab) == (0, 0), what="no route at the router")
    finally:
        kubectl(lab, "wait", "--for=delete", "namespace/announcer-system", "--timeout=55s")
        control_plane.install(lab)
        live.apply(lab, "purelb")
