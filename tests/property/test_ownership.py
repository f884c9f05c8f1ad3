"""§7 of the ownership protocol, searched for violations: each example is a world, and what befalls it.

CI takes some hundred worlds; `HYPOTHESIS_PROFILE=long` thousands. A failure prints the trace of moves.
"""

from typing import Any

import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from announcer.core.elect import elect
from announcer.core.own import Cause
from tests.property.faults import FAULTS, HARMLESS, Causes, Overlaps, befall, end_faults, wrong
from tests.property.world import ETH0, World

SEED = st.integers(0, 2**32)
WHO = st.integers(0, 99)
SHAPES = st.sampled_from([
    {},
    {"links": 2, "addresses": 2},
    {"families": "6"},
    {"families": "46", "addresses": 2},
    {"bare": 1},
    {"bare": 9, "addresses": 2},
    {"spare": 1},
    {"links": 2, "families": "46", "addresses": 1, "bare": 1, "spare": 1},
])  # fmt: skip
Shape = dict[str, Any]
PAUSES = st.sampled_from([0.0, 0.05, 0.15, 0.4, 1.0, 3.5, 8.0, 14.0])
BLOWS = st.lists(st.tuples(PAUSES, st.sampled_from(FAULTS), WHO), max_size=12)
PATS = st.lists(st.tuples(PAUSES, st.sampled_from(HARMLESS), WHO), max_size=8)
AROUND = (
    "kill",
    "term",
    "restart",
    "stop",
    "resume",
    "stall",
    "off",
    "on",
    "plug",
    "unplug",
    "drain",
    "undrain",
    "away",
    "back",
)
SETTLED, FAREWELL_OVER = 45.0, 10.0
some = settings(max_examples=settings().max_examples // 4)


def settle(world: World) -> None:
    """What an agent left on SIGTERM, and no next one has adopted, stays for the farewell."""
    world.run(SETTLED)
    left = (end for host in world.hosts.values() if not host.runs for end in host.addresses.values())
    world.run(max(0.0, max(left, default=0.0) + FAREWELL_OVER - world.now))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_world_remembers_of_holders_is_what_its_kernels_have(fault: str) -> None:
    world = World(seed=1, nodes=3, links=2, addresses=1)
    differs: list[str] = []

    def compare() -> None:
        for (ifname, vip), held in world.held().items():
            hosts = [h for h in world.hosts.values() if world.is_up(h) and h.nics[ifname].has_carrier]
            if held != [h.name for h in hosts if world.has(h, (ifname, vip))]:
                differs.append(f"{world.now} {ifname} {vip} {held}")

    world.run(4)
    world.looks.append(compare)
    for who in range(6):
        befall(world, fault, who)
        compare()
        world.run(2.2)
    end_faults(world)
    world.run(11)
    assert differs == []


@some
@given(seed=SEED, nodes=st.integers(2, 5), shape=SHAPES, faults=BLOWS)
@example(seed=2893225751, nodes=4, shape={"families": "6"}, faults=[(1.0, "term", 17), (0.4, "drain", 9)])
def test_every_address_ends_with_one_holder_and_two_never_last(
    seed: int, nodes: int, shape: Shape, faults: list[tuple[float, str, int]]
) -> None:
    world = World(seed=seed, nodes=nodes, **shape)
    overlaps, causes = Overlaps(world), Causes(world)
    world.lag = 1.0
    world.run(5)
    for pause, fault, who in faults:
        world.run(pause)
        befall(world, fault, who)
    end_faults(world)
    settle(world)
    note("\n".join(world.trace))
    assert wrong(world) == []
    assert overlaps.worst <= 1.0
    assert causes.causeless == []


@some
@given(seed=SEED, nodes=st.integers(2, 5), shape=SHAPES, faults=PATS)
def test_nothing_moves_without_a_reason(
    seed: int, nodes: int, shape: Shape, faults: list[tuple[float, str, int]]
) -> None:
    world = World(seed=seed, nodes=nodes, **shape)
    world.run(8)
    before = {(i, vip): world.holders(vip, i) for i, vip in world.keys}
    count = len(world.moves)
    for pause, fault, who in faults:
        world.run(3.0 + pause)
        befall(world, fault, who)
    for host in world.hosts.values():
        if not host.runs and host.has_power:
            world.start(host)
    world.run(15)
    note("\n".join(world.trace))
    assert {(i, vip): world.holders(vip, i) for i, vip in world.keys} == before
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
@given(seed=SEED, nodes=st.integers(2, 5), shape=SHAPES, lag=st.sampled_from([0.0, 0.3, 1.5]), who=WHO)
@example(seed=274, nodes=4, shape={}, lag=0.3, who=0)
def test_planned_moves_leave_no_gap(seed: int, nodes: int, shape: Shape, lag: float, who: int) -> None:
    world = World(seed=seed, nodes=nodes, **shape)
    world.lag = lag
    world.run(8)
    gaps: list[str] = []
    world.looks.append(lambda: gaps.extend(f"{world.now} {key}" for key, held in world.held().items() if not held))
    for vip in sorted(set(world.leads.values())):
        (holder,) = world.holders(vip)
        world.want(vip, world.truth[vip] - {holder})
        world.run(who / 50)
    world.run(10)
    note("\n".join(world.trace))
    assert gaps == []
    assert wrong(world) == []
    assert all(set(world.holders(vip, ifname)) <= world.truth[vip] for ifname, vip in world.keys)


@some
@given(seed=SEED, nodes=st.integers(2, 5), shape=SHAPES, who=WHO, how=st.sampled_from(["off", "unplug", "part"]))
def test_address_of_a_dead_node_is_answered_within_450_ms(
    seed: int, nodes: int, shape: Shape, who: int, how: str
) -> None:
    world = World(seed=seed, nodes=nodes, **shape)
    world.run(8 + who / 100)
    victim = world.holders(world.vips[0])[0]
    todo = {
        "off": lambda: world.power(world.hosts[victim], on=False),
        "unplug": lambda: world.carrier(world.hosts[victim], ETH0, on=False),
        "part": lambda: world.part({victim: 1}, (ETH0,)),
    }
    todo[how]()
    world.run(0.45)
    note("\n".join(world.trace))
    assert [v for v in world.vips if not any(h != victim for h in world.holders(v))] == []
    assert {m.cause for at, _, m in world.moves if at > 8 and m.new and m.new != victim} == {Cause.NODE_DEAD}


def test_thousand_addresses_of_a_dead_node_are_taken_at_once() -> None:
    world = World(seed=1, nodes=3, addresses=1000)
    world.run(8)
    victim = world.holders(world.vips[0])[0]
    taken = sum(world.holders(v) == [victim] for v in world.vips)
    world.power(world.hosts[victim], on=False)
    world.run(0.45)
    assert taken > 250
    assert all(len(world.holders(v)) == 1 for v in world.vips)
    assert len([m for at, _, m in world.moves if at > 8]) == taken


@some
@given(seed=SEED, nodes=st.integers(2, 5), shape=SHAPES, faults=BLOWS)
@example(seed=5, nodes=5, shape={"addresses": 12}, faults=[(8.0, "off", 5), (3.5, "heal", 0)])
def test_short_cuts_lead_to_where_the_whole_way_does(
    seed: int, nodes: int, shape: Shape, faults: list[tuple[float, str, int]]
) -> None:
    world = World(seed=seed, nodes=nodes, **shape)
    world.compares = True
    for pause, fault, who in faults:
        world.run(pause)
        befall(world, fault, who)
    end_faults(world)
    world.run(SETTLED)
    assert world.short_cuts > 100


def test_most_beats_are_short_cuts_while_nothing_happens() -> None:
    world = World(seed=1, addresses=100)
    world.run(70)
    world.compares, began = True, world.now
    world.run(20)
    beats = (world.now - began) / world.timing.interval * len(world.hosts)
    assert world.short_cuts > 1.5 * beats  # of two steps each


def test_many_addresses_are_asked_for_rarely_and_all_at_once_when_their_agent_is_gone() -> None:
    """Three hundred addresses: each every ten seconds, thirty questions a second in all. One that nobody
    answers is enough to ask for the rest.
    """
    world = World(seed=1, nodes=3, addresses=300)
    world.run(20)
    asked = world.asked
    world.run(6)
    assert 150 <= world.asked - asked <= 250
    victim = world.holders(world.vips[0])[0]
    began, count = world.now, sum(world.holders(v) == [victim] for v in world.vips)
    world.kill(world.hosts[victim])
    world.run(17)
    taken = [at - began for at, _, move in world.moves if at > began and move.cause is Cause.AGENT_GONE]
    assert len(taken) == count
    assert max(taken) < world.timing.fence + 4
    assert all(len(world.holders(v)) == 1 for v in world.vips)


@pytest.mark.parametrize("gone", ["kill", "stop"])
@some
@given(seed=SEED)
@example(seed=378)
def test_agent_that_never_comes_back_is_succeeded_after_its_fence_and_two_never_hold(gone: str, seed: int) -> None:
    world = World(seed=seed)
    world.run(8)
    victim = world.holders(world.vips[0])[0]
    worst: list[int] = []
    world.looks.append(lambda: worst.append(max(map(len, world.held().values()))))
    world.kill(world.hosts[victim]) if gone == "kill" else world.stop(world.hosts[victim])
    world.run(17)
    world.resume(world.hosts[victim])
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
    world.part({cut_off: 1})
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


@some
@given(seed=SEED, nodes=st.integers(2, 5), who=WHO)
def test_addresses_of_a_service_move_together(seed: int, nodes: int, who: int) -> None:
    """They are ordered by one of them, and so are with one node after a start, a drain and a death.

    Where two nodes did claim at once, it is settled address by address, and they may sit apart.
    """
    world = World(seed=seed, nodes=nodes + 1, families="46")
    world.run(8 + who / 100)
    split = [apart(world)]
    (first,) = world.holders(world.vips[0])
    world.want(world.vips[0], world.truth[world.vips[0]] - {first})
    world.run(3)
    split.append(apart(world))
    (second,) = world.holders(world.vips[0])
    world.power(world.hosts[second], on=False)
    world.run(1)
    split.append(apart(world))
    note("\n".join(world.trace))
    assert split == [[], [], []] or any(move.cause is Cause.CONFLICT for _, _, move in world.moves)


def apart(world: World) -> list[str]:
    return [f"{v} {lead}" for v, lead in world.leads.items() if world.holders(v) != world.holders(lead)]


@some
@given(seed=SEED, nodes=st.integers(2, 5), faults=st.lists(st.tuples(PAUSES, st.sampled_from(AROUND), WHO), max_size=8))
def test_stranger_that_was_there_first_is_never_overruled(
    seed: int, nodes: int, faults: list[tuple[float, str, int]]
) -> None:
    world = World(seed=seed, nodes=nodes)
    vip = world.vips[0]
    world.strangers.add((ETH0, vip))
    claimed: list[str] = []
    world.looks.append(lambda: claimed.extend(world.holders(vip)))
    for pause, fault, who in faults:
        world.run(pause)
        befall(world, fault, who)
    end_faults(world)
    world.strangers.add((ETH0, vip))
    world.run(8)
    met = list(claimed)
    world.strangers.clear()
    settle(world)
    note("\n".join(world.trace))
    assert met == []
    assert wrong(world) == []


@some
@given(seed=SEED, nodes=st.integers(2, 5), sides=st.integers(1, 62))
def test_healed_partition_ends_with_one_holder_within_a_second(seed: int, nodes: int, sides: int) -> None:
    world = World(seed=seed, nodes=nodes)
    world.run(8)
    befall(world, "part", sides * 3)
    world.run(10)
    befall(world, "heal", 0)
    world.run(1)
    note("\n".join(world.trace))
    assert wrong(world) == []
