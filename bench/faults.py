"""The cases of `bench.failover`: one fault or one planned change each, what it may cost, and what it did cost."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.holding import recorded, together
from bench.scene import MANY, Scene, asking
from lab import processes
from lab.checks import VIP_1, VIP_2
from lab.topology import NODES
from tests.e2e.laboratory import addresses

SILENT_MOST, SILENT_MEDIAN, MANY_MOST, SETTLED_MOST, GONE_MOST = 0.45, 0.32, 1.5, 1.0, 15.0
AWAY_SECONDS, STALL_SECONDS, PARTED_SECONDS, HOGGED_SECONDS, AFTER_SECONDS = 60.0, 0.3, 10.0, 120.0, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """`value` in seconds, or in packets where nothing may be lost."""

    value: float
    ok: bool
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    title: str
    bound: str
    run: Callable[[Scene], Seen]
    needs_api: bool = False
    forgets: bool = False
    """An agent is started anew: while the API server is away it doesn't know what there is to take over."""
    is_count: bool = False
    most: int = 30
    median_most: float = float("inf")

    def show(self, value: float) -> str:
        return f"{value:.0f} lost" if self.is_count else f"{value * 1000:.0f} ms"

    def holds(self, values: Sequence[float]) -> bool:
        return median(values) <= self.median_most


def silent(scene: Scene, address: str, ifname: str, *, carrier: bool) -> Seen:
    """The port of the holder is taken off its switch, or is put down at the switch's end."""
    holder = scene.holder(address, ifname)
    with asking(scene.lab, 0.001, [address]) as asked:
        scene.cut(holder, ifname, carrier=carrier)
        scene.until(lambda: scene.is_held_by_another(address, ifname, holder), "another holder")
        scene.pause(AFTER_SECONDS)
        back = time.monotonic()
        scene.mend(holder, ifname)
        scene.settle()
    outage = asked.outage(until=back)
    return Seen(value=outage, ok=0 < outage <= SILENT_MOST, text=f"{holder} had {address}")


def thousand(scene: Scene) -> Seen:
    holder = scene.gather()
    with asking(scene.lab, 0.1, MANY) as asked:
        scene.cut(holder, "eth0", carrier=False)
        scene.until(lambda: scene.many_elsewhere(holder), "all of them on other nodes", 20)
        scene.pause(AFTER_SECONDS)
        back = time.monotonic()
        scene.mend(holder, "eth0")
        scene.settle()
    outage = asked.outage(until=back)
    return Seen(value=outage, ok=0 < outage <= MANY_MOST, text=f"{holder} had {len(MANY)}")


def nothing_lost(scene: Scene, change: Callable[[Scene], None], *, may_move: bool = False) -> Seen:
    """Over the change, no packet is lost; and no address moves where none may."""
    watched = {str(VIP_1): "eth0", str(VIP_2): "eth1", scene.v6: "eth0", scene.policy_local: "eth0"}
    with recorded(scene.lab, "eth0") as first, recorded(scene.lab, "eth1") as second:
        with asking(scene.lab, 0.001 * len(watched), list(watched)) as asked:
            change(scene)
            scene.pause(AFTER_SECONDS)
        records = {"eth0": first, "eth1": second}
        moves = [(a, h) for a, i in watched.items() for h in records[i].of(a) if h.begin > 0]
    lost = asked.lost()
    text = f"lost {asked.shown()}; moved {[(a, h.node) for a, h in moves]}"
    return Seen(value=lost, ok=lost == 0 and (may_move or not moves), text=text)


def restart(scene: Scene) -> None:
    holder = scene.holder(str(VIP_1), "eth0")
    scene.end_agent(holder, signal.SIGKILL)
    scene.agent_returns(holder)


def roll(scene: Scene) -> None:
    for node in NODES:
        scene.end_agent(node.short, signal.SIGTERM)
        scene.agent_returns(node.short)


def upgrade_slowly(scene: Scene) -> None:
    for node in NODES:
        processes.hold(scene.lab, f"agent-{node.name}")
        scene.end_agent(node.short, signal.SIGTERM)
    scene.pause(AWAY_SECONDS)
    for node in NODES:
        processes.release(scene.lab, f"agent-{node.name}")
    for node in NODES:
        scene.agent_returns(node.short)


