"""`make bench-kubernetes`: ten thousand Services on a real API server, in a lab of its own. Needs root; minutes.

Prints: the processor time of all decisions; Services given an address and written a second by the allocator, beside
what the same API server takes from a client that decides nothing; an agent that starts into all of that: memory, time
until it knows everything, and how late its event loop ever was; the same agent with the reports of a hundred other
nodes and with none. Then every bound beside its figure; it ends with 1 where one is not held.

Everything shares the machine's processors: on a machine that does something else too, figures say little.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from announcer.core.allocate import allocate
from announcer.core.desired import Desired, Mode, Placement
from announcer.core.dialects import assemble, parse
from announcer.core.model import UNKNOWN, VIRTUAL_IFNAME, IfName, LinkReport, ServiceKey
from announcer.core.own import Ownership
from announcer.core.report import node_status
from announcer.store.kubernetes import Client
from announcer.store.kubernetes.client import APPLY
from bench.bounds import Bounds
from lab import control_plane, processes
from lab.__main__ import build, down
from lab.command import inside, run
from lab.topology import CONTROL_PLANE, NODES, REPOSITORY, Lab
from tests.e2e import many

COUNT, WRITERS, DEADLINE = 10_000, 24, 300.0
REPORTS, ADDRESSES, SETTLED_BEATS = 100, 100, 300
LEAST_A_SECOND, MOST_DECIDING_SECONDS = 500, 2.0
MOST_AGENT_MB, MOST_SYNC_SECONDS, MOST_STALL_MS = 150, 5.0, 100
FIRST = IPv4Address("10.120.0.1")
LAB = Lab(prefix=f"annb{os.getpid()}", run_dir=Path(f"/run/announcer-bench-{os.getpid()}"), store="kubernetes")
PROGRAM = "bench.kubernetes"


def main() -> int:
    bounds = Bounds()
    say(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")
    decisions(bounds)
    with laboratory(LAB) as lab:
        for node in NODES[1:]:
            put_down(lab, f"agent-{node.name}")
            put_down(lab, f"exabgp-{node.name}")
        for name in processes.ALLOCATORS:
            put_down(lab, name)
        put_down(lab, "agent-ann-n1")
        reports(lab)
        run_there(lab, "fill")
        allocations(lab, bounds)
        agent(lab, bounds)
    for bound in bounds.found:
        say(str(bound))
    return bounds.exit_code()


@contextmanager
def laboratory(lab: Lab) -> Iterator[Lab]:
    try:
        build(lab, "purelb")
        yield lab
    finally:
        down(lab)


def decisions(bounds: Bounds) -> None:
    """Processor time of one whole computation, from parsed objects, with none and with all but one given already."""
    objects = [json.loads(many.group()), *(service(number) for number in range(COUNT))]
    snapshot = assemble(parse(one, "") for one in objects)
    started = time.process_time()
    found = allocate(snapshot)
    taken = time.process_time() - started
    say(f"decisions for {COUNT} Services into a /16 pool: {taken:.2f} s of processor time")
    bounds.most("all decisions", taken, MOST_DECIDING_SECONDS, "s of processor time")
    for one in objects[1:-1]:
        (address,) = found[f"test/{one['metadata']['name']}"].addresses  # type: ignore[index,union-attr]
        one["status"] = {"loadBalancer": {"ingress": [{"ip": str(address)}]}}
    snapshot = assemble(parse(one, "") for one in objects)
    started = time.process_time()
    allocate(snapshot)
    say(f"one more Service beside {COUNT - 1}: {time.process_time() - started:.2f} s of processor time")


def allocations(lab: Lab, bounds: Bounds) -> None:
    with started(lab, "allocator") as (pid, told):
        wait(lambda: "leading begins" in read(lab.log("bench-allocator")))
        begun = time.monotonic()
        run_there(lab, "await-all")
        taken = time.monotonic() - begun
        heart = json.loads(told.read_text("ascii"))
        say(
            f"allocator: {COUNT} Services given and written in {taken:.1f} s of leading, {COUNT / taken:.0f} a second; "
            f"{heart['cpu']:.1f} s of processor time, RSS {rss(pid):.0f} MB, "
            f"its loop late by {heart['worst'] * 1000:.0f} ms at most"
        )
        bounds.least("Services given and written", COUNT / taken, LEAST_A_SECOND, "a second")
    run_there(lab, "bare-writes")


def agent(lab: Lab, bounds: Bounds) -> None:
    """One agent that starts with nothing known, on a node with ExaBGP and the router beside it."""
    log = lab.log("bench-agent")
    with started(lab, "agent") as (pid, told):
        begun = time.monotonic()
        wait(lambda: "the store is known" in read(log))
        known = time.monotonic() - begun
        say(f"agent: {COUNT} Services and {COUNT} EndpointSlices known after {known:.1f} s")
        wait(lambda: many.next_hops(lab) >= COUNT)
        say(f"agent: all of them routed by ann-tor after {time.monotonic() - begun:.1f} s, this node alone")
        time.sleep(20)
        heart = json.loads(told.read_text("ascii"))
        late = (
            f"late by {heart['worst'] * 1000:.0f} ms at most, {heart['late']} of {heart['beats']} beats by over 100 ms"
        )
        say(f"agent: RSS {rss(pid):.0f} MB (peak {rss(pid, 'VmHWM'):.0f}), its loop {late}")
        bounds.most("agent: everything known after", known, MOST_SYNC_SECONDS, "s")
        bounds.most("agent: RSS", rss(pid), MOST_AGENT_MB, "MB")
        bounds.most("agent: its loop late by", heart["worst"] * 1000, MOST_STALL_MS, "ms")


def reports(lab: Lab) -> None:
    """The same agent without and with other nodes' reports, each as our agents write it."""
    alone = with_reports(lab, "none but this node's report")
    run_there(lab, "report")
    beside = with_reports(lab, f"{REPORTS} reports of {ADDRESSES} addresses each")
    say(f"agent: what the reports cost: {beside[0] - alone[0]:.2f} s, {beside[1] - alone[1]:.1f} MB")
    run_there(lab, "forget-reports")


