"""Drains in the running lab, seen by a client that asks every millisecond: of a node, a session, all nodes at once."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.scene import asking
from lab import processes, routers
from lab.checks import VIP_1, VIP_3, VIP_3_V6, next_hops
from lab.command import inside, run
from lab.topology import NODES, SUBNET_3, SUBNET_3_V6, Lab
from tests.e2e.laboratory import holders, hops, keeps_promises, laboratory, put, row, sessions, stream, until

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(300)]
DRAIN_SECONDS = 3.0
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
SHUTDOWN = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "node is shutting down"}
HOST_ROUTE = IPv4Network(f"{VIP_3}/32")
N1 = str(NODES[0].address)
N1_V6 = str(NODES[0].address_v6)
NEVER = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [NODES[0].name]}]}


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    with laboratory("purelb", agent_args=(f"--drain-seconds={DRAIN_SECONDS:g}",)) as made:
        yield made


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    """Each test finds the lab whole and leaves it whole."""
    before = {path.name: path.read_text("utf-8") for path in built.manifests.glob("*.yaml")}
    yield built
    for name, text in before.items():
        put(built, name, text)
    until(lambda: hops(built) == (3, 3), what="three next hops again")
    keeps_promises(built)


def objects(lab: Lab, name: str) -> list[Any]:
    return [one for one in yaml.safe_load_all((lab.manifests / name).read_text("utf-8")) if one]


def write(lab: Lab, name: str, found: list[Any]) -> Path:
    return put(lab, name, "---\n".join(f"{json.dumps(one)}\n" for one in found))


def exclude(lab: Lab) -> None:
    """All nodes, in one file and so at once."""
    found = objects(lab, "nodes.yaml")
    for one in (n for n in found if n["kind"] == "Node"):
        one["metadata"]["labels"][EXCLUDE] = ""
    write(lab, "nodes.yaml", found)


def shut_down(lab: Lab) -> None:
    """n1, as its kubelet says it."""
    found = objects(lab, "nodes.yaml")
    found[0]["status"]["conditions"] = [SHUTDOWN]
    write(lab, "nodes.yaml", found)


def put_endpoints(lab: Lab, conditions: dict[str, dict[str, bool]]) -> None:
    """Of the Service behind VIP_3, which has policy Local then."""
    found = objects(lab, "test-nginx-3.yaml")
    for one in found:
        if one["kind"] == "Service":
            one["spec"]["externalTrafficPolicy"] = "Local"
        elif one["kind"] == "EndpointSlice":
            ends = enumerate(conditions.items(), start=1)
            one["endpoints"] = [{"nodeName": n, "addresses": [f"10.0.0.{i}"], "conditions": c} for i, (n, c) in ends]
    write(lab, "test-nginx-3.yaml", found)


def preferences(lab: Lab) -> set[int]:
    """LOCAL_PREF of all paths to the pools."""
    rib = routers.of(lab).rib(lab)
    return {pref for prefix in (SUBNET_3, SUBNET_3_V6) for pref in rib.get(str(prefix), {}).values()}


def ended(lab: Lab, node: str) -> "subprocess.Popen[str]":
    """What the kubelet asks the agent before it ends the pod."""
    url = f"http://127.0.0.1:{processes.AGENT_PORT}/leave"
    argv = inside(lab.namespace(node), ["curl", "-sS", "--noproxy", "*", "--max-time", "20", url])
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def is_drained(lab: Lab, node: str) -> bool:
    found = json.loads((lab.manifests / f".status/nodeannouncement/_cluster/{node}.json").read_text("utf-8"))
    return bool(found["status"]["isDrained"])


@contextmanager
def router_changes(lab: Lab) -> Iterator[Callable[[], list[str]]]:
    """What the router's kernel has told by now of its routes to the pools."""
    pools = (str(SUBNET_3.network_address)[:-1], str(SUBNET_3_V6.network_address))
    with (lab.run_dir / "router-changes").open("w", encoding="utf-8") as told:
        watching = subprocess.Popen(inside(lab.namespace("tor"), ["ip", "monitor", "route"]), stdout=told)

        def changes() -> list[str]:
            lines = Path(told.name).read_text("utf-8").splitlines()
            return [line for line in lines if any(pool in line for pool in pools)]

        def watches() -> bool:
            """A route that nobody needs comes and goes until the kernel is heard to tell of it."""
            for verb in ("replace", "delete"):
                run(["ip", "-n", lab.namespace("tor"), "route", verb, "blackhole", "198.51.100.1"])
            return "198.51.100.1" in Path(told.name).read_text("utf-8")

        try:
            until(watches, what="a monitor that hears the kernel")
            yield changes
        finally:
            watching.kill()
            watching.wait(5)


def test_all_nodes_that_drain_at_once_serve_for_the_drain_time(lab: Lab) -> None:
    with asking(lab, 0.001, [str(VIP_3), str(VIP_3_V6)]) as asked:
        began = time.monotonic()
        exclude(lab)
        until(lambda: preferences(lab) == {0}, seconds=DRAIN_SECONDS - 0.5, what="GRACEFUL_SHUTDOWN on all paths")
        assert hops(lab) == (3, 3)
        until(lambda: hops(lab) == (0, 0), what="the withdrawal")
    for one in asked.told.values():
        first = min(at for at, _, _ in one["outages"])
        assert first - began >= DRAIN_SECONDS, "lost before the drain time was over"
    assert not row(lab, "test/test-nginx-3")["nodes"]


