"""The images as deploy/ runs them: by a real container engine, without a shell, their root file system read only.

`make test-images`, after `make images`. A pod is a container that only holds the network, as a kubelet makes it, and
the containers of the DaemonSet in it, with the user and capabilities of deploy/base; its cable leads to a FRR.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.command import LabError, run, wait_until
from tests.deploying import DEPLOY
from tests.integration.bfdd import daemon
from tests.integration.exabgp import Router, frr
from tests.integration.netns import NUMBERS, PREFIX, Namespace, cable, namespace

START_SECONDS = 2.0
NO_SHELL = [f"--volume=/dev/null:/usr/bin/{shell}" for shell in ("dash", "bash")]
OBJECTS = """
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: a}
spec: {addresses: [10.20.0.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: a}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: a}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.9.0.1, holdTime: 9s, bfdProfile: fast}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: a}
spec: {receiveInterval: 300, transmitInterval: 300}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: a}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 10.20.0.1}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.9.0.2], nodeName: n1, conditions: {ready: true}}]
ports: [{port: 80, protocol: TCP}]
"""


def docker(*arguments: str) -> str:
    return run(["docker", *arguments], timeout=60.0).strip()


def containers() -> dict[str, Any]:
    """Those of deploy/base, deploy/cleanup and the component bfd, by name."""
    found: dict[str, Any] = {}
    for file in ("base/daemonset-agent", "base/deployment-allocator", "cleanup/daemonset-cleanup"):
        pod = yaml.safe_load((DEPLOY / f"{file}.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
        there = [*pod.get("initContainers", []), *pod["containers"]]
        found |= {one["name"]: {**one, "pod": pod.get("securityContext", {})} for one in there}
    *_, bfdd = yaml.safe_load((DEPLOY / "components" / "bfd" / "patch-agent.yaml").read_text("utf-8"))
    return found | {"bfdd": {**bfdd["value"], "pod": {}}}


def flags(container: Any) -> list[str]:
    """Of `docker run`, for what the manifest says, and without a shell."""
    context = container["pod"] | container["securityContext"]
    added = [f"--cap-add={name}" for name in context["capabilities"].get("add", [])]
    user = f"--user={context['runAsUser']}:{context['runAsGroup']}"
    return ["--read-only", "--security-opt=no-new-privileges", "--cap-drop=ALL", *added, user, *NO_SHELL]


class Pod:
    """The agent and ExaBGP of a node n1, in a network of their own with eth0."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-pod{next(NUMBERS)}"
        self._stack = stack
        self._mounts = [f"--volume={folder}:/manifests"]
        for place in ("/run/announcer", "/run/bfd"):
            volume = docker("volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs")
            stack.callback(docker, "volume", "rm", volume)
            self._mounts.append(f"--volume={volume}:{place}")
        image = containers()["agent"]["image"]
        hold = ("--network=none", "--entrypoint=python3", image, "-c", "import signal; signal.pause()")
        self._run(self.name, *hold)
        self.node = self._network()

    def start(self, name: str, *more: str) -> None:
        container = containers()[name]
        network = f"--network=container:{self.name}"
        arguments = [*container.get("args", []), *more]
        options = [*flags(container), network, "--env=NODE_NAME=n1", *self._mounts]
        self._run(f"{self.name}-{name}", *options, container["image"], *arguments)

    def kill(self, name: str) -> None:
        docker("rm", "--force", f"{self.name}-{name}")

    def logs(self, name: str) -> str:
        return docker("logs", f"{self.name}-{name}")

    def inside(self, name: str, *argv: str) -> str:
        return docker("exec", f"{self.name}-{name}", *argv)

    def _run(self, name: str, *arguments: str) -> None:
        docker("run", "--detach", f"--name={name}", *arguments)
        self._stack.callback(docker, "rm", "--force", name)

    def _network(self) -> Namespace:
        run(["ip", "netns", "attach", self.name, docker("inspect", "--format={{.State.Pid}}", self.name)])
        self._stack.callback(run, ["ip", "netns", "delete", self.name])
        return Namespace(self.name)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Pod, Router]]:
    with running_at(folder) as (pod, router, _):
        yield pod, router


@contextmanager
def running_at(folder: Path) -> Iterator[tuple[Pod, Router, Namespace]]:
    """With the router's namespace."""
    (folder / "objects.yaml").write_text(OBJECTS, encoding="utf-8")
    with ExitStack() as stack:
        tor = stack.enter_context(namespace())
        pod = Pod(folder, stack)
        cable(pod.node, "eth0", tor, "eth0")
        pod.node.ip("address", "add", "10.9.0.2/24", "dev", "eth0")
        tor.ip("address", "add", "10.9.0.1/24", "dev", "eth0")
        yield pod, stack.enter_context(frr(tor)), tor


