"""A real etcd and kube-apiserver for a test module: on loopback, ports of its own, gone with the test process."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import apiserver, binaries
from lab.apiserver import ApiServer
from lab.command import wait_until
from lab.topology import REPOSITORY

START_SECONDS = 60.0
CRDS, RIGHTS = REPOSITORY / "deploy" / "crds", REPOSITORY / "deploy" / "rbac"


@dataclass(slots=True)
class Cluster:
    """Both programs, each startable and stoppable by itself."""

    server: ApiServer
    _running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        for name in names or ("etcd", "apiserver"):
            argv = self.server.etcd_argv() if name == "etcd" else self.server.argv()
            with (self.server.folder / f"{name}.log").open("ab") as log:
                # setpriv: the kernel ends them when this process ends, however that happens
                self._running[name] = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        wait_until(lambda: apiserver.is_ready(self.server), START_SECONDS, f"the API server: {self.server.folder}")

    def stop(self, *names: str) -> None:
        for name in names or ("apiserver", "etcd"):
            process = self._running.pop(name, None)
            if process is not None:
                process.kill()
                process.wait(10)

    def kubectl(self, *arguments: str, stdin: str = "", who: str = "admin") -> str:
        return apiserver.kubectl(self.server, *arguments, stdin=stdin, who=who)

    def install(self) -> None:
        """CRDs, namespaces and rights, as a user of deploy/ gets them."""
        self.kubectl("apply", "--server-side", "-f", str(CRDS), "-f", str(RIGHTS))
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    ports = [_free_port() for _ in range(2)]
    server = ApiServer(folder=folder, programs=binaries.provide(), port=ports[0], etcd_port=ports[1])
    apiserver.prepare(server)
    with ExitStack() as stack:
        made = Cluster(server=server)
        stack.callback(made.stop)
        made.start()
        yield made


def _free_port() -> int:
    """A port that is free, and the next one too (etcd's peers)."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
