"""A real bfdd alone in a namespace: no zebra, no bgpd, as the sidecar runs it."""

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.netns import Namespace

BFDD = "/usr/lib/frr/bfdd"


class Daemon:
    """`directory` is where its sockets are. The daemon leaves root for the user of FRR's package."""

    def __init__(self, host: Namespace, directory: Path) -> None:
        self.directory, self._host = directory, host
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        files = ["-f", "/dev/null", "-i", f"{self.directory}/bfdd.pid", "-z", f"{self.directory}/none"]
        sockets = ["--vty_socket", str(self.directory), "--bfdctl", f"{self.directory}/bfdd.sock"]
        argv = ["ip", "netns", "exec", self._host.name, BFDD, *files, *sockets, "-P", "0"]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if number is signal.SIGKILL:
                self._process.wait(10)
                self._process = None

    def running(self) -> dict[str, set[str]]:
        """Its configuration: peers, each with what differs from the defaults."""
        argv = ["vtysh", "--vty_socket", str(self.directory), "-d", "bfdd", "-c", "show running-config"]
        found: dict[str, set[str]] = {}
        for line in subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines():
            if line.startswith(" peer"):
                here = found.setdefault(line.strip(), set())
            elif line.startswith("  "):
                here.add(line.strip())
        return found

    def states(self) -> dict[str, str]:
        """Of its sessions, by the peer's address."""
        argv = ["vtysh", "--vty_socket", str(self.directory), "-d", "bfdd", "-c", "show bfd peers json"]
        shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return {one["peer"]: one["status"] for one in json.loads(shown)}

    def configure(self, *lines: str) -> None:
        """As a person would, below `bfd`."""
        argv = ["vtysh", "--vty_socket", str(self.directory), "-d", "bfdd"]
        for line in ("configure terminal", "bfd", *lines):
            argv += ["-c", line]
        subprocess.run(argv, check=True, capture_output=True)


@contextmanager
def daemon(host: Namespace) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="ann-t-bfd-") as name:
        shutil.chown(name, "frr", "frr")
        made = Daemon(host, Path(name))
        made.start()
        try:
            yield made
        finally:
            made.kill()
