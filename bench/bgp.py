"""`make bench-bgp`: what BGP costs and what a client sees of it, with FRR and with BIRD as the router. Needs root.

    python -m bench.bgp [--runs 30] [CASE...]

| case | what |
|---|---|
| drain | one of three nodes is excluded while a client asks every millisecond, and comes back |
| hold | the node of a client that asks every millisecond falls silent: how long it waits, with a hold time of 3 s |
| bfd | the same with BFD of 3 x 100 ms (`bench.bfd`) |
| latency | a Service's file is written: until its route over three nodes is in the router's kernel |
| load | 10,000 routes until they are in the router's kernel, and again after a clear; BIRD and GoBGP beside |
| idle | processor time of agent and ExaBGP with four peers and nothing to do |

Then every bound beside its figure; it ends with 1 where one is not held. Over half an hour with all cases.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from bench import bfd, figures, loading
from bench.bounds import Bounds
from bench.scene import Scene, asking
from lab import processes, routers
from lab.checks import VIP_3, VIP_3_V6, next_hops
from lab.command import LabError, inside, run, run_json
from lab.topology import NODE_ASN, NODES, SUBNET_3, TOR_ASN, Lab, LabNode
from tests.e2e import many
from tests.e2e.laboratory import hops, laboratory, put

ROUTERS = ("frr", "bird")
HOLD_RUNS, IDLE_SECONDS, SETTLE_SECONDS = 10, 60.0, 5.0
HOLD_MOST, LATENCY_MOST_MS, IDLE_MOST = 3.2, {"frr": 150.0, "bird": 60.0}, 1.0
COLD_MOST, CLEARED_MOST = 8.0, 3.0
TICKS = os.sysconf("SC_CLK_TCK")
MORE_TORS = {1790: "10.111.111.252", 1791: "10.111.111.251"}
"""Addresses by port."""
CONF = "log stderr all;\nrouter id {address};\nprotocol device {{}}\n"
PEER = """\
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata:
  name: tor-{port}
  namespace: metallb-system
