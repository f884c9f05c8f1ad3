"""Pods as a kubelet makes them, by docker: one container holds the network, those of the manifests are in it."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from lab.command import LabError, run
from tests.deploying import DEPLOY
from tests.integration.exabgp import Router, frr
from tests.integration.netns import NUMBERS, PREFIX, Namespace, cable, namespace

FIELDS = {"spec.nodeName": "n1", "metadata.name": "pod-n1", "metadata.namespace": "announcer-system"}
NO_SHELL = [f"--volume=/dev/null:/usr/bin/{shell}" for shell in ("dash", "bash")]


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

    def start(self, name: str, *more: str, options: Iterable[str] = ()) -> None:
        """One of the manifests' containers, with more arguments, and more options of `docker run`."""
        container = containers()[name]
        fields = {one["name"]: FIELDS[one["valueFrom"]["fieldRef"]["fieldPath"]] for one in container.get("env", [])}
        environment = [f"--env={variable}={value}" for variable, value in fields.items()]
        network = f"--network=container:{self.name}"
        given = [*flags(container), network, *environment, *self._mounts, *options]
        self._run(f"{self.name}-{name}", *given, container["image"], *container.get("args", []), *more)

    def kill(self, name: str) -> None:
        docker("rm", "--force", f"{self.name}-{name}")

    def logs(self, name: str) -> str:
        argv = ["docker", "logs", f"{self.name}-{name}"]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=True)
        return done.stdout

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
def running(folder: Path) -> Iterator[tuple[Pod, Router, Namespace]]:
    """A pod that has `folder` as /manifests, a router at the other end of its cable, and the router's namespace."""
    with ExitStack() as stack:
        tor = stack.enter_context(namespace())
        pod = Pod(folder, stack)
        cable(pod.node, "eth0", tor, "eth0")
        pod.node.ip("address", "add", "10.9.0.2/24", "dev", "eth0")
        tor.ip("address", "add", "10.9.0.1/24", "dev", "eth0")
        yield pod, stack.enter_context(frr(tor)), tor


def has_route(router: Router, prefix: str = "10.20.0.1/32") -> bool:
    with suppress(LabError, OSError):
        return prefix in router.rib()
    return False


def is_ready(pod: Pod, name: str) -> bool:
    """What the kubelet's probe sees."""
    port = containers()[name]["ports"][0]["containerPort"]
    program = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/readyz').status)"
    with suppress(LabError):
        return pod.inside(name, "python3", "-c", program) == "200"
    return False


def complaints(pod: Pod, name: str) -> list[Any]:
    """Lines of its log that are warnings or worse, but for ExaBGP's not being there at once."""
    lines = [json.loads(line) for line in pod.logs(name).splitlines()]
    assert lines, f"{name} logs nothing"
    found = [line for line in lines if line["level"] not in {"debug", "info"}]
    return [line for line in found if line["event"] != "not connected to ExaBGP"]