def with_reports(lab: Lab, what: str) -> tuple[float, float]:
    """Seconds until everything is known, and MB of RSS then."""
    log = lab.log("bench-agent")
    with started(lab, "agent") as (pid, told):
        begun = time.monotonic()
        wait(lambda: "the store is known" in read(log))
        known = time.monotonic() - begun
        known_beats = beats(told)
        wait(lambda: beats(told) > known_beats + SETTLED_BEATS)
        say(f"agent, {what}: known after {known:.2f} s, RSS {rss(pid):.1f} MB")
        return known, rss(pid)


@contextmanager
def started(lab: Lab, who: str) -> Iterator[tuple[int, Path]]:
    """The real process with a heartbeat: its pid, and the file that the heartbeat writes."""
    told = lab.run_dir / f"heartbeat-{who}"
    rest = ("--node", "ann-n1", "--exabgp-dir", str(lab.exabgp_dir(NODES[0]))) if who == "agent" else ()
    argv = [sys.executable, "-m", "bench.heartbeat", str(told), who, *processes.store_argv(lab, who), *rest]
    host = "n1" if who == "agent" else CONTROL_PLANE
    lab.log(f"bench-{who}").unlink(missing_ok=True)
    told.unlink(missing_ok=True)
    process = processes.spawn(lab, f"bench-{who}", inside(lab.namespace(host), argv))
    try:
        yield process.pid, told
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def beats(told: Path) -> int:
    return int(json.loads(told.read_text("ascii"))["beats"]) if told.exists() else 0


def put_down(lab: Lab, name: str) -> None:
    processes.hold(lab, name)
    pid = processes.find(lab, name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        wait(lambda: processes.find(lab, name) is None)


def rss(pid: int, what: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what))) / 1024


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the lab did not follow")
        time.sleep(0.1)


def read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


# -- in the namespace of the API server ------------------------------------------------------------------------------


def run_there(lab: Lab, what: str) -> None:
    kubeconfig = str(control_plane.server(lab).kubeconfig("admin"))
    argv = [sys.executable, "-m", PROGRAM, what, kubeconfig]
    said = run(["env", f"PYTHONPATH={REPOSITORY}", *inside(lab.namespace(CONTROL_PLANE), argv)], timeout=DEADLINE)
    sys.stdout.write(said)
    sys.stdout.flush()


async def there(what: str, kubeconfig: Path) -> None:
    async with Client(kubeconfig) as client:
        if what == "fill":
            await fill(client)
        elif what == "await-all":
            await await_all(client)
        elif what == "report":
            await report(client)
        elif what == "forget-reports":
            await spread(lambda n: client.request("DELETE", report_path(n), timeout_seconds=30.0), REPORTS)
        else:
            await bare_writes(client)


async def fill(client: Client) -> None:
    await post(client, "/apis/purelb.io/v2/namespaces/purelb-system/servicegroups", json.loads(many.group()))
    began = time.monotonic()
    await spread(lambda n: post(client, "/api/v1/namespaces/test/services", service(n)))
    await spread(lambda n: post(client, "/apis/discovery.k8s.io/v1/namespaces/test/endpointslices", endpoints(n)))
    say(f"API server: {2 * COUNT} objects made in {time.monotonic() - began:.1f} s")