spec:
  myASN: {mine}
  peerASN: {its}
  peerAddress: {address}
  peerPort: {port}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all where none is named")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--routers", nargs="*", default=ROUTERS, choices=ROUTERS)
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"{', '.join(sorted(unknown))}: no such case; there are {', '.join(CASES)}")
    bounds = Bounds()
    chosen = arguments.cases or CASES
    say(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")
    for router in arguments.routers:
        cases = [case for name, case in IN_LAB.items() if name in chosen and not (case is idle and router != "bird")]
        if cases:
            with laboratory("purelb", router=router) as lab:
                for case in cases:
                    case(lab, arguments.runs, bounds)
    if "bfd" in chosen:
        for router in arguments.routers:
            bfd.in_lab(router, arguments.runs, bounds)
    if "load" in chosen:
        load(bounds)
    say("\n" + "\n".join(map(str, bounds.found)))
    return bounds.exit_code()


# -- in the lab ----------------------------------------------------------------------------------------------------


def drain(lab: Lab, runs: int, bounds: Bounds) -> None:
    """Of the node that the client's own flow meets; both families, as either may meet another node."""
    scene, clean, lost = Scene(lab), 0, []
    for number in range(runs):
        address = (VIP_3, VIP_3_V6)[number % 2]
        with asking(lab, 0.001, [str(address)]) as asked:
            node = met(lab, address)
            scene.put_nodes(excluded=node.short)
            scene.until(lambda: hops(lab) == (2, 2), "two next hops")  # by GRACEFUL_SHUTDOWN
            if met(lab, address) == node:
                raise LabError(f"the client still meets {node.name}")
            scene.until(lambda node=node: not has(lab, node), "the withdrawal")  # type: ignore[misc]
            scene.pause(1.0)
            scene.put_nodes()
            scene.until(lambda: hops(lab) == (3, 3), "three next hops")
            scene.pause(0.5)
        lost.append(asked.lost())
        clean += not lost[-1]
    say(f"{lab.router}: drain of one of three nodes, packets lost at 1 kHz: {lost}")
    bounds.least(f"{lab.router}: drains without loss", clean, runs, "runs")


def met(lab: Lab, address: IPv4Address | IPv6Address) -> LabNode:
    """The node to which the router sends the echo requests of the client: a flow has one."""
    source, protocol = ("192.0.2.2", "icmp") if address.version == 4 else ("fd00:2::2", "ipv6-icmp")
    flow = ["from", source, "iif", "eth1", "ipproto", protocol]
    (found,) = run_json(["ip", "-j", "-n", lab.namespace("tor"), "route", "get", str(address), *flow])
    return next(node for node in NODES if found["gateway"] in {str(node.address), str(node.address_v6)})


def has(lab: Lab, node: LabNode) -> bool:
    """Whether the router has any route of the node."""
    ours = {str(node.address), str(node.address_v6)}
    return any(ours & paths.keys() for paths in routers.of(lab).rib(lab).values())


def hold(lab: Lab, _runs: int, bounds: Bounds) -> None:
    """Long enough after the last keepalive, by chance: each run begins at another moment of the second."""
    manifest = lab.manifests / "bgp.yaml"
    text, scene, seconds = manifest.read_text("utf-8"), Scene(lab), []
    put(lab, manifest.name, text.replace("holdTime: 9s", "holdTime: 3s"))
    scene.pause(3.0)
    scene.until(lambda: hops(lab) == (3, 3), "sessions with the other hold time")
    for number in range(HOLD_RUNS):
        scene.pause(2.0 + number / HOLD_RUNS)
        node = met(lab, VIP_3).short
        with asking(lab, 0.001, [str(VIP_3)]) as asked:
            scene.cut(node, "eth0", carrier=False)
            figures.wait(lambda: len(next_hops(lab, SUBNET_3)) == len(NODES) - 1, pause=0.005)
            scene.pause(1.0)
            back = time.monotonic()
            scene.mend(node, "eth0")
            scene.until(lambda: hops(lab) == (3, 3), "three next hops again", 40)
        seconds.append(asked.outage(until=back))
    put(lab, manifest.name, text)
    scene.pause(3.0)
    scene.until(lambda: hops(lab) == (3, 3), "sessions with their own hold time")
    figures.show(f"{lab.router}: the client's node silent → the next answer, hold time 3 s", seconds)
    bounds.most(f"{lab.router}: outage of a silent node, hold time 3 s", max(seconds), HOLD_MOST, "s")


def latency(lab: Lab, runs: int, bounds: Bounds) -> None:
    put(lab, "many-pool.yaml", many.group())
    try:
        seconds = [figures.one_service(lab, number) for number in range(runs)]
    finally:
        figures.clear(lab)
    figures.show(f"{lab.router}: Service file written → route in the FIB over 3 nodes", seconds)
    middle = statistics.median(seconds) * 1000
    bounds.most(f"{lab.router}: file to FIB, median", middle, LATENCY_MOST_MS[lab.router], "ms")


def idle(lab: Lab, _runs: int, bounds: Bounds) -> None:
    with four_peers(lab):
        pids = [pid for kind in ("agent", "exabgp") for pid in family(processes.find(lab, f"{kind}-ann-n1"))]
        before = [used(pid) for pid in pids]
        time.sleep(IDLE_SECONDS)
        shares = [100 * (used(pid) - old) / IDLE_SECONDS for pid, old in zip(pids, before, strict=True)]
    say(f"idle with 4 peers, percent of a core: agent {shares[0]:.2f}, ExaBGP and bridge {sum(shares[1:]):.2f}")
    bounds.most("agent and ExaBGP, idle with 4 peers", sum(shares), IDLE_MOST, "percent of a core")


@contextmanager
def four_peers(lab: Lab) -> Iterator[None]:
    """BIRD 2.0 has one session for each peer's address: so one more process for each, on a port of its own."""
    tor = lab.namespace("tor")
    with ExitStack() as stack:
        for port, address in MORE_TORS.items():
            run(["ip", "-n", tor, "address", "replace", f"{address}/24", "dev", "eth0"])
            conf = lab.tor_dir / f"more-{port}.conf"
            conf.write_text(CONF.format(address=address, port=port) + "".join(_sessions(address, port)), "utf-8")
            files = ["-c", str(conf), "-s", str(conf.with_suffix(".ctl")), "-P", str(conf.with_suffix(".pid"))]
            process = subprocess.Popen(inside(tor, ["bird", "-f", *files]))
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
        peers = [PEER.format(port=p, address=a, mine=NODE_ASN, its=TOR_ASN) for p, a in MORE_TORS.items()]
        stack.callback(put(lab, "more-peers.yaml", "---\n".join(peers)).unlink)
        for port in MORE_TORS:
            ask = ["birdc", "-s", str(lab.tor_dir / f"more-{port}.ctl"), "show", "protocols"]
            figures.wait(lambda ask=ask: run(ask).count("Established") == len(NODES), pause=0.2)  # type: ignore[misc]
        time.sleep(SETTLE_SECONDS)
        yield


def _sessions(address: str, port: int) -> Iterator[str]:
    for node in NODES:
        ends = f"local {address} port {port} as {TOR_ASN}; neighbor {node.address} as {NODE_ASN};"
        yield f"protocol bgp {node.short} {{ {ends} passive; ipv4 {{ import all; export none; }}; }}\n"


def family(pid: int | None) -> list[int]:
    """A process and its children."""
    if pid is None:
        raise LabError("a process of the lab does not run")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [pid, *(int(child) for child in children)]


def used(pid: int) -> float:
    """Seconds of processor time, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:13]) / TICKS


# -- without the lab -----------------------------------------------------------------------------------------------


def load(bounds: Bounds) -> None:
    cold, cleared = loading.exabgp()
    others = {name: speaker() for name, speaker in loading.SPEAKERS.items()}
    beside = ", ".join(
        f"{name} {seconds:.2f} s (we take {cold / seconds:.1f} times that)" for name, seconds in others.items()
    )
    say(f"{loading.COUNT} routes into FRR's kernel: an agent's session and ExaBGP {cold:.2f} s, {beside}")
    bounds.most(f"{loading.COUNT} routes, cold", cold, COLD_MOST, "s")
    bounds.most(f"{loading.COUNT} routes back after a clear", cleared, CLEARED_MOST, "s")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


IN_LAB: Mapping[str, Callable[[Lab, int, Bounds], None]] = {
    "drain": drain,
    "hold": hold,
    "latency": latency,
    "idle": idle,
}
CASES = (*IN_LAB, "bfd", "load")

if __name__ == "__main__":
    sys.exit(main())