def stall(scene: Scene) -> None:
    pids = [scene.agent(node.short) for node in NODES]
    scene.signal(pids, signal.SIGSTOP)
    scene.pause(STALL_SECONDS)
    scene.signal(pids, signal.SIGCONT)
    scene.pause(3 * AFTER_SECONDS)


def hog(scene: Scene) -> None:
    with scene.busy(8):
        scene.pause(HOGGED_SECONDS)


def gone(scene: Scene, number: signal.Signals) -> Seen:
    """Its agent ends or stops for good. The value is from then until another node holds; what returns moves nothing."""
    address = str(VIP_1)
    holder = scene.holder(address, "eth0")
    with recorded(scene.lab, "eth0") as record, asking(scene.lab, 0.001, [address]) as asked:
        begin = time.monotonic()
        processes.hold(scene.lab, f"agent-ann-{holder}")
        pid = scene.end_agent(holder, number)
        scene.until(lambda: scene.is_held_by_another(address, "eth0", holder), "another holder", 30)
        back = time.monotonic()
        scene.pause(AFTER_SECONDS)
        if number is signal.SIGSTOP:
            scene.signal([pid], signal.SIGCONT)
        processes.release(scene.lab, f"agent-ann-{holder}")
        scene.agent_returns(holder)
        scene.pause(3 * AFTER_SECONDS)
    held = record.of(address)
    first = min((h for h in held if h.begin > begin), key=lambda h: h.begin)  # on a busy machine it is told of late
    later = [h.node for h in held if h.begin > back and h is not first]
    moved, both, lost = first.begin - begin, together(held), asked.outage(since=back)
    ok = moved <= GONE_MOST and both == 0 and not later and lost == 0
    return Seen(value=moved, ok=ok, text=f"together {both:.3f} s, moved back {later}, lost on return {lost:.3f} s")


def parted(scene: Scene) -> Seen:
    """The holder alone against the rest for ten seconds. The value is from healing until one holder is left."""
    address = str(VIP_1)
    holder = scene.holder(address, "eth0")
    with recorded(scene.lab, "eth0") as record:
        scene.cut(holder, "eth0", carrier=False)
        scene.pause(PARTED_SECONDS)
        both_sides = scene.is_held_by_another(address, "eth0", holder) and address in addresses(
            scene.lab, holder, "eth0"
        )
        healed = time.monotonic()
        scene.mend(holder, "eth0")
        scene.settle()
        held = record.of(address)
    value = together(held, healed)
    return Seen(value=value, ok=both_sides and value <= SETTLED_MOST, text=f"two before: {both_sides}")


def planned(change: Callable[[Scene], None], restore: Callable[[Scene], None]) -> Callable[[Scene], Seen]:
    def perform(scene: Scene) -> Seen:
        seen = nothing_lost(scene, change, may_move=True)
        restore(scene)
        scene.settle()
        return seen

    return perform


def label(scene: Scene) -> None:
    holder = scene.holder(str(VIP_1), "eth0")
    scene.put_nodes(excluded=holder)
    for address, ifname in ((str(VIP_1), "eth0"), (str(VIP_2), "eth1"), (scene.v6, "eth0")):
        scene.until(lambda a=address, i=ifname: scene.moved_off(a, i, holder), "another holder")  # type: ignore[misc]


def move_endpoints(scene: Scene) -> None:
    """Policy Local, all endpoints on the holder; then all on another node."""
    holder = scene.holder(scene.policy_local, "eth0")
    others = [node.short for node in NODES if node.short != holder]
    scene.put_local(others[:1])
    scene.until(lambda: scene.moved_off(scene.policy_local, "eth0", holder), "another holder")


def make_local(scene: Scene) -> None:
    """From Cluster to Local, with no endpoint on the holder."""
    holder = scene.holder(scene.policy_local, "eth0")
    scene.put_local([node.short for node in NODES if node.short != holder], policy="Local")
    scene.until(lambda: scene.moved_off(scene.policy_local, "eth0", holder), "another holder")


