"""A real ExaBGP in one namespace and a real FRR in another, with a cable: what the tests of the session run on.

FRR is a customer's router: eBGP, one session for each family, nothing that knows of announcer.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from announcer.core.model import DesiredPeer
from tests.builders import ip
from tests.integration.netns import Namespace, cable, namespace

RUN = Path(__file__).parents[2] / "exabgp" / "run"
FRR = Path("/usr/lib/frr")
ASN, ROUTER_ASN = 64512, 64513
V4 = DesiredPeer(
    name="v4",
    my_asn=ASN,
    peer_asn=ROUTER_ASN,
    peer_address=ip("10.9.0.1"),
    local_address=ip("10.9.0.2"),
    router_id=IPv4Address("10.9.0.2"),
    hold_time_seconds=9,
)
V6 = DesiredPeer(
    name="v6",
    my_asn=ASN,
    peer_asn=ROUTER_ASN,
    peer_address=ip("fd00:9::1"),
    local_address=ip("fd00:9::2"),
    router_id=IPv4Address("10.9.0.2"),
    hold_time_seconds=9,
)
BGPD = f"""router bgp {ROUTER_ASN}
 bgp router-id 10.9.0.1
 no bgp ebgp-requires-policy
 timers bgp 3 9
 neighbor 10.9.0.2 remote-as {ASN}
 neighbor 10.9.0.2 timers connect 1
 neighbor fd00:9::2 remote-as {ASN}
 neighbor fd00:9::2 timers connect 1
 address-family ipv4 unicast
  no neighbor fd00:9::2 activate
 address-family ipv6 unicast
  neighbor fd00:9::2 activate
"""


class Router:
    def __init__(self, host: Namespace, folder: Path) -> None:
        self._host, self._folder = host, folder

    def rib(self, version: int = 4) -> dict[str, Any]:
        """Prefixes with what FRR knows of their paths, empty while it starts."""
        return dict(self._ask(f"show bgp ipv{version} unicast json").get("routes", {}))

    def paths(self, prefix: str) -> dict[str, Any]:
        """What FRR knows of each path to a prefix, by the address of who advertises it."""
        version = 6 if ":" in prefix else 4
        found = self._ask(f"show bgp ipv{version} unicast {prefix} json").get("paths", [])
        return {path["peer"]["peerId"]: path for path in found}

    def neighbors(self) -> dict[str, Any]:
        return self._ask("show bgp neighbors json")

    def established_count(self, peer: str) -> int:
        """How many times a session with that peer has come up."""
        return int(self.neighbors().get(peer, {}).get("connectionsEstablished", 0))

    def fib_count(self) -> int:
        """How many routes of BGP the router's kernel has."""
        return len(self._host.ip("route", "show", "proto", "bgp").splitlines())

    def received(self, peer: str) -> int:
        """How many IPv4 routes the present session with that peer has brought."""
        found = self._ask("show bgp ipv4 unicast summary json").get("peers", {})
        return int(found.get(peer, {}).get("pfxRcd", 0))

    def order(self, command: str) -> None:
        self._vtysh(command)

    def log_notifications(self) -> None:
        """From now on: `show bgp neighbors` forgets the last one when the next session begins."""
        self.configure(f"log file {self._folder}/frr.log", "router bgp 64513", "bgp log-neighbor-changes")

    def notifications(self) -> str:
        """Those that it has logged, each with its peer, code and subcode (RFC 4271 §4.5)."""
        text = (self._folder / "frr.log").read_text(encoding="utf-8")
        return "\n".join(line for line in text.splitlines() if "NOTIFICATION: received" in line)

    def cut(self, *, is_cut: bool = True) -> None:
        """Lose every packet between the two without either seeing its link go down."""
        verb = "add" if is_cut else "del"
        for address in ("10.9.0.2", "fd00:9::2"):
            self._host.ip("route", verb, "blackhole", address)

    def add_address(self, address: str) -> None:
        self._host.ip("address", "add", address, "dev", "eth0")

    def ip(self, *arguments: str) -> str:
        return self._host.ip(*arguments)

    def clear(self) -> None:
        self._vtysh("clear bgp *")

    def configure(self, *commands: str) -> None:
        self._vtysh("configure terminal", *commands)

    def _ask(self, command: str) -> dict[str, Any]:
        return dict(json.loads(self._vtysh(command).strip() or "{}"))

    def _vtysh(self, *commands: str) -> str:
        argv = ["vtysh", "--vty_socket", str(self._folder)]
        for command in commands:
            argv += ["-c", command]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


class Sidecar:
    """`exabgp/run` in a namespace, as whoever keeps it running would start it."""

    def __init__(self, node: Namespace, directory: Path) -> None:
        self.directory = directory
        self.node = node
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def add_address(self, address: str) -> None:
        self.node.ip("address", "add", address, "dev", "eth0")

    def start(self) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        argv = ["ip", "netns", "exec", self.node.name, str(RUN), str(self.directory), "20"]
        with (self.directory / "exabgp.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "PATH": path})

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def reload(self) -> None:
        """What a person would do who has edited the configuration."""
        os.kill(self.pid, signal.SIGUSR1)

    def closed_count(self) -> int:
        """How many connections to the router its log says to have closed."""
        return (self.directory / "exabgp.log").read_text("utf-8").count("connection to 10.9.0.1 closed")

    def bridge_pid(self) -> int:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])


@contextmanager
def router_and_sidecar(directory: Path) -> Iterator[tuple[Router, Sidecar]]:
    with node_and_router() as (node, tor), frr(tor) as router:
        sidecar = Sidecar(node, directory)
        try:
            yield router, sidecar
        finally:
            sidecar.kill()


@contextmanager
def node_and_router() -> Iterator[tuple[Namespace, Namespace]]:
    with namespace() as node, namespace() as tor:
        cable(node, "eth0", tor, "eth0")
        for host, last in ((node, "2"), (tor, "1")):
            host.ip("address", "add", f"10.9.0.{last}/24", "dev", "eth0")
            host.ip("address", "add", f"fd00:9::{last}/64", "dev", "eth0", "nodad")
        yield node, tor


@contextmanager
def frr(tor: Namespace, config: str = BGPD) -> Iterator[Router]:
    """The daemons leave root for the user of FRR's package, so the folder is theirs and not below the test's own."""
    with tempfile.TemporaryDirectory(prefix="ann-t-frr-") as name:
        folder = Path(name)
        for daemon, text in (("zebra", ""), ("bgpd", config)):
            (folder / f"{daemon}.conf").write_text(text, encoding="ascii")
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "frr", "frr")
        daemons = []
        try:
            for daemon in ("zebra", "bgpd"):
                daemons.append(subprocess.Popen(_argv(tor, folder, daemon), stderr=subprocess.DEVNULL))
                _wait_for(folder / f"{daemon}.vty")
            yield Router(tor, folder)
        finally:
            for process in daemons:
                process.terminate()
            for process in daemons:
                process.wait(10)


def _argv(tor: Namespace, folder: Path, daemon: str) -> list[str]:
    files = ["-f", f"{folder}/{daemon}.conf", "-i", f"{folder}/{daemon}.pid", "-z", f"{folder}/zserv.api"]
    return ["ip", "netns", "exec", tor.name, str(FRR / daemon), *files, "--vty_socket", str(folder), "-P", "0"]


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)
