"""What befalls a world, and who watches it meanwhile: two holders at once, and moves that have no cause."""

from collections.abc import Callable, Mapping
from itertools import combinations

from announcer.core.model import IfName, IPAddress, NodeName
from announcer.core.own import Cause, Key, Phase
from tests.property.world import Host, World

FAULTS = (
    "kill", "term", "restart", "stop", "resume", "stall", "off", "on", "plug", "unplug", "part", "heal", "drain",
    "undrain", "delete", "away", "back", "lossy", "clear", "jam", "stranger", "gone", "join",
)  # fmt: skip
HARMLESS = ("bounce", "term", "stop-short", "away", "back", "stall-short", "jam-short", "delete", "join")
STEADY = 4.0
"""Seconds: for so long a holder has been fine before a move away from it needs a cause of its own."""
CONFLICTS = frozenset({Cause.CONFLICT, Cause.FENCE_FELL})


def befall(world: World, fault: str, who: int) -> None:
    names = sorted(world.hosts)
    host = world.hosts[names[who % len(names)]]
    ifname, vip = world.keys[who % len(world.keys)]
    sides = {name: who >> i & 1 for i, name in enumerate([*names, "router", "stranger"])}
    todo: dict[str, Callable[[], object]] = {
        "kill": lambda: world.kill(host),
        "term": lambda: world.kill(host, gently=True),
        "restart": lambda: world.start(host) if not host.runs and host.has_power else None,
        "bounce": lambda: world.kill(host, back_in=2.0) if host.has_power else None,
        "stop": lambda: world.stop(host),
        "resume": lambda: world.resume(host),
        "stop-short": lambda: world.stop(host, back_in=0.3),
        "stall": lambda: world.stall(host, 0.1 + who / 10),
        "stall-short": lambda: world.stall(host, 0.14),
        "off": lambda: world.power(host, on=False),
        "on": lambda: world.power(host, on=True),
        "plug": lambda: world.carrier(host, ifname, on=True),
        "unplug": lambda: world.carrier(host, ifname, on=False),
        "part": lambda: world.part(sides, (ifname,) if who % 3 else None),
        "heal": world.sides.clear,
        "drain": lambda: world.want(vip, world.truth[vip] - {host.name}),
        "undrain": lambda: world.want(vip, world.truth[vip] | {host.name}),
        # Where nobody is there to put it back it is as good as dead: no harmless fault.
        "delete": lambda: world.delete(host, (ifname, vip)) if world.can_act(host) else None,
        "away": lambda: world.reach_api(is_there=False),
        "back": lambda: world.reach_api(is_there=True),
        "lossy": lambda: world.weather(loss=0.2, doubles=0.2, delay=0.03),
        "clear": world.weather,
        "jam": lambda: jam(host),
        "jam-short": lambda: jam(host, world, 0.5 + who / 10),
        "stranger": lambda: world.meet_stranger((ifname, vip)),
        "gone": world.strangers.clear,
        "join": lambda: world.join(host),
    }
    world.note(f"** {fault} {host.name} {ifname} {vip}")
    todo[fault]()


def jam(host: Host, world: World | None = None, seconds: float = 0.0) -> None:
    host.is_jammed = True
    if world:
        world.at(seconds, lambda: clear(host))


def clear(host: Host) -> None:
    host.is_jammed = False


def end_faults(world: World) -> None:
    """Everything that can be repaired is, but nodes without power and agents that were killed stay so."""
    for fault in ("heal", "clear", "back", "gone"):
        befall(world, fault, 0)
    for host in world.hosts.values():
        clear(host)
        world.resume(host)
        for ifname, nic in host.nics.items():
            if not nic.has_carrier:
                world.carrier(host, ifname, on=True)


def wrong(world: World) -> list[Key]:
    """Addresses that have not exactly one holder on a link, though there is a candidate that could hold them."""
    found = []
    for ifname, vip in world.keys:
        live = {h.name for h in world.hosts.values() if world.can_act(h) and h.name in world.truth[vip]}
        if live and len(world.holders(vip, ifname)) != 1:
            found.append((ifname, vip))
    return found


class Overlaps:
    """For how long two that can hear each other, and whose agents act, have held the same address."""

    def __init__(self, world: World) -> None:
        self.world, self.since, self.worst = world, dict[tuple[Key, NodeName, NodeName], float](), 0.0
        self.held: Mapping[Key, list[NodeName]] = {}
        self.pairs = list[tuple[Key, NodeName, NodeName]]()
        world.looks.append(self.look)

    def look(self) -> None:
        w = self.world
        if self.held is not (held := w.held()):
            self.held = held
            self.pairs = [(key, *pair) for key, names in held.items() for pair in combinations(sorted(names), 2)]
        if not self.pairs and not self.since:
            return
        now = {
            (key, a, b)
            for key, a, b in self.pairs
            if w.can_hear(a, b, key[0]) and self._counts(a, key) and self._counts(b, key)
        }
        for key in self.since.keys() - now:
            del self.since[key]
        for key in now:
            self.worst = max(self.worst, w.now - self.since.setdefault(key, w.now))

    def _counts(self, name: NodeName, key: Key) -> bool:
        """A leaving holder overlaps by intent; an agent that can't act is bounded by its fence."""
        host, entry = self.world.hosts[name], self.world.hosts[name].state.entries.get(key)
        is_leaving = entry is not None and entry.phase is Phase.LEAVING
        return self.world.can_act(host) and not host.is_jammed and not self.world.loss and not is_leaving


class Causes:
    """Claims of what another had held for STEADY seconds without any trouble of its own, and could have answered for.

    Trouble is what the protocol has as a cause: no candidate, no agent, no carrier, not to be heard. What two that had
    both held settle between them is no claim.
    """

    def __init__(self, world: World) -> None:
        self.world, self.since, self.causeless = world, dict[tuple[Key, NodeName], float](), list[str]()
        self.sides, self.parted, self.told = dict(world.sides), 0.0, 0
        self.before: object = None
        world.looks.append(self.look)

    def look(self) -> None:
        w = self.world
        if w.sides != self.sides or w.loss or w.strangers:
            self.sides, self.parted = dict(w.sides), w.now
        for at, mover, move in w.moves[self.told :]:
            if move.new == mover:
                self._judge(at, mover, move.ifname, move.address)
        self.told = len(w.moves)
        held = w.held()
        here = held, [(h.runs, h.is_stopped, h.is_jammed, h.view) for h in w.hosts.values()]
        if here != self.before:
            self.before = here
            fine = [(key, name) for key, names in held.items() for name in names if self._is_fine(name, key[1])]
            self.since = {one: self.since.get(one, w.now) for one in fine}

    def _judge(self, at: float, mover: NodeName, ifname: IfName, vip: IPAddress) -> None:
        w = self.world
        for (key, name), since in self.since.items():
            is_steady = at - max(since, self.parted) > STEADY and w.can_hear(mover, name, ifname)
            if key == (ifname, vip) and name != mover and is_steady and name in w.hosts[mover].view[vip]:
                self.causeless.append(f"{at:.4f} {ifname} {vip}: {mover} took it from {name}")

    def _is_fine(self, name: NodeName, vip: IPAddress) -> bool:
        host = self.world.hosts[name]
        return self.world.can_act(host) and not host.is_jammed and name in host.view[vip]