def new_node(scene: Scene) -> Seen:
    """A Node object appears and an agent starts there; neither was there before."""
    holder = scene.holder(str(VIP_1), "eth0")
    node = next(n for n in NODES if n.short != holder)
    name = f"agent-{node.name}"
    scene.put_nodes(without=node.short)
    processes.hold(scene.lab, name)
    scene.end_agent(node.short, signal.SIGKILL)
    scene.settle(agents=[n.short for n in NODES if n is not node], only_on=[n.short for n in NODES if n is not node])

    def come(scene: Scene) -> None:
        scene.put_nodes()
        processes.release(scene.lab, name)
        scene.agent_returns(node.short)

    return nothing_lost(scene, come)


def unchanged(change: Callable[[Scene], None]) -> Callable[[Scene], Seen]:
    return lambda scene: nothing_lost(scene, change)


OUTAGE = "≤ 450 ms each, median ≤ 320 ms"
NOTHING = "0 lost, 0 moves"
_ALL = (
    Case(name="silent-v4", title="owner's node silent, IPv4", bound=OUTAGE, median_most=SILENT_MEDIAN,
         run=lambda s: silent(s, str(VIP_1), "eth0", carrier=False)),
    Case(name="silent-v6", title="owner's node silent, IPv6", bound=OUTAGE, median_most=SILENT_MEDIAN,
         run=lambda s: silent(s, s.v6, "eth0", carrier=False)),
    Case(name="silent-bare", title="owner's node silent, link without node addresses", bound=OUTAGE,
         median_most=SILENT_MEDIAN, run=lambda s: silent(s, str(VIP_2), "eth1", carrier=False)),
    Case(name="carrier", title="carrier lost on the owner's link", bound="≤ 450 ms",
         run=lambda s: silent(s, str(VIP_1), "eth0", carrier=True)),
    Case(name="thousand", title="owner's node silent with 1,000 addresses", bound="≤ 1.5 s all", run=thousand),
    Case(name="restart", forgets=True, title="agent SIGKILL, restarted", bound=NOTHING, is_count=True,
         run=unchanged(restart)),
    Case(name="upgrade", forgets=True, title="all agents SIGTERM, restarted in 60 s", bound=NOTHING, is_count=True,
         most=10, run=unchanged(upgrade_slowly)),
    Case(name="gone", forgets=True, title="agent SIGKILL, away until another holds", bound="≤ 15 s, two holders 0 s",
         run=lambda s: gone(s, signal.SIGKILL)),
    Case(name="stopped", title="agent SIGSTOP, until another holds", bound="≤ 15 s, two holders 0 s",
         run=lambda s: gone(s, signal.SIGSTOP)),
    Case(name="label", title="planned: holder excluded by label", bound="0 lost", is_count=True, needs_api=True,
         run=planned(label, lambda s: s.put_nodes())),
    Case(name="endpoints", title="planned: policy Local, endpoints move", bound="0 lost", is_count=True,
         needs_api=True,
         run=planned(move_endpoints, lambda s: None)),
    Case(name="policy", title="planned: Cluster to Local, none on the holder", bound="0 lost", is_count=True,
         needs_api=True, run=planned(make_local, lambda s: s.put_local([n.short for n in NODES], policy="Cluster"))),
    Case(name="new", title="a node is added", bound=NOTHING, is_count=True, needs_api=True, run=new_node),
    Case(name="rolling", forgets=True, title="rolling restart over three nodes", bound=NOTHING, is_count=True,
         run=unchanged(roll)),
    Case(name="parted", title="two sides for 10 s, then healed", bound="one holder ≤ 1 s", run=parted),
    Case(name="stall", title="all agents stopped for 300 ms", bound=NOTHING, is_count=True, run=unchanged(stall)),
    Case(name="hog", title="8 busy processes for 120 s", bound=NOTHING, is_count=True, most=3, run=unchanged(hog)),
)  # fmt: skip
CASES = {case.name: case for case in _ALL}