def has_route(router: Router) -> bool:
    with suppress(LabError, OSError):
        return "10.20.0.1/32" in router.rib()
    return False


def once(name: str, *arguments: str) -> str:
    """What a container of deploy/base says that runs to its end, with other arguments."""
    container = containers()[name]
    return docker("run", "--rm", "--network=none", *flags(container), *arguments)


def test_command_runs_without_a_shell() -> None:
    assert "usage: announcer status" in once("allocator", containers()["agent"]["image"], "status", "--help")


def test_program_is_loaded_in_time() -> None:
    """By the processor's time, as the machine may do other work."""
    program = "import time, announcer.cli; print(time.process_time())"
    took = once("allocator", "--entrypoint=python3", containers()["agent"]["image"], "-c", program)
    assert float(took) < START_SECONDS


def test_sidecar_gives_up_without_an_agent_and_names_what_it_waits_for() -> None:
    image = containers()["exabgp"]["image"]
    with pytest.raises(LabError, match=r"ended with 75: (?s:.*)no /run/announcer/exabgp\.conf"):
        once("exabgp", "--tmpfs=/run/announcer", image, "/run/announcer", "1")


def test_pod_advertises_its_address_and_keeps_it_over_the_end_of_each_container(tmp_path: Path) -> None:
    with running(tmp_path) as (pod, router):
        pod.start("exabgp")
        pod.start("agent", "--manifests=/manifests")
        wait_until(lambda: has_route(router), 60.0, "the route")
        assert "10.20.0.1/32" in pod.node.ip("-4", "address", "show", "dev", "kube-lb0")
        ready = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9720/readyz').status)"
        wait_until(lambda: _answers(pod, ready), 20.0, "the agent to be ready")
        pod.kill("agent")
        assert has_route(router)
        assert "10.20.0.1/32" in pod.node.ip("-4", "address", "show", "dev", "kube-lb0")
        pod.start("agent", "--manifests=/manifests")
        pod.kill("exabgp")
        wait_until(lambda: not has_route(router), 20.0, "the router to notice")
        pod.start("exabgp")
        wait_until(lambda: has_route(router), 60.0, "the route again")


def _answers(pod: Pod, program: str) -> bool:
    with suppress(LabError):
        return pod.inside("agent", "python3", "-c", program) == "200"
    return False


def test_agent_may_go_before_others_and_nothing_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as (pod, router):
        pod.start("exabgp")
        pod.start("agent", "--manifests=/manifests")
        wait_until(lambda: has_route(router), 60.0, "the route")
        lines = [json.loads(line) for line in pod.logs("agent").splitlines()]
        assert [line for line in lines if line["level"] in {"warning", "error"}] == []
        assert pod.inside("agent", "python3", "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 1))") == "-10"


def test_bfdd_beside_the_agent_has_its_session_with_the_router(tmp_path: Path) -> None:
    with running_at(tmp_path) as (pod, router, tor), daemon(tor) as theirs:
        wait_until((theirs.directory / "bfdd.vty").exists, 10.0, "the router's bfdd")
        theirs.configure("peer 10.9.0.2", "no shutdown")
        pod.start("exabgp")
        pod.start("bfdd")
        pod.start("agent", "--manifests=/manifests", "--bfd-dir=/run/bfd")
        wait_until(lambda: theirs.states() == {"10.9.0.2": "up"}, 30.0, "the BFD session")
        wait_until(lambda: has_route(router), 60.0, "the route")


def test_node_is_as_it_was_once_it_has_been_cleaned_up(tmp_path: Path) -> None:
    with running(tmp_path) as (pod, router):
        before = pod.node.ip("address"), pod.node.ip("route")
        for name, more in (("exabgp", ()), ("agent", ("--manifests=/manifests",))):
            pod.start(name, *more)
        wait_until(lambda: has_route(router), 60.0, "the route")
        for name in ("agent", "exabgp"):
            pod.kill(name)
        assert "kube-lb0" in pod.node.ip("address")
        pod.start("cleanup")
        wait_until(lambda: "removed link kube-lb0" in pod.logs("cleanup"), 20.0, "the cleanup")
        assert (pod.node.ip("address"), pod.node.ip("route")) == before
