"""`make chaos SEED= MINUTES=`: in a lab things break and change by a seed; does the router have what is desired?

    python -m tests.e2e.chaos [--seed 1] [--minutes 10]

A round: some faults and some edits of manifests, at random moments and over each other; then every fault ends. After
that every node must say, for three seconds on end, that what it should advertise is proven; and at that moment the
router's RIB must be what follows from the manifests, session by session: no route less, none more, none that drains.
What follows from them is said here anew, with no code of the product. Needs root.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import processes, routers
from lab.command import LabError, run
from lab.routers import frr
from lab.topology import MANIFEST_SETS, NODES, SUBNET_3, SUBNET_3_V6, TOR, TOR_V6, Lab, LabNode
from tests.e2e.laboratory import laboratory, put, service

PROVEN_SECONDS, DEADLINE, TICK = 3.0, 120.0, 0.1
POOLS = {"chaos": ("10.120.0.0/24", 24), "chaos-v6": ("fd00:120::/120", 8)}
"""Subnet, and how many Services there may be; each asks for its own address."""
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers: ''"
Table = Mapping[str, frozenset[str]]
"""Prefixes by the address of the node's end of a session."""


class Violation(Exception):  # noqa: N818 - what this looks for, more than an error
    """Something isn't as it must be; the text says what."""


@dataclass(slots=True)
class World:
    """What the manifests say now: the endpoints of each Service, and which nodes are excluded.

    `services` maps a Service to the nodes with its endpoints and whether its policy is Local.
    """

    services: dict[str, tuple[frozenset[str], bool]] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    hold_time: int = 9

    def expected(self) -> Table:
        found: dict[str, set[str]] = {str(a): set() for node in NODES for a in (node.address, node.address_v6)}
        for node in (n for n in NODES if n.name not in self.excluded):
            found[str(node.address)].add(str(SUBNET_3))
            found[str(node.address_v6)].add(str(SUBNET_3_V6))
            for name, (nodes, is_local) in self.services.items():
                if nodes and (node.name in nodes or not is_local):
                    end = node.address_v6 if "v6" in name else node.address
                    found[str(end)].add(f"{address_of(name)}/{128 if 'v6' in name else 32}")
        return {peer: frozenset(prefixes) for peer, prefixes in found.items()}


def address_of(name: str) -> str:
    number = int(name.rpartition("-")[2])
    return f"fd00:120::{number:x}" if "v6" in name else f"10.120.0.{number}"


