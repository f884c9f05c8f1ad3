"""deploy/ as shipped, in containers, against a real API server: rights, policy and tokens are those of the manifests.

Only the kubelet is missing: the test starts the containers and puts the pods' tokens where a kubelet would.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import apiserver, binaries
from lab.apiserver import ApiServer
from lab.command import LabError, inside, wait_until
from tests.deploying import DEPLOY
from tests.images.pods import Pod, complaints, has_route, is_ready, running
from tests.images.test_images import OBJECTS
from tests.integration.netns import Namespace

pytestmark = pytest.mark.timeout(300)
SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount"


class Control:
    """etcd and kube-apiserver in the router's namespace, where the pod reaches them."""

    def __init__(self, folder: Path, where: Namespace, stack: ExitStack) -> None:
        self._server = ApiServer(folder=folder, programs=binaries.provide(), address="10.9.0.1")
        self._where = where
        apiserver.prepare(self._server)
        for name, argv in (("etcd", self._server.etcd_argv()), ("apiserver", self._server.argv())):
            with (folder / f"{name}.log").open("wb") as log:
                ended = ["setpriv", "--pdeathsig", "KILL", *argv]
                process = subprocess.Popen(inside(where.name, ended), stdout=log, stderr=log)
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
        wait_until(self._is_ready, 60.0, f"the API server: {folder}")

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return apiserver.kubectl(self._server, *arguments, stdin=stdin, prefix=tuple(inside(self._where.name, [])))

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def account(self, folder: Path, name: str) -> list[str]:
        """Options of `docker run` for a pod of that process on node n1: its token, and where the API server is."""
        where = "--namespace=announcer-system"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        spec = {
            "nodeName": "n1",
            "serviceAccountName": f"announcer-{name}",
            "containers": [{"name": "a", "image": "a"}],
        }
        self.kubectl("apply", where, "-f", "-", stdin=json.dumps({**pod, "spec": spec}))
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
        folder.mkdir()
        (folder / "token").write_text(self.kubectl("create", "token", f"announcer-{name}", where, *bound), "ascii")
        (folder / "ca.crt").write_bytes(self._server.ca_file.read_bytes())
        (folder / "namespace").write_text("announcer-system", "ascii")
        address = ("--env=KUBERNETES_SERVICE_HOST=10.9.0.1", "--env=KUBERNETES_SERVICE_PORT=6443")
        return [f"--volume={folder}:{SECRETS}:ro", *address]

    def _is_ready(self) -> bool:
        try:
            return "ok" in self.kubectl("get", "--raw", "/readyz")
        except LabError:
            return False


@contextmanager
def installed(folder: Path) -> Iterator[tuple[Pod, Any, Control]]:
    """By `kubectl apply -k deploy/`, with the objects of a node, a pool, a router and a Service without an address."""
    (folder / "manifests").mkdir()
    with running(folder / "manifests") as (pod, router, tor), ExitStack() as stack:
        control = Control(folder / "control", tor, stack)
        control.kubectl("apply", "-k", str(DEPLOY))
        control.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        kinds = control.kubectl("get", "crd", "-o", "name").split()
        for kind in kinds:  # "storage is (re)initializing" otherwise, for a moment
            control.kubectl("get", kind.partition("/")[2], "--all-namespaces")
        control.kubectl("create", "namespace", "a")
        control.kubectl("apply", "-f", "-", stdin=OBJECTS)
        yield pod, router, control


def test_pods_of_deploy_give_an_address_announce_it_and_report(tmp_path: Path) -> None:
    with installed(tmp_path) as (pod, router, control):
        for name in ("agent", "allocator"):
            pod.start(name, options=control.account(tmp_path / name, name))
        pod.start("exabgp")
        wait_until(lambda: has_route(router, "10.20.0.0/32"), 90.0, "the route")
        for name in ("agent", "allocator"):
            wait_until(lambda name=name: is_ready(pod, name), 30.0, f"{name} to be ready")  # type: ignore[misc]
        status = control.get("service", "web", "--namespace=a")["status"]
        assert [one["ip"] for one in status["loadBalancer"]["ingress"]] == ["10.20.0.0"]
        wait_until(lambda: "Advertised" in json.dumps(control.get("nodeannouncement", "n1")), 20.0, "the report")
        assert [one["metadata"]["name"] for one in control.get("nodeannouncements")["items"]] == ["n1"]
        assert control.get("lease", "announcer-allocator", "--namespace=announcer-system")["spec"]["holderIdentity"]
        assert complaints(pod, "agent") == []
        assert complaints(pod, "allocator") == []
