"""One chaos: rounds of acts over each other, with looks in between; then every fault ends, and all must be right."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab import processes
from lab.command import LabError, run
from lab.routers import frr
from lab.topology import MANIFEST_SETS, NODES, TOR_ASN, Lab
from tests.e2e.chaos import second
from tests.e2e.chaos.judge import Judge, Violation, difference, proven, report
from tests.e2e.chaos.world import Table, World, nodes_text, peers_text, pools, secret_text, service_text
from tests.e2e.laboratory import put

PROVEN_SECONDS, DEADLINE, LOOK_SECONDS = 3.0, 150.0, 0.25
Undo = Callable[[], None]
Act = Callable[["Chaos"], Undo | None]
"""What it returns ends it."""


@dataclass(slots=True)
class Chaos:
    lab: Lab
    seed: int
    acts: tuple[Act, ...]
    dice: random.Random = field(init=False)
    judge: Judge = field(init=False)
    world: World = field(default_factory=World)
    told: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    is_router_told: bool = True
    """Of the password that the Secret says."""
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.judge = Judge(self.lab, self.say)

    def run(self, seconds: float) -> None:
        """Rounds until the time is over; raises Violation."""
        with second.second_router(self.lab):
            put(self.lab, "chaos-pools.yaml", pools())
            self.put_peers()
            self.settle()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self.round()

    def round(self) -> None:
        with ExitStack() as faults:
            for _ in range(self.dice.randint(1, 5)):
                act = self.dice.choice(self.acts)
                self.done[act.__name__] += 1
                if undo := act(self):
                    faults.callback(undo)
                self.pause(self.dice.choice((0.0, 0.05, 0.3, 1.0, 2.0)))
            self.pause(self.dice.choice((0.0, 0.5, 2.0, 11.0, 11.0)))
        self.say("every fault has ended")
        self.settle()

    def pause(self, seconds: float) -> None:
        """Look while waiting."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if left > LOOK_SECONDS:
                self.judge.look()
            time.sleep(max(0.0, min(LOOK_SECONDS, end - time.monotonic())))

    def say(self, text: str) -> None:
        self.told.append(f"{time.monotonic() - self._began:7.2f} {text}")

    # -- the end of a round ----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until every node has said for a while that all is proven, and compare."""
        wanted, since, deadline = self.world.expected(), None, time.monotonic() + DEADLINE
        while since is None or time.monotonic() - since < PROVEN_SECONDS:
            missing = list(self._unproven(wanted))
            since = (since or time.monotonic()) if not missing else None
            if time.monotonic() > deadline:
                raise Violation(f"not proven {DEADLINE:.0f} s after the last fault: {'; '.join(missing)}")
            self.judge.look()
            time.sleep(LOOK_SECONDS)
        found = self.judge.table()
        self.checks += 1
        wrong = [difference(end, wanted[end], found[end]) for end in wanted if found[end] != wanted[end]]
        self.say(f"check {self.checks}: {sum(map(len, wanted.values()))} routes")
        if wrong:
            raise Violation(f"proven, but a router has something else: {'; '.join(wrong)}")

    def _unproven(self, wanted: Table) -> Iterator[str]:
        """What the nodes' own reports don't say yet."""
        if not self.is_router_told:
            self.tell_router()
            yield "the router has another password than the Secret"
        there = {peer.address for peer in self.world.peers.values() if peer.is_there}
        for node in NODES:
            _, status = report(self.lab, node)
            sessions = {session["peerAddress"]: session for session in status.get("sessions", ())}
            if there != sessions.keys():
                yield f"{node.name} has sessions with {sorted(sessions)}"
            for peer in (peer for peer in self.world.peers.values() if peer.is_there):
                end, said = peer.end(node), frozenset(proven(status, peer.address))
                if said != wanted[end]:
                    yield f"report: {difference(end, wanted[end], said)}"
            pending = [address for address, session in sessions.items() if not is_quiet(session)]
            if pending or status.get("errors") or not status.get("isSidecarKnown"):
                yield f"{node.name}: pending {pending}, {status.get('errors')}"
            names = [f"{kind}-{node.name}" for kind in ("agent", "exabgp")]
            young = [name for name in names if processes.age_seconds(self.lab, name) < PROVEN_SECONDS]
            if young:
                yield f"{young} have just started"

    # -- edits -----------------------------------------------------------------------------------------------------

    def put_service(self, name: str, nodes: frozenset[str], *, is_local: bool) -> None:
        put(self.lab, f"{name}.yaml", service_text(name, nodes, is_local=is_local))
        self.world.services[name] = (nodes, is_local)

    def remove_service(self, name: str) -> None:
        (self.lab.manifests / f"{name}.yaml").unlink()
        del self.world.services[name]

    def put_nodes(self, excluded: frozenset[str]) -> None:
        text = (MANIFEST_SETS / "purelb" / "nodes.yaml").read_text("utf-8")
        put(self.lab, "nodes.yaml", nodes_text(text, excluded))
        self.world.excluded = excluded

    def put_peers(self) -> None:
        put(self.lab, "bgp.yaml", peers_text(self.world.peers.values()))

    def put_password(self, password: str) -> None:
        """What the Secret says, and the peer `tor`."""
        put(self.lab, "secret.yaml", secret_text(password or "none"))
        self.world.change("tor", password=password)
        self.put_peers()

    def tell_router(self) -> None:
        """The password of the nodes, in its file and, as far as it runs, in force."""
        password, conf = self.world.peers["tor"].password, frr.configurations()["bgpd.conf"]
        remote = " neighbor nodes remote-as"
        more = f" neighbor nodes password {password}\n" if password else ""
        line = next(line for line in conf.splitlines() if line.startswith(remote))
        (self.lab.tor_dir / "bgpd.conf").write_text(conf.replace(f"{line}\n", f"{line}\n{more}"), "utf-8")
        command = f"neighbor nodes password {password}" if password else "no neighbor nodes password"
        words = ["configure terminal", f"router bgp {TOR_ASN}", command]
        argv = frr.vtysh(self.lab, words[0]) + [word for more in words[1:] for word in ("-c", more)]
        self.is_router_told = False
        with suppress(LabError):  # it doesn't run or is stopped: again, when all has ended
            run(argv, timeout=2.0)
            self.is_router_told = True

    # -- faults ----------------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        """Of a process of the lab, of the second router, or of the bridge that an ExaBGP has."""
        if name == "bird":
            return second.pid(self.lab)
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


def is_quiet(session: dict[str, object]) -> bool:
    routes = session.get("routes")
    is_still = isinstance(routes, dict) and not routes.get("pending") and not routes.get("refused")
    return bool(session["established"]) and is_still
