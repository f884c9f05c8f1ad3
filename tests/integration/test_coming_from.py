"""The steps of docs/from-purelb.md and docs/from-metallb.md on a real API server: no address changes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.command import run, wait_until
from lab.topology import REPOSITORY
from tests.builders import Raw, group_v2, metallb, peer, pool, service
from tests.cluster import Cluster, cluster
from tests.deploying import DEPLOY
from tests.unit.deploy.schemas import definitions

pytestmark = pytest.mark.kubernetes


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`mark` is what announcer's allocator writes on Services of the pools of this one."""

    namespace: str
    groups: tuple[str, ...]
    objects: tuple[Raw, ...]
    load_balancer_class: str = ""
    mark: str


PEERS = {
    "purelb": Peer(
        namespace="purelb-system",
        groups=("purelb.io", "bgp.purelb.io"),
        objects=(
            group_v2("default", ranges=[("10.0.0.0/24", "10.0.0.0/24")]),
            group_v2("near", "local", ranges=[("10.0.1.0/24", "10.0.1.0/24")]),
        ),
        load_balancer_class="purelb.io/purelbv2",
        mark="purelb.io/allocated-by",
    ),
    "metallb": Peer(
        namespace="metallb-system",
        groups=("metallb.io",),
        objects=(pool("p", "10.0.0.0/23"), metallb("L2Advertisement", "all"), peer()),
        mark="metallb.io/ip-allocated-from-pool",
    ),
}
ADDRESSES = {"a": "10.0.0.77", "b": "10.0.1.33", "c": "10.0.0.5"}
"""As the peer gave them: none is the one that a new Service would get."""


def put(server: Cluster, *objects: Raw) -> None:
    server.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def running(server: Cluster, found: Peer) -> None:
    """What the peer has left when somebody comes to replace it."""
    for crd in definitions().values():
        if crd["spec"]["group"] in found.groups:
            del crd["metadata"]["labels"]
            server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(crd))
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    for name in (found.namespace, "test"):
        server.kubectl("create", "namespace", name)
    put(server, *found.objects)
    for name, address in ADDRESSES.items():
        class_of: Raw = {"loadBalancerClass": found.load_balancer_class} if found.load_balancer_class else {}
        one = service(name, addresses=[address], **class_of)
        put(server, one)
        server.kubectl("apply", "--server-side", "--subresource=status", "-f", "-", stdin=json.dumps(one))


def steps(page: str) -> list[str]:
    """The commands of its blocks that every cluster can follow."""
    text = (REPOSITORY / "docs" / f"from-{page}.md").read_text("utf-8")
    blocks = re.findall(r"^ *```\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


class Person:
    """Types commands as the page has them, in a folder of its own."""

    def __init__(self, server: Cluster, folder: Path) -> None:
        self.server, self.folder = server, folder

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.server.server.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.server.server.kubeconfig("admin"))}

    def types(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def problems(self) -> list[Raw]:
        """As `announcer status` shows them."""
        found: list[Raw] = json.loads(run(self._announcer("status", "-o", "json"), timeout=60.0))["problems"]
        return found

    def allocates_until(self, found: Peer) -> None:
        """Runs the allocator until each Service has the annotation."""
        mark = found.mark
        argv = self._announcer("allocator", "--metrics-address=", f"--lease-namespace={found.namespace}")
        with (self.folder / "log").open("wb") as log, subprocess.Popen(argv, stderr=log) as allocator:
            try:
                wait_until(lambda: all(mark in one for one in self.notes()), 30.0, f"{mark} on Services")
            finally:
                allocator.terminate()
                allocator.wait(20)

    def notes(self) -> list[Raw]:
        items = json.loads(self.server.kubectl("get", "services", "--namespace=test", "-o", "json"))["items"]
        return [one["metadata"].get("annotations", {}) for one in items]

    def _announcer(self, *arguments: str) -> list[str]:
        file = str(self.server.server.kubeconfig("admin"))
        return [sys.executable, "-m", "announcer", *arguments, "--kubeconfig", file]


@pytest.mark.parametrize("page", PEERS)
def test_steps_change_no_address(page: str, tmp_path: Path) -> None:
    found = PEERS[page]
    with cluster(tmp_path / "cluster") as server:
        running(server, found)
        person = Person(server, tmp_path)
        assert person.problems() == []
        (keep,) = (line for line in steps(page) if line.endswith("> before"))
        person.types(keep)
        person.types(str(DEPLOY / "install-crds.sh"))
        for line in steps(page):
            if "kubectl replace" in line:
                person.types(line)
        person.types(f"kubectl apply -k {DEPLOY / 'overlays' / page}")
        person.allocates_until(found)
        person.types(keep.replace("> before", "> after"))
        before = (tmp_path / "before").read_text("utf-8")
        assert {f"test/{name} {address}" for name, address in ADDRESSES.items()} <= set(before.splitlines())
        assert person.types("diff before after") == ""
        assert person.problems() == []
