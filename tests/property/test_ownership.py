"""§7 of the ownership protocol, searched for violations: each example is a world, and what befalls it.

CI takes some hundred worlds; `HYPOTHESIS_PROFILE=long` thousands. A failure prints the trace of moves.
"""

from collections.abc import Callable

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from announcer.core.elect import elect
from announcer.core.model import IPAddress
from announcer.core.own import Cause, Phase
from tests.property.world import ETH0, World

SEED = st.integers(0, 2**32)
WHO = st.integers(0, 99)
FAULTS = (
    "kill", "term", "restart", "stop", "resume", "stall", "off", "on", "plug", "unplug", "part", "heal", "drain",
    "undrain", "delete", "away", "back", "lossy", "clear",
)  # fmt: skip
HARMLESS = ("bounce", "term", "stop-short", "away", "back", "stall-short", "delete")
PAUSES = st.sampled_from([0.0, 0.05, 0.15, 0.4, 1.0, 3.5, 8.0, 14.0])
BLOWS = st.lists(st.tuples(PAUSES, st.sampled_from(FAULTS), WHO), max_size=12)
PATS = st.lists(st.tuples(PAUSES, st.sampled_from(HARMLESS), WHO), max_size=8)
SETTLED = 45.0
half = settings(max_examples=settings().max_examples // 2)
some = settings(max_examples=settings().max_examples // 4)


class Overlaps:
    """For how long two that can hear each other, and whose agents act, have held the same address."""

    def __init__(self, world: World) -> None:
        self.world, self.since, self.worst = world, dict[tuple[IPAddress, str, str], float](), 0.0
        world.looks.append(self.look)

    def look(self) -> None:
        w = self.world
        now = {
            (vip, a, b)
            for vip in w.vips
            if len(held := [n for n in w.holders(vip) if self._counts(n, vip)]) > 1
            for a in held
            for b in held
            if a < b and w.can_hear(a, b)
        }
        for key in self.since.keys() - now:
            del self.since[key]
        for key in now:
            self.worst = max(self.worst, w.now - self.since.setdefault(key, w.now))

    def _counts(self, name: str, vip: IPAddress) -> bool:
        """A leaving holder overlaps by intent; an agent that can't act is bounded by its fence."""
        host = next(h for h in self.world.hosts.values() if h.name == name)
        entry = host.state.entries.get((ETH0, vip))
        return self.world.can_act(host) and not self.world.loss and (entry is None or entry.phase is not Phase.LEAVING)


def befall(world: World, fault: str, who: int) -> None:
    names = sorted(world.hosts)
    host = world.hosts[names[who % len(names)]]
    vip = world.vips[who % len(world.vips)]
    todo: dict[str, Callable[[], object]] = {
        "kill": lambda: world.kill(host),
        "term": lambda: world.kill(host, gently=True),
        "restart": lambda: world.start(host) if not host.runs and host.has_power else None,
        "bounce": lambda: world.kill(host, back_in=2.0),
        "stop": lambda: world.stop(host),
        "resume": lambda: world.resume(host),
        "stop-short": lambda: world.stop(host, back_in=0.3),
        "stall": lambda: world.stall(host, 0.1 + who / 10),
        "stall-short": lambda: world.stall(host, 0.14),
        "off": lambda: world.power(host, on=False),
        "on": lambda: world.power(host, on=True),
        "plug": lambda: world.carrier(host, on=True),
        "unplug": lambda: world.carrier(host, on=False),
        "part": lambda: world.sides.update({n: who >> i & 1 for i, n in enumerate([*names, "router"])}),
        "heal": world.sides.clear,
        "drain": lambda: world.want(vip, world.truth[vip] - {host.name}),
        "undrain": lambda: world.want(vip, world.truth[vip] | {host.name}),
        "delete": lambda: world.delete(host, vip),
        "away": lambda: world.reach_api(is_there=False),
        "back": lambda: world.reach_api(is_there=True),
        "lossy": lambda: world.weather(loss=0.2, doubles=0.2, delay=0.03),
        "clear": world.weather,
    }
    world.note(f"** {fault} {host.name} {vip}")
    todo[fault]()


def end_faults(world: World) -> None:
    """Everything that can be repaired is, but nodes without power and agents that were killed stay so."""
    for fault in ("heal", "clear", "back"):
        befall(world, fault, 0)
    for host in world.hosts.values():
        world.resume(host)
        if not host.has_carrier:
            world.carrier(host, on=True)


def is_right(world: World, vip: IPAddress) -> bool:
    live = {h.name for h in world.hosts.values() if world.can_act(h) and h.name in world.truth[vip]}
    return len(world.holders(vip)) == 1 if live else True


@half
@given(seed=SEED, nodes=st.integers(2, 5), faults=BLOWS)
def test_every_address_ends_with_one_holder_and_two_never_last(
    seed: int, nodes: int, faults: list[tuple[float, str, int]]
) -> None:
    world = World(seed=seed, nodes=nodes)
    overlaps = Overlaps(world)
    world.lag = 1.0
    world.run(5)
    for pause, fault, who in faults:
        world.run(pause)
        befall(world, fault, who)
    end_faults(world)
    gentle = any(fault == "term" for _, fault, _ in faults)
    world.run(SETTLED + (310 if gentle else 0))
    note("\n".join(world.trace))
    assert [str(vip) for vip in world.vips if not is_right(world, vip)] == []
    assert overlaps.worst <= 1.0


@some
@given(seed=SEED, nodes=st.integers(2, 5), faults=PATS)
def test_nothing_moves_without_a_reason(seed: int, nodes: int, faults: list[tuple[float, str, int]]) -> None:
    world = World(seed=seed, nodes=nodes)
    world.run(8)
    before = {vip: world.holders(vip) for vip in world.vips}
    count = len(world.moves)
    for pause, fault, who in faults:
        world.run(3.0 + pause)
        befall(world, fault, who)
    for host in world.hosts.values():
        if not host.runs:
            world.start(host)
    world.run(15)
    note("\n".join(world.trace))
    assert {vip: world.holders(vip) for vip in world.vips} == before
    assert world.moves[count:] == []


@some
@given(seed=SEED, nodes=st.integers(2, 5), scores=st.lists(st.integers(0, 200), min_size=5, max_size=5))
def test_preference_that_changes_moves_nothing_and_decides_who_is_next(
    seed: int, nodes: int, scores: list[int]
) -> None:
    world = World(seed=seed, nodes=nodes)
    world.run(8)
    count = len(world.moves)
    world.scores = dict(zip(world.hosts, scores, strict=False))
    for host in world.hosts.values():
        world.judge(host)
        world.run(0.5)  # they learn of it one after another
    world.run(15)
    assert world.moves[count:] == []
    (victim,) = world.holders(world.vips[0])
    order = [node for node in elect(world.hosts, world.vips[0], scores=world.scores) if node != victim]
    befall(world, "off", sorted(world.hosts).index(victim))
    world.run(1)
    note("\n".join(world.trace))
    assert world.holders(world.vips[0]) == order[:1]


@some
@given(seed=SEED, nodes=st.integers(2, 5), lag=st.sampled_from([0.0, 0.3, 1.5]), who=WHO)
def test_planned_moves_leave_no_gap(seed: int, nodes: int, lag: float, who: int) -> None:
    world = World(seed=seed, nodes=nodes)
    world.lag = lag
    world.run(8)
    gaps: list[str] = []
    world.looks.append(lambda: gaps.extend(f"{world.now} {v}" for v in world.vips if not world.holders(v)))
    for vip in world.vips:
        (holder,) = world.holders(vip)
        world.want(vip, world.truth[vip] - {holder})
        world.run(who / 50)
    world.run(10)
    note("\n".join(world.trace))
    assert gaps == []
    assert all(len(world.holders(vip)) == 1 and set(world.holders(vip)) <= world.truth[vip] for vip in world.vips)


@some
@given(seed=SEED, nodes=st.integers(2, 5), who=WHO, how=st.sampled_from(["off", "unplug", "part"]))
def test_address_of_a_dead_node_is_answered_within_450_ms(seed: int, nodes: int, who: int, how: str) -> None:
    world = World(seed=seed, nodes=nodes)
    world.run(8 + who / 100)
    victim = world.holders(world.vips[0])[0]
    befall(world, how, sorted(world.hosts).index(victim)) if how != "part" else world.sides.update({victim: 1})
    world.run(0.45)
    note("\n".join(world.trace))
    assert [v for v in world.vips if not any(h != victim for h in world.holders(v))] == []
    assert {m.cause for at, _, m in world.moves if at > 8 and m.new and m.new != victim} == {Cause.NODE_DEAD}


def test_thousand_addresses_of_a_dead_node_are_taken_at_once() -> None:
    world = World(seed=1, nodes=3, addresses=1000)
    world.run(8)
    victim = world.holders(world.vips[0])[0]
    taken = sum(world.holders(v) == [victim] for v in world.vips)
    befall(world, "off", sorted(world.hosts).index(victim))
    world.run(0.45)
    assert taken > 250
    assert all(len(world.holders(v)) == 1 for v in world.vips)
    assert len([m for at, _, m in world.moves if at > 8]) == taken


@pytest.mark.parametrize("gone", ["kill", "stop"])
@some
@given(seed=SEED)
def test_agent_that_never_comes_back_is_succeeded_after_its_fence_and_two_never_hold(gone: str, seed: int) -> None:
    world = World(seed=seed)
    world.run(8)
    victim = world.holders(world.vips[0])[0]
    worst: list[int] = []
    world.looks.append(lambda: worst.append(max(len(world.holders(v)) for v in world.vips)))
    befall(world, gone, sorted(world.hosts).index(victim))
    world.run(16)
    befall(world, "resume", sorted(world.hosts).index(victim))
    world.run(5)
    note("\n".join(world.trace))
    assert max(worst) == 1
    assert [v for v in world.vips if len(world.holders(v)) != 1 or world.holders(v) == [victim]] == []


@some
@given(seed=SEED)
def test_holder_that_was_cut_off_meets_one_that_never_watched_it(seed: int) -> None:
    """A is cut off, B takes over and dies, C takes over from B: A is nobody's to watch when it comes back."""
    world = World(seed=seed, nodes=3, addresses=1)
    overlaps = Overlaps(world)
    world.run(8)
    (cut_off,) = world.holders(world.vips[0])
    world.sides.update({cut_off: 1})
    world.run(5)
    (second,) = (n for n in world.holders(world.vips[0]) if n != cut_off)
    world.power(world.hosts[second], on=False)
    world.run(10)
    world.sides.clear()
    world.run(3)
    note("\n".join(world.trace))
    assert len(world.holders(world.vips[0])) == 1
    assert overlaps.worst <= 1.0


@some
@given(seed=SEED)
def test_agents_of_holder_and_first_candidate_both_gone_leave_nobody_without_an_answer(seed: int) -> None:
    world = World(seed=seed, nodes=3, addresses=1)
    world.run(8)
    (holder,) = world.holders(world.vips[0])
    last = world.last_behind(world.vips[0], holder)
    for name in world.hosts.keys() - {last, holder}:
        world.kill(world.hosts[name])
    world.run(1)
    world.kill(world.hosts[holder])
    world.run(30)
    note("\n".join(world.trace))
    assert world.holders(world.vips[0]) == [last]
