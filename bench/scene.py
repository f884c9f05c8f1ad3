"""The lab as the cases of `bench.failover` use it: a client outside, cables that are cut, agents that end, objects."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from lab import control_plane, processes
from lab.checks import READY, VIP_1, VIP_2, readiness
from lab.command import LabError, inside, run, wait_until
from lab.topology import MANIFEST_SETS, NODES, REPOSITORY, Lab
from tests.e2e.laboratory import addresses, holders, put, row, service, start_api, stop_api

BUSY = "while True: pass"
EVERY = tuple(node.short for node in NODES)
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
MANY_COUNT, MANY_POOL = 1000, "thousand"
NEIGHBORS = 16384
MANY = [str(IPv4Address("10.120.0.100") + number) for number in range(MANY_COUNT)]
DEADLINE, STEADY_SECONDS, READY_SECONDS = 20.0, 1.0, 40.0
POOLS = {
    "local-v6": {"v6pools": [{"subnet": "fd00:111::/64", "pool": "fd00:111::1:100-fd00:111::1:1ff"}]},
    MANY_POOL: {"v4pools": [{"subnet": "10.120.0.0/20", "pool": "10.120.0.100-10.120.7.254"}]},
}


@dataclass(slots=True)
class Asking:
    """What the client saw, known once it has ended."""

    told: dict[str, Any] = field(default_factory=dict)

    def lost(self) -> int:
        return sum(lost for one in self.told.values() for _, _, lost in one["outages"])

    def outage(self, *, since: float = 0.0, until: float = float("inf")) -> float:
        """The longest, in seconds, of those that began between."""
        found = [end - at for one in self.told.values() for at, end, _ in one["outages"] if since <= at < until]
        return max(found, default=0.0)

    def shown(self) -> dict[str, int]:
        return {address: sum(lost for _, _, lost in one["outages"]) for address, one in self.told.items()}


@contextmanager
def asking(lab: Lab, between: float, targets: Sequence[str]) -> Iterator[Asking]:
    """A client in the host's namespace, ahead of others for the processors: it stands for a machine of its own."""
    argv = [sys.executable, str(REPOSITORY / "bench" / "echoes.py"), str(between), *targets]
    process = subprocess.Popen(
        inside(lab.namespace("host"), ["nice", "-n", "-15", *argv]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asked = Asking()
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise LabError(f"no answers before anything was done, from one of {targets[:5]}")
        yield asked
        said, _ = process.communicate("", timeout=60)
        asked.told = json.loads(said)
    finally:
        process.kill()
        process.wait(5)


@dataclass(slots=True)
class Scene:
    lab: Lab
    v6: str = ""
    policy_local: str = ""
    many: list[str] = field(default_factory=list)

    def prepare(self, *, many: int = 0) -> None:
        """Pools on the nodes' own subnets, the Services, and so many more where they are needed."""
        self.put("failover-pools", [_group(name, spec) for name, spec in POOLS.items()])
        self.put("failover-v6", _objects(service("failover-v6", "local-v6"), family="IPv6"))
        self.put_local([node.short for node in NODES], policy="Cluster")
        self.v6 = self._address("failover-v6")
        self.policy_local = self._address("failover-local")
        if many:
            self._add_many(many)
        self.settle()

    def _add_many(self, count: int) -> None:
        _raise_neighbor_limits()
        for number, host in enumerate(("host", *(node.short for node in NODES)), start=1):
            run(["ip", "-n", self.lab.namespace(host), "address", "replace", f"10.120.0.{number}/20", "dev", "eth0"])
        text = "---\n".join(service(f"thousand-{number:04}", MANY_POOL) for number in range(count))
        self.put("failover-thousand", _objects(text))
        self.many = MANY[:count]

    def _address(self, name: str) -> str:
        self.until(lambda: (row(self.lab, f"test/{name}") or {}).get("address"), f"an address for {name}", 40)
        return str(row(self.lab, f"test/{name}")["address"])

    # Objects.

    def put(self, name: str, objects: list[Any]) -> None:
        if self.lab.is_cluster:
            control_plane.put(self.lab, objects)
        else:
            put(self.lab, f"{name}.yaml", "---\n".join(f"{json.dumps(one)}\n" for one in objects))

    def put_local(self, nodes: Iterable[str], policy: str = "Local") -> None:
        found = _objects(service("failover-local", "subnet-1"))
        found[0]["spec"]["externalTrafficPolicy"] = policy
        found[1]["endpoints"] = [{"nodeName": f"ann-{node}", "addresses": ["10.0.0.1"]} for node in nodes]
        self.put("failover-local", found)

    def put_nodes(self, *, excluded: str | None = None, without: str | None = None, only: str | None = None) -> None:
        """The Node objects: one with the label, or all but one with it, or one missing."""
        found = list(yaml.safe_load_all((MANIFEST_SETS / "purelb" / "nodes.yaml").read_text("utf-8")))
        nodes = [
            one for one in found if one and not (one["kind"] == "Node" and one["metadata"]["name"] == f"ann-{without}")
        ]
        for one in (n for n in nodes if n["kind"] == "Node"):
            short = one["metadata"]["name"].removeprefix("ann-")
            if short == excluded or (only and short != only):
                one["metadata"]["labels"][EXCLUDED] = ""
        if self.lab.is_cluster and without:
            control_plane.kubectl(self.lab, "delete", "node", f"ann-{without}")
        if self.lab.is_cluster and not excluded and not only:
            control_plane.kubectl(self.lab, "label", "node", "--all", f"{EXCLUDED}-")
        self.put("nodes", nodes)

    # Who holds.

    def holder(self, address: str, ifname: str) -> str:
        self.until(lambda: len(holders(self.lab, address, ifname)) == 1, f"one holder of {address}")
        return holders(self.lab, address, ifname)[0]

    def is_held_by_another(self, address: str, ifname: str, node: str) -> bool:
        return any(found != node for found in holders(self.lab, address, ifname))

    def moved_off(self, address: str, ifname: str, node: str) -> bool:
        found = holders(self.lab, address, ifname)
        return len(found) == 1 and node not in found

    def _on(self, node: str) -> int:
        return len(addresses(self.lab, node, "eth0").intersection(self.many))

    def many_elsewhere(self, node: str) -> bool:
        return sum(self._on(other.short) for other in NODES if other.short != node) >= len(self.many)

    def gather(self) -> str:
        """All addresses of the thousand on one node, and all nodes candidates again. Returns the node."""
        node = max((n.short for n in NODES), key=self._on)
        self.put_nodes(only=node)
        self.until(lambda: self._on(node) == len(self.many), f"all of {MANY_POOL} on {node}", 60)
        self.until(lambda: not any(self._on(n.short) for n in NODES if n.short != node), "none elsewhere", 60)
        self.put_nodes()
        self.settle()
        return node

    def settle(self, *, agents: Sequence[str] = EVERY, only_on: Sequence[str] = EVERY) -> None:
        """One holder for everything and for a while, with agents that have run for longer than a start lasts and have
        come to know who holds what: one that still asks for a thousand addresses watches nobody.
        """
        wanted = [(str(VIP_1), "eth0"), (str(VIP_2), "eth1"), (self.v6, "eth0"), (self.policy_local, "eth0")]
        since: list[float] = []

        def is_steady() -> bool:
            found = [holders(self.lab, address, ifname) for address, ifname in wanted]
            is_good = all(len(nodes) == 1 and nodes[0] in only_on for nodes in found)
            many = sum(self._on(node.short) for node in NODES)
            ages = [processes.age_seconds(self.lab, f"agent-ann-{node}") for node in agents]
            is_good = is_good and many == len(self.many) and min(ages) >= 4
            if not is_good or not all(self._is_ready(node) for node in agents):
                since.clear()
            elif not since:
                since.append(time.monotonic())
            return bool(since) and time.monotonic() - since[0] > STEADY_SECONDS

        self.until(is_steady, "one holder of each address", 60)

    def _is_ready(self, node: str) -> bool:
        try:
            return readiness(self.lab, node) == READY
        except LabError:
            return False

    def learn_again(self) -> None:
        """The API server comes back until every agent knows everything, and goes again."""
        start_api(self.lab)
        self.settle()
        stop_api(self.lab)

    # Faults.

    def cut(self, node: str, ifname: str, *, carrier: bool) -> None:
        """The node's port at the switch: off it, or without carrier."""
        what = ["down"] if carrier else ["nomaster"]
        run(["ip", "-n", self.lab.namespace("net"), "link", "set", "dev", f"{node}-{ifname}", *what])

    def mend(self, node: str, ifname: str) -> None:
        switch = {"eth0": "switch-a", "eth1": "switch-b"}[ifname]
        run(["ip", "-n", self.lab.namespace("net"), "link", "set", "dev", f"{node}-{ifname}", "master", switch, "up"])

    def agent(self, node: str) -> int:
        pid = processes.find(self.lab, f"agent-ann-{node}")
        if pid is None:
            raise LabError(f"the agent of {node} does not run")
        return pid

    def end_agent(self, node: str, number: signal.Signals) -> int:
        pid = self.agent(node)
        self.signal([pid], number)
        if number is not signal.SIGSTOP:
            self.until(lambda: processes.find(self.lab, f"agent-ann-{node}") != pid, "its end")
        return pid

    def agent_returns(self, node: str) -> None:
        """It runs for longer than its start lasts."""
        name = f"agent-ann-{node}"
        self.until(lambda: processes.find(self.lab, name) is not None, "the agent again")
        self.until(lambda: processes.age_seconds(self.lab, name) > 3.5, "its start to be over")

    def signal(self, pids: Iterable[int], number: signal.Signals) -> None:
        for pid in pids:
            os.kill(pid, number)

    def until(self, condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
        wait_until(lambda: bool(condition()), seconds, what)

    def pause(self, seconds: float) -> None:
        """For as long as the case says."""
        time.sleep(seconds)

    @contextmanager
    def busy(self, count: int) -> Iterator[None]:
        with ExitStack() as stack:
            for _ in range(count):
                process = subprocess.Popen([sys.executable, "-c", BUSY])
                stack.callback(process.wait, 5)
                stack.callback(process.kill)
            yield

    def keep_logs(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for node in NODES:
            text = self.lab.log(f"agent-{node.name}").read_text("utf-8")
            (folder / f"{name}-{node.short}.log").write_text(text[-200_000:], encoding="utf-8")


def _raise_neighbor_limits() -> None:
    """The kernel counts neighbors of all namespaces together, and here one machine stands for five."""
    for family in ("ipv4", "ipv6"):
        limit = Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh3")
        if limit.exists() and int(limit.read_text("ascii")) < NEIGHBORS:
            limit.write_text(f"{NEIGHBORS}\n", encoding="ascii")


def _group(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    for pools in spec.values():
        for pool in pools:
            pool["aggregation"] = "default"
    return {
        "apiVersion": "purelb.io/v1",
        "kind": "ServiceGroup",
        "metadata": {"name": name, "namespace": "purelb-system"},
        "spec": {"local": spec},
    }


def _objects(text: str, family: str = "IPv4") -> list[Any]:
    found = [one for one in yaml.safe_load_all(text) if one]
    for one in found:
        if one["kind"] == "Service":
            one["spec"] |= {"ipFamilies": [family], "ipFamilyPolicy": "SingleStack"}
        else:
            one["addressType"] = family
            for number, endpoint in enumerate(one["endpoints"], start=1):
                endpoint["addresses"] = [f"fd00:aaaa::{number}" if family == "IPv6" else f"10.0.0.{number}"]
    return found