@dataclass(slots=True)
class Chaos:
    lab: Lab
    seed: int
    dice: random.Random = field(init=False)
    world: World = field(default_factory=World)
    told: list[str] = field(default_factory=list)
    checks: int = 0
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def run(self, seconds: float) -> None:
        """Rounds until the time is over; raises Violation."""
        put(self.lab, "chaos-pools.yaml", pools())
        self.settle()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.round()

    def round(self) -> None:
        with ExitStack() as faults:
            for _ in range(self.dice.randint(1, 4)):
                act = self.dice.choice(ACTS)
                if act in FAULTS:
                    faults.callback(*self._fault(act))
                else:
                    act(self)
                self.pause(self.dice.choice((0.0, 0.05, 0.3, 1.0, 2.0)))
            self.pause(self.dice.choice((0.0, 0.5, 2.0, 11.0, 11.0)))
        self.say("every fault has ended")
        self.settle()

    def _fault(self, act: "Act") -> tuple[Callable[[], None]]:
        undo = act(self)
        return (undo or (lambda: None),)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def say(self, text: str) -> None:
        self.told.append(f"{time.monotonic() - self._began:7.2f} {text}")

    # -- looking ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until every node has said for a while that all is proven, and compare."""
        wanted, since, deadline = self.world.expected(), None, time.monotonic() + DEADLINE
        while since is None or time.monotonic() - since < PROVEN_SECONDS:
            missing = list(self.unproven(wanted))
            since = (since or time.monotonic()) if not missing else None
            if time.monotonic() > deadline:
                raise Violation(f"not proven {DEADLINE:.0f} s after the last fault: {'; '.join(missing)}")
            time.sleep(TICK)
        found = self.found()
        self.checks += 1
        wrong = [
            f"{peer} lacks {sorted(wanted[peer] - found[peer])}, has {sorted(found[peer] - wanted[peer])}"
            for peer in wanted
            if found[peer] != wanted[peer]
        ]
        self.say(f"check {self.checks}: {sum(map(len, wanted.values()))} routes")
        if wrong:
            raise Violation(f"proven, but the router has something else: {'; '.join(wrong)}")

    def found(self) -> Table:
        """A path that drains counts as another prefix."""
        table: dict[str, set[str]] = {str(a): set() for node in NODES for a in (node.address, node.address_v6)}
        for prefix, paths in routers.of(self.lab).rib(self.lab).items():
            for peer, local_pref in paths.items():
                table[peer].add(prefix if local_pref else f"{prefix} draining")
        return {peer: frozenset(prefixes) for peer, prefixes in table.items()}

    def unproven(self, wanted: Table) -> Iterator[str]:
        """What the nodes' own reports don't say yet."""
        for node in NODES:
            status = self.report(node)
            pending = [s["peerAddress"] for s in status.get("sessions", ()) if not is_quiet(s)]
            ends = {str(TOR): wanted[str(node.address)], str(TOR_V6): wanted[str(node.address_v6)]}
            for peer, prefixes in ends.items():
                said = frozenset(proven(status, peer))
                if said != prefixes:
                    yield f"{node.name} to {peer} lacks {sorted(prefixes - said)}, has {sorted(said - prefixes)}"
            if pending or status.get("errors") or not status.get("isSidecarKnown"):
                yield f"{node.name}: pending {pending}, {status.get('errors')}"
            names = [f"{kind}-{node.name}" for kind in ("agent", "exabgp")]
            young = [name for name in names if processes.age_seconds(self.lab, name) < PROVEN_SECONDS]
            if young:
                yield f"{young} have just started"

    def report(self, node: LabNode) -> Any:
        file = self.lab.manifests / ".status" / "nodeannouncement" / "_cluster" / f"{node.name}.json"
        return json.loads(file.read_text("utf-8"))["status"]

    # -- edits -----------------------------------------------------------------------------------------------------

    def put_service(self, name: str, nodes: frozenset[str], *, is_local: bool) -> None:
        v6 = "v6" in name
        texts = [json.loads(text) for text in service(name, "chaos-v6" if v6 else "chaos").split("---\n")]
        texts[0]["metadata"]["annotations"]["purelb.io/addresses"] = address_of(name)
        texts[0]["spec"] |= {
            "externalTrafficPolicy": "Local" if is_local else "Cluster",
            "ipFamilies": ["IPv6" if v6 else "IPv4"],
            "ipFamilyPolicy": "SingleStack",
        }
        texts[1]["addressType"] = "IPv6" if v6 else "IPv4"
        address = "fd00:aaaa::1" if v6 else "10.0.0.1"
        texts[1]["endpoints"] = [{"nodeName": node, "addresses": [address]} for node in sorted(nodes)]
        put(self.lab, f"{name}.yaml", "---\n".join(json.dumps(one) + "\n" for one in texts))
        self.world.services[name] = (nodes, is_local)

    def put_nodes(self, excluded: frozenset[str]) -> None:
        text = (MANIFEST_SETS / "purelb" / "nodes.yaml").read_text("utf-8")
        for node in excluded:
            hostname = f"kubernetes.io/hostname: {node}"
            text = text.replace(hostname, f"{hostname}\n    {EXCLUDE}")
        put(self.lab, "nodes.yaml", text)
        self.world.excluded = excluded

    # -- faults ----------------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        """Of a process of the lab, or of the bridge that an ExaBGP has."""
        if not name.startswith("bridge-"):
            return processes.find(self.lab, name)
        parent = processes.find(self.lab, name.replace("bridge-", "exabgp-"))
        with suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()[0])
        return None

    def send(self, name: str, number: signal.Signals) -> int | None:
        pid = self.pid(name)
        self.say(f"{number.name} {name}{'' if pid else ': does not run'}")
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid


Act = Callable[[Chaos], Callable[[], None] | None]


def pools() -> str:
    groups = [
        {
            "apiVersion": "purelb.io/v2",
            "kind": "ServiceGroup",
            "metadata": {"name": name, "namespace": "purelb-system"},
            "spec": {"remote": {f"v{6 if ':' in subnet else 4}pools": [_pool(subnet)]}},
        }
        for name, (subnet, _) in POOLS.items()
    ]
    return "---\n".join(json.dumps(one) + "\n" for one in groups)


def _pool(subnet: str) -> dict[str, str]:
    return {"subnet": subnet, "pool": subnet, "aggregation": "/128" if ":" in subnet else "/32"}


def proven(status: Any, peer: str) -> Iterator[str]:
    """Prefixes that the report says this peer has. The same prefix may serve several Services."""
    for row in status.get("addresses", ()):
        if row["mode"] == "virtual" and row["reason"] == "Advertised" and peer in row["peers"]:
            for text in row["services"]:
                address = text.split()[1]
                yield row["prefix"] if "/" in row["prefix"] else f"{address}/{128 if ':' in address else 32}"


def is_quiet(session: Any) -> bool:
    routes = session.get("routes", {})
    return session["established"] and not routes.get("pending") and not routes.get("refused")


# -- what may happen -----------------------------------------------------------------------------------------------


def edit_services(chaos: Chaos) -> None:
    """Several at once: new ones, other endpoints, another policy, gone ones."""
    dice = chaos.dice
    for _ in range(dice.choice((1, 1, 3, 12))):
        pool = dice.choice(sorted(POOLS))
        name = f"{pool}-{dice.randint(1, POOLS[pool][1])}"
        if name in chaos.world.services and dice.random() < 0.4:
            chaos.say(f"remove {name}")
            (chaos.lab.manifests / f"{name}.yaml").unlink()
            del chaos.world.services[name]
            continue
        nodes = frozenset(node.name for node in NODES if dice.random() < 0.7)
        is_local = dice.random() < 0.5
        chaos.say(f"put {name}, {'Local' if is_local else 'Cluster'}, on {sorted(nodes)}")
        chaos.put_service(name, nodes, is_local=is_local)