def test_what_comes_back_within_the_drain_time_loses_nothing(lab: Lab) -> None:
    """Nor does the router delete a route to add it again, as FRR does of itself with IPv6: few packets meet the gap."""
    text, before = (lab.manifests / "nodes.yaml").read_text("utf-8"), sessions(lab)
    with stream(lab, VIP_3, VIP_3_V6), router_changes(lab) as changes:
        exclude(lab)
        until(lambda: preferences(lab) == {0}, what="GRACEFUL_SHUTDOWN on all paths")
        put(lab, "nodes.yaml", text)
        until(lambda: preferences(lab) == {100}, what="paths that don't drain")
    assert hops(lab) == (3, 3)
    assert sessions(lab) == before
    told = changes()
    assert told
    assert not [line for line in told if line.startswith("Deleted")]


def test_endpoint_that_serves_while_it_terminates_keeps_the_route_until_it_is_done(lab: Lab) -> None:
    ready, n1, n2 = {"ready": True}, NODES[0].name, NODES[1].name
    leaving = {"ready": False, "serving": True, "terminating": True}
    with stream(lab, VIP_3):
        put_endpoints(lab, {n1: ready, n2: ready})
        until(lambda: len(next_hops(lab, HOST_ROUTE)) == 2, what="a host route over two nodes")
        put_endpoints(lab, {n1: leaving, n2: ready})
        put_endpoints(lab, {n1: leaving, n2: ready, NODES[2].name: ready})
        until(lambda: len(next_hops(lab, HOST_ROUTE)) == 3, what="the node that came after, and none less")
        assert routers.of(lab).rib(lab)[str(HOST_ROUTE)][N1] > 0
        put_endpoints(lab, {n1: leaving | {"serving": False}, n2: ready, NODES[2].name: ready})
        until(lambda: routers.of(lab).rib(lab)[str(HOST_ROUTE)].get(N1) == 0, what="its drain")
        until(lambda: N1 not in routers.of(lab).rib(lab)[str(HOST_ROUTE)], what="its withdrawal")


def test_session_of_a_peer_that_no_longer_selects_the_node_drains_before_it_ends(lab: Lab) -> None:
    before = sessions(lab)
    found = objects(lab, "bgp.yaml")
    for one in (p for p in found if p["kind"] == "BGPPeer"):
        one["spec"]["nodeSelectors"] = [NEVER]
    with stream(lab, VIP_3, VIP_3_V6):
        write(lab, "bgp.yaml", found)
        until(lambda: hops(lab) == (2, 2), what="two next hops, by GRACEFUL_SHUTDOWN")
        assert sessions(lab) == before
        until(lambda: not routers.of(lab).peers(lab)[N1].is_established, what="the session's end")
        until(lambda: not routers.of(lab).peers(lab)[N1_V6].is_established, what="the session's end")
    assert before.items() - sessions(lab).items() == {(N1, before[N1]), (N1_V6, before[N1_V6])}


def test_node_that_is_shut_down_drains_before_its_pod_ends(lab: Lab) -> None:
    put_local_on_n1(lab)
    with stream(lab, VIP_1, VIP_3, VIP_3_V6):
        leaving = ended(lab, "n1")
        shut_down(lab)
        assert leaving.communicate(timeout=20)[0] == "drained\n"
        assert (len(next_hops(lab, SUBNET_3)), N1 in routers.of(lab).rib(lab)[str(SUBNET_3)]) == (2, False)
        assert "n1" not in holders(lab, VIP_1, "eth0")
        until(lambda: is_drained(lab, NODES[0].name), what="the report")


def put_local_on_n1(lab: Lab) -> None:
    """Whoever had the local address hands it over."""
    text, found = (lab.manifests / "nodes.yaml").read_text("utf-8"), objects(lab, "nodes.yaml")
    for one in (n for n in found if n["kind"] == "Node" and n["metadata"]["name"] != NODES[0].name):
        one["metadata"]["labels"][EXCLUDE] = ""
    write(lab, "nodes.yaml", found)
    until(lambda: holders(lab, VIP_1, "eth0") == ["n1"], what="n1 to hold the local address")
    put(lab, "nodes.yaml", text)
    until(lambda: hops(lab) == (3, 3) and preferences(lab) == {100}, what="all nodes in service")


def test_pod_that_is_replaced_drains_nothing(lab: Lab) -> None:
    before = holders(lab, VIP_1, "eth0"), sessions(lab)
    assert ended(lab, "n1").communicate(timeout=20)[0] == "in service: nothing is given up\n"
    assert (preferences(lab), hops(lab)) == ({100}, (3, 3))
    assert (holders(lab, VIP_1, "eth0"), sessions(lab)) == before
    assert run(["ip", "-n", lab.namespace("n1"), "address", "show", "to", str(VIP_3)])