async def await_all(client: Client) -> None:
    """The last one first: asking for all of them all the time would be the load that is measured."""
    path = f"/api/v1/namespaces/test/services/{service(COUNT - 1)['metadata']['name']}"
    while not has_address(json.loads(await client.request("GET", path, timeout_seconds=30.0))):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    while True:
        data = await client.request("GET", "/api/v1/namespaces/test/services", timeout_seconds=30.0)
        mine = [one for one in json.loads(data)["items"] if one["metadata"]["name"].startswith("bench-")]
        given = [one["status"]["loadBalancer"]["ingress"][0]["ip"] for one in mine if has_address(one)]
        if len(given) == COUNT:
            if len(set(given)) != COUNT:
                raise AssertionError("an address was given twice")
            return
        await asyncio.sleep(0.2)


async def bare_writes(client: Client) -> None:
    """The same kind of write, of the same size, by as many writers, of a status that doesn't depend on anything."""

    async def write(number: int) -> None:
        name = service(number)["metadata"]["name"]
        conditions = [
            {
                "type": "bench.announcer.io/Bare",
                "status": "True",
                "reason": "Bench",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ]
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "status": {"conditions": conditions}}
        path = f"/api/v1/namespaces/test/services/{name}/status"
        query = {"fieldManager": "bench", "force": "true"}
        await client.request("PATCH", path, query=query, body=body, content_type=APPLY, timeout_seconds=30.0)

    began = time.monotonic()
    await spread(write)
    taken = time.monotonic() - began
    say(f"bare client: the same number of such writes in {taken:.1f} s, {COUNT / taken:.0f} a second")


async def spread(one: Callable[[int], Any], count: int = COUNT) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(work())


async def post(client: Client, path: str, body: object) -> None:
    await client.request("POST", path, body=body, timeout_seconds=30.0)


async def report(client: Client) -> None:
    """Made and then told its status, as the writer of our store does it."""

    async def write(number: int) -> None:
        head = {"apiVersion": "announcer.io/v1alpha1", "kind": "NodeAnnouncement"}
        body = {**head, "metadata": {"name": report_path(number).rpartition("/")[2]}}
        query = {"fieldManager": "announcer-agent", "force": "true"}
        path = report_path(number)
        for where, wanted in ((path, body), (f"{path}/status", {**body, "status": node_report(number)})):
            await client.request("PATCH", where, query=query, body=wanted, content_type=APPLY, timeout_seconds=30.0)

    await spread(write, REPORTS)


def report_path(number: int) -> str:
    return f"/apis/announcer.io/v1alpha1/nodeannouncements/bench-node-{number:03}"


def node_report(number: int) -> Mapping[str, object]:
    """What our agent says of a node with two links that advertises ADDRESSES addresses of as many Services."""
    own = IPv4Address("10.200.0.0") + number + 1
    network = IPv4Network("10.200.0.0/16")
    links = [
        LinkReport(
            ifname=IfName(f"eth{n}"),
            lladdr=f"02:00:00:00:{n:02x}:{number:02x}",
            subnets=(network,),
            on_link=(network,),
            addresses=(own,),
        )
        for n in range(2)
    ]
    found = [IPv4Address("10.201.0.0") + number * ADDRESSES + n for n in range(ADDRESSES)]
    placements = tuple(
        Placement(
            service=ServiceKey(f"test/report-{one}"),
            address=one,
            mode=Mode.VIRTUAL,
            ifname=VIRTUAL_IFNAME,
            prefix=IPv4Network(one),
        )
        for one in found
    )
    return node_status(links, Desired(placements=placements), Ownership(), UNKNOWN)


def has_address(one: Any) -> bool:
    return bool(one["status"]["loadBalancer"].get("ingress"))


def service(number: int) -> dict[str, Any]:
    name = f"bench-{number:05}"
    metadata = {"name": name, "namespace": "test", "annotations": {"purelb.io/service-group": many.POOL}}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}], "allocateLoadBalancerNodePorts": False}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {**spec, "selector": {"app": name}}}


def endpoints(number: int) -> dict[str, Any]:
    name = f"bench-{number:05}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "test", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [str(node.address)], "nodeName": node.name, "conditions": {"ready": True}} for node in NODES
        ],
        "ports": [{"port": 80, "protocol": "TCP"}],
    }


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(there(sys.argv[1], Path(sys.argv[2]))) if len(sys.argv) > 1 else main())
