"""deploy/ as it is shipped, on three kubelets: what a user of it sees of upgrades, dead nodes and of taking it away."""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from lab import control_plane, live, nodes, pods, processes, routers
from lab.checks import VIP_1, VIP_2, VIP_3, VIP_3_V6, fetch
from lab.command import LabError, inside, run, run_json
from lab.topology import NODES, REPOSITORY, SUBNET_3, Lab, LabNode
from tests.certificates import authority, signed
from tests.deploying import DEPLOY, composed
from tests.e2e.laboratory import addresses, holders, hops, keeps_promises, laboratory, routes, sessions, stream, until

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.netns, pytest.mark.kubernetes, pytest.mark.timeout(900)]
SYSTEM = ("--namespace=announcer-system",)
COMPONENT = "app.kubernetes.io/component=agent"
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
HOST = {4: "192.0.2.2", 6: "fd00:2::2"}
ICMP = {4: "icmp", 6: "ipv6-icmp"}
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


def kubectl(lab: Lab, *arguments: str, stdin: str = "") -> str:
    return control_plane.kubectl(lab, *arguments, stdin=stdin)


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


def agent_on(lab: Lab, node: LabNode) -> str:
    on_it = f"--field-selector=spec.nodeName={node.name}"
    (found,) = kubectl(lab, *SYSTEM, "get", "pods", on_it, "-l", COMPONENT, "-o", "name").split()
    return found.removeprefix("pod/")


def delete(lab: Lab, pod: str) -> None:
    kubectl(lab, *SYSTEM, "delete", "pod", pod, "--wait=false")


def evict(lab: Lab, pod: str) -> None:
    metadata = {"name": pod, "namespace": "announcer-system"}
    body = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    kubectl(lab, "create", "-f", "-", "--raw", f"/api/v1/namespaces/announcer-system/pods/{pod}/eviction", stdin=body)


def failed_hooks(lab: Lab) -> set[str]:
    """Events of `preStop` hooks that the kubelet had no answer to."""
    of_hooks = "--field-selector=reason=FailedPreStopHook"
    return set(kubectl(lab, *SYSTEM, "get", "events", of_hooks, "-o", "name").split())


def carrier(lab: Lab, address: IPv4Address | IPv6Address) -> LabNode:
    """Which node the router sends the external host's echo requests to."""
    asked = [
        "route",
        "get",
        str(address),
        "from",
        HOST[address.version],
        "iif",
        "eth1",
        "ipproto",
        ICMP[address.version],
    ]
    (found,) = run_json(["ip", "-j", "-n", lab.namespace("tor"), *asked])
    return next(node for node in NODES if found["gateway"] in {str(node.address), str(node.address_v6)})


@contextmanager
def out_of_service(lab: Lab, node: LabNode) -> Iterator[None]:
    kubectl(lab, "label", "node", node.name, f"{EXCLUDE}=")
    try:
        yield
    finally:
        kubectl(lab, "label", "node", node.name, f"{EXCLUDE}-")


@pytest.mark.parametrize(("address", "remove"), [(VIP_3, delete), (VIP_3_V6, evict)], ids=["deleted", "evicted"])
def test_pod_of_a_node_out_of_service_ends_after_its_drain(
    lab: Lab, address: IPv4Address | IPv6Address, remove: Callable[[Lab, str], None]
) -> None:
    """By `preStop`: told to end at once, ExaBGP would take the session along, and with it what is on its way."""
    node = carrier(lab, address)
    pod, before, failed, peer = agent_on(lab, node), sessions(lab), failed_hooks(lab), str(node.address)
    with stream(lab, VIP_3, VIP_3_V6, seconds=240), out_of_service(lab, node):
        remove(lab, pod)
        until(lambda: paths(lab).get(peer) == 0, what="GRACEFUL_SHUTDOWN on its path")
        assert sessions(lab)[peer] == before[peer]
        until(lambda: peer not in paths(lab), what="its withdrawal")
        until(lambda: sessions(lab).get(peer) != before[peer], what="the end of its session")
        until(lambda: has_started_anew(lab, node, pod), seconds=POD_SECONDS, what="its next pod")
    until(lambda: hops(lab) == (3, 3), seconds=POD_SECONDS, what="three next hops again")
    assert failed_hooks(lab) == failed


def paths(lab: Lab) -> Mapping[str, int]:
    """LOCAL_PREF of the router's paths to subnet-3, by node."""
    return routers.of(lab).rib(lab).get(str(SUBNET_3), {})


def has_started_anew(lab: Lab, node: LabNode, old: str) -> bool:
    with suppress(LabError, ValueError):
        return agent_on(lab, node) != old and not pods.complaint(lab)
    return False


@contextmanager
def by_tls(lab: Lab, folder: Path) -> Iterator[None]:
    """deploy/ with the component `metrics-mtls`, as docs/metrics.md has it; as it is shipped afterwards."""
    ca = authority(folder, "ca")
    own = signed(ca, "announcer-metrics")
    files = {"tls.crt": own.certificate, "tls.key": own.key, "ca.crt": ca.certificate}
    told = [f"--from-file={name}={file}" for name, file in files.items()]
    kubectl(lab, *SYSTEM, "create", "secret", "generic", "announcer-metrics", *told)
    try:
        roll_out(lab, composed(folder, "metrics-mtls", place="."))
        yield
    finally:
        roll_out(lab, DEPLOY)
        kubectl(lab, *SYSTEM, "delete", "secret", "announcer-metrics")


def roll_out(lab: Lab, place: Path) -> None:
    kubectl(lab, "apply", "-k", str(place))
    for what in ("daemonset/announcer-agent", "deployment/announcer-allocator"):
        until(partial(is_done, lab, what), seconds=240, what=f"the rollout of {what}")
    pods.wait(lab)


def is_done(lab: Lab, what: str) -> bool:
    with suppress(LabError):
        return bool(kubectl(lab, *SYSTEM, "rollout", "status", what, "--timeout=1s"))
    return False


def asked(lab: Lab, node: LabNode, path: str, *, scheme: str = "https") -> str:
    """The status, 000 where there is no answer."""
    argv = ["curl", "--silent", "--insecure", "--noproxy", "*", "--max-time", "5", "--output", "/dev/null"]
    url = f"{scheme}://127.0.0.1:{processes.AGENT_PORT}{path}"
    command = inside(lab.namespace(node.short), [*argv, "--write-out", "%{http_code}", url])
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout


def test_agents_that_serve_by_tls_are_ready_for_kubelets_and_their_hooks_are_answered(lab: Lab, tmp_path: Path) -> None:
    failed, hops_before = failed_hooks(lab), hops(lab)
    with stream(lab, VIP_3, VIP_3_V6, seconds=600), by_tls(lab, tmp_path):
        for node in NODES:
            told = [asked(lab, node, path) for path in ("/healthz", "/readyz", "/metrics")]
            assert told == ["200", "200", "403"]
            assert asked(lab, node, "/readyz", scheme="http") != "200"
        pod = agent_on(lab, NODES[0])
        delete(lab, pod)
        until(lambda: has_started_anew(lab, NODES[0], pod), seconds=POD_SECONDS, what="its next pod")
        assert sum(map(pods.restarts, pods.of(lab))) == 0
    assert failed_hooks(lab) == failed
    assert hops(lab) == hops_before


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