def flicker(chaos: Chaos) -> None:
    """The known trap: a route that comes, drains, and comes again while nothing arrives."""
    name = f"chaos-{chaos.dice.randint(1, POOLS['chaos'][1])}"
    every = frozenset(node.name for node in NODES)
    for is_there in (True, False, True):
        chaos.say(f"flicker {name} {'on' if is_there else 'off'}")
        chaos.put_service(name, every if is_there else frozenset(), is_local=False)
        chaos.pause(chaos.dice.choice((0.02, 0.3, 1.2)))


def exclude(chaos: Chaos) -> None:
    """At most two of three nodes."""
    found = frozenset(chaos.dice.sample([node.name for node in NODES], chaos.dice.randint(0, 2)))
    chaos.say(f"exclude {sorted(found)}")
    chaos.put_nodes(found)


def edit_peers(chaos: Chaos) -> None:
    """The agents write another configuration, ExaBGP reads it again and makes one of the sessions anew."""
    chaos.world.hold_time = 17 - chaos.world.hold_time
    chaos.say(f"hold time {chaos.world.hold_time} of the IPv4 peer")
    text = (MANIFEST_SETS / "purelb" / "bgp.yaml").read_text("utf-8")
    put(chaos.lab, "bgp.yaml", text.replace("holdTime: 9s", f"holdTime: {chaos.world.hold_time}s", 1))


def clear(chaos: Chaos) -> None:
    node = chaos.dice.choice(NODES)
    command = chaos.dice.choice(("clear bgp *", f"clear bgp {node.address}", f"clear bgp ipv6 {node.address_v6}"))
    chaos.say(command)
    with suppress(LabError):  # a router that doesn't run or is stopped
        run(frr.vtysh(chaos.lab, command), timeout=1.0)


def reload(chaos: Chaos) -> None:
    chaos.send(f"exabgp-{chaos.dice.choice(NODES).name}", signal.SIGUSR1)


def kill(chaos: Chaos) -> None:
    kind = chaos.dice.choice(("exabgp", "bridge", "agent", "bgpd", "allocator"))
    name = kind if kind in {"bgpd", "allocator"} else f"{kind}-{chaos.dice.choice(NODES).name}"
    chaos.send(name, chaos.dice.choice((signal.SIGKILL, signal.SIGTERM)) if kind == "agent" else signal.SIGKILL)


def freeze(chaos: Chaos) -> Callable[[], None] | None:
    kind = chaos.dice.choice(("exabgp", "bridge", "agent", "bgpd"))
    name = kind if kind == "bgpd" else f"{kind}-{chaos.dice.choice(NODES).name}"
    pid = chaos.send(name, signal.SIGSTOP)

    def thaw() -> None:
        chaos.say(f"SIGCONT {name}")
        with suppress(ProcessLookupError):
            os.kill(pid or 0, signal.SIGCONT)

    return thaw if pid else None


def black_hole(chaos: Chaos) -> Callable[[], None]:
    """The router loses every packet to a node; no link goes down. What is decided meanwhile goes into the hole."""
    node = chaos.dice.choice(NODES)
    ip = ["ip", "-n", chaos.lab.namespace("tor"), "route"]
    both = [str(node.address), str(node.address_v6)]
    chaos.say(f"black hole before {node.name}")
    for address in both:
        run([*ip, "replace", "blackhole", address])
    for _ in range(chaos.dice.randint(0, 3)):
        chaos.pause(chaos.dice.choice((0.05, 0.5, 2.5)))
        chaos.dice.choice((edit_services, flicker, exclude))(chaos)

    def heal() -> None:
        chaos.say(f"no black hole before {node.name}")
        for address in both:
            with suppress(LabError):  # two holes before one node are one
                run([*ip, "delete", "blackhole", address])

    return heal


FAULTS: tuple[Act, ...] = (freeze, black_hole)
ACTS: tuple[Act, ...] = (
    *(edit_services, edit_services, flicker, exclude, edit_peers),
    *(clear, reload, kill, kill, freeze, black_hole, black_hole),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    with laboratory("purelb") as lab:
        chaos = Chaos(lab, arguments.seed)
        try:
            chaos.run(arguments.minutes * 60)
        except Violation as violation:
            print("\n".join(chaos.told[-60:]))
            print(f"seed {arguments.seed}: {violation}")
            keep(lab, arguments.seed)
            return 1
    print(f"seed {arguments.seed}: the router had what was proven, {chaos.checks} times of {chaos.checks}")
    return 0


def keep(lab: Lab, seed: int) -> None:
    """Logs of what went wrong, before the lab goes."""
    folder = MANIFEST_SETS.parents[1] / "build" / f"chaos-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for log in (lab.run_dir / "log").glob("*.log"):
        (folder / log.name).write_text(log.read_text("utf-8")[-200_000:], "utf-8")
    for report in (lab.manifests / ".status" / "nodeannouncement").rglob("*.json"):
        (folder / report.name).write_text(report.read_text("utf-8"), "utf-8")
    print(f"logs are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
