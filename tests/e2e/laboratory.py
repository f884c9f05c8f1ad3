"""A lab for tests: the product's processes, real ExaBGP, FRR and kernels, beside any lab that a person runs."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lab import checks, control_plane, processes, routers
from lab.__main__ import build, down
from lab.command import LabError, inside, run, run_json, wait_until
from lab.topology import NODES, SUBNET_3, SUBNET_3_V6, Lab

RUN = Path("/run")
NAME = "ann-e2e-lab"
STREAM_SECONDS = 60
ON_THEIR_WAY = 20
AFTERWARDS = 200
"""Packets that are to be answered after the last action: what follows it by a moment counts too."""
SEQUENCES = 1 << 16


@contextmanager
def laboratory(
    manifest_set: str, store: str = "manifests", router: str = "frr", agent_args: tuple[str, ...] = ()
) -> Iterator[Lab]:
    """Built, with its promises kept, and gone afterwards; those of tests that were killed go first."""
    _sweep()
    run_dir = RUN / f"{NAME}-{os.getpid()}"
    lab = Lab(prefix=f"annt{os.getpid()}", run_dir=run_dir, store=store, router=router, agent_args=agent_args)
    try:
        build(lab, manifest_set)
        keeps_promises(lab, manifest_set)
        yield lab
    finally:
        down(lab)


def _sweep() -> None:
    for folder in RUN.glob(f"{NAME}-*"):
        pid = folder.name.removeprefix(f"{NAME}-")
        if not Path(f"/proc/{pid}").exists():
            down(Lab(prefix=f"annt{pid}", run_dir=folder))


def keeps_promises(lab: Lab, manifest_set: str = "purelb") -> None:
    results = checks.check(lab, manifest_set, deadline_seconds=60)
    assert all(result.ok for result in results), checks.table(results)


def until(condition: Callable[[], object], *, seconds: float = 20.0, what: str) -> None:
    wait_until(lambda: bool(condition()), seconds, what)


def kill(lab: Lab, name: str, number: signal.Signals = signal.SIGKILL) -> int:
    """End one process of the lab; its supervisor starts it again."""
    pid = processes.find(lab, name)
    assert pid is not None, f"{name} does not run"
    os.kill(pid, number)
    return pid


def restarted(lab: Lab, name: str, old: int) -> bool:
    return processes.find(lab, name) not in {None, old}


def stop_api(lab: Lab) -> None:
    for name in ("apiserver", "etcd"):
        processes.hold(lab, name)
        kill(lab, name)
    until(lambda: not any(processes.find(lab, name) for name in ("apiserver", "etcd")), what="the API server gone")


def start_api(lab: Lab) -> None:
    for name in ("etcd", "apiserver"):
        processes.release(lab, name)
    until(lambda: control_plane.is_ready(lab), seconds=60, what="the API server again")


class Stream:
    """Echo requests at 1 kHz from the external host, answered by the holder's kernel."""

    def __init__(self, lab: Lab, address: object, seconds: float) -> None:
        # Not -w: with that, ping ends at the first error that a router reports.
        argv = ["ping", "-n", "-i", "0.001", "-c", f"{seconds * 1000:.0f}", str(address)]
        self._output = lab.run_dir / f"stream-{address}"
        with self._output.open("w", encoding="ascii") as output:
            self._process = subprocess.Popen(inside(lab.namespace("host"), argv), stdout=output)

    def has_answers(self, count: int) -> bool:
        """Or will never have them, as all of its packets are sent."""
        return self.answers() >= count or self._process.poll() is not None

    def answers(self) -> int:
        return self._output.read_text(encoding="ascii").count(" ttl=")

    def stop(self) -> tuple[int, list[int]]:
        """How many were answered, and the numbers of those that were not; the last few may be on their way still."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)
        text = self._output.read_text(encoding="ascii")
        answered = set(unwrapped(int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", text)))
        return len(answered), sorted(set(range(1, max(answered, default=0) - ON_THEIR_WAY)) - answered)


def unwrapped(numbers: Iterable[int]) -> Iterator[int]:
    """Sequence numbers of ICMP echoes have 16 bits (RFC 792): after a minute at 1 kHz they begin anew."""
    rounds, last = 0, 0
    for number in numbers:
        if last - number > SEQUENCES // 2:
            rounds += 1
        elif number - last > SEQUENCES // 2 and rounds:  # an answer of the round before, overtaken
            yield number + (rounds - 1) * SEQUENCES
            continue
        last = number
        yield number + rounds * SEQUENCES


@contextmanager
def stream(lab: Lab, *addresses: object, lost: int = 0, seconds: float = STREAM_SECONDS) -> Iterator[None]:
    """While the block runs, no more than `lost` packets to any of the addresses get no answer.

    `seconds` bounds a stream that nobody stops; it takes longer where the machine can't send at 1 kHz.
    """
    streams = [(address, Stream(lab, address, seconds)) for address in addresses]
    try:
        yield
        for address, one in streams:
            count = one.answers() + AFTERWARDS
            until(partial(one.has_answers, count), what=f"{AFTERWARDS} more answers of {address}")
    finally:
        told = [(address, *one.stop()) for address, one in streams]
    for address, answered, missing in told:
        print(f"{address}: {answered} packets answered, {len(missing)} lost")
        assert answered > 100
        assert len(missing) <= lost, f"{address}: no answer to {missing} of {answered}"


def status(lab: Lab) -> Any:
    return run_json([*checks.status_argv(lab), "-o", "json"])


def metric(lab: Lab, host: str, name: str, *, port: int = processes.AGENT_PORT) -> float | None:
    """What a process in a namespace of the lab says at a scrape, of a metric with no label (or those in `name`). None
    where it says nothing of it, or doesn't answer.
    """
    try:
        text = checks.ask(lab, host, port, "/metrics")
    except LabError:
        return None
    lines = (line.rpartition(" ") for line in text.splitlines())
    return next((float(value) for found, _, value in lines if found == name), None)


def row(lab: Lab, service: str) -> Any:
    return next((r for r in status(lab)["services"] if r["service"] == service), None)


def put(lab: Lab, name: str, text: str) -> Path:
    """A file into the live folder in one step."""
    path = lab.manifests / name
    path.parent.mkdir(parents=True, exist_ok=True)
    new = lab.run_dir / f"{path.name}.new"
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return path


def service(name: str, pool: str) -> str:
    """A Service of `pool` with an endpoint on every node, as one file."""
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "test", "annotations": {"purelb.io/service-group": pool}},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "test", "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"nodeName": n.name, "addresses": ["10.0.0.1"]} for n in NODES],
        },
    ]
    return "---\n".join(json.dumps(one) + "\n" for one in objects)


def addresses(lab: Lab, host: str, ifname: str) -> set[str]:
    try:
        shown = run_json(["ip", "-j", "-n", lab.namespace(host), "addr", "show", "dev", ifname])
    except LabError:
        return set()
    return {info["local"] for link in shown for info in link.get("addr_info", [])}


def routes(lab: Lab, node: str, marked: str = "201") -> set[str]:
    shown = run(["ip", "-n", lab.namespace(node), "route", "show", "proto", marked])
    return {line.split()[1 if line.startswith("unreachable") else 0] for line in shown.splitlines()}


def holders(lab: Lab, address: object, ifname: str) -> list[str]:
    return [node.short for node in NODES if str(address) in addresses(lab, node.short, ifname)]


def sessions(lab: Lab) -> dict[str, str]:
    """Which session the router has with each peer; equal twice means that none was lost between."""
    return {address: peer.since for address, peer in routers.of(lab).peers(lab).items()}


def hops(lab: Lab) -> tuple[int, int]:
    return len(checks.next_hops(lab, SUBNET_3)), len(checks.next_hops(lab, SUBNET_3_V6))


def remove_tree(path: Path) -> None:
    """At once for those who look at it: agents that saw half of it go would write statuses into the rest."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    shutil.rmtree(away)
