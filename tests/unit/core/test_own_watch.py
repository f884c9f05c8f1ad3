"""Whether a node, or an agent, is dead: what counts as an unanswered question, and what follows."""

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from announcer.core import own
from announcer.core.model import (
    Heard,
    HeardEcho,
    IfName,
    NodeName,
    PutAddresses,
    SendAnnouncement,
    SendProbe,
)
from announcer.core.own import (
    Asked,
    Cause,
    Frames,
    May,
    Neighbor,
    Phase,
    Present,
    Tick,
    next_due,
)
from tests.builders import ip
from tests.unit.core.owning import (
    ANNOUNCE,
    ETH0,
    FOREIGN,
    KEY,
    LINK,
    MACS,
    N1,
    N2,
    N3,
    NEIGHBORS,
    OTHER,
    PROBE,
    PUT,
    THIRD,
    TIMING,
    VIP,
    Node,
    when,
)


def test_address_whose_agent_is_gone_is_claimed_after_three_unanswered_probes() -> None:
    node = Node().watching()
    did = node.run(6.0)
    assert [action for _, action in did if action in {PROBE, PUT}][:4] == [PROBE, PROBE, PROBE, PUT]
    assert 3.9 < when(did, PUT)[0] < 5.1
    assert node.moves[-1].cause is Cause.AGENT_GONE
    assert node.moves[-1].silent_seconds > 3


def test_dead_node_is_succeeded_within_three_and_a_half_intervals() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    assert 0.2 < when(node.run(0.5), PUT)[0] <= 0.35
    assert (node.moves[-1].old, node.moves[-1].cause) == ("n2", Cause.NODE_DEAD)
    assert 0.2 < node.moves[-1].silent_seconds <= 0.36


def test_second_behind_a_dead_node_waits_for_the_first() -> None:
    node = Node().watching((N2, N3, N1))
    node.run(1.02)
    node.alive = {THIRD}
    assert 0.3 < when(node.run(0.6), PUT)[0] <= 0.46


def test_second_behind_a_dead_node_watches_the_first_that_claimed() -> None:
    node = Node().watching((N2, N3, N1))
    node.run(1.02)
    node.alive = {THIRD}
    node.run(0.36)
    assert node.phase is Phase.SUCCEEDING
    node.hear(THIRD)
    assert when(node.run(0.8), PUT) == []


def test_late_tick_counts_for_nothing() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    for _ in range(5):  # each of them late
        node.now = next_due(node.state) + 0.06
        assert PUT not in node.tell(Tick())
        node.state = node.state._replace(verdict=inf)
    assert node.phase is Phase.WATCHING


def test_question_that_was_not_sent_counts_for_nothing() -> None:
    node = Node().watching()
    node.run(1.02)
    node.is_jammed = True
    node.run(20)
    assert node.phase is Phase.WATCHING
    node.is_jammed, node.alive = False, set()
    assert 0.2 < when(node.run(0.5), PUT)[0] <= 0.35


def test_probe_that_was_not_sent_counts_for_nothing_and_is_sent_again() -> None:
    node = Node()
    node.is_jammed = True
    node.may()
    assert PUT not in [a for _, a in node.run(9)]
    node.is_jammed = False
    assert [a for _, a in node.run(2.4)][:4] == [PROBE, PROBE, PROBE, PUT]


def test_probe_of_a_held_address_that_was_not_sent_takes_nothing_from_a_living_node() -> None:
    node = Node().watching()
    node.run(1.9)
    for _ in range(60):
        node.is_jammed = PROBE in [a for _, a in node.did[-2:]] or not node.is_jammed
        node.run(0.25)
        node.hear(OTHER) if not node.is_jammed else None
    assert node.phase is Phase.WATCHING


def test_question_that_left_late_counts_for_nothing() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive, node.is_jammed = set(), True
    for _ in range(20):
        decided = node.now
        node.run(0.06)
        node.tell(Asked(ifname=ETH0, at=decided, lladdrs=(OTHER,)))
        node.run(max(0.0, next_due(node.state) - node.now))
    assert node.phase is Phase.WATCHING


def test_last_question_has_half_an_interval_from_when_it_left() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    while node.state.verdict == inf:
        node.run(max(0.0, next_due(node.state) - node.now))
    node.now += 0.04
    (asking,) = {w.asking for w in node.state.watches.values()}
    node.tell(Asked(ifname=ETH0, at=asking, lladdrs=(OTHER,)))
    assert node.state.verdict == pytest.approx(asking + 0.09)


def test_two_that_fall_silent_together_are_looked_at_once_more() -> None:
    node = Node()
    other = (ETH0, ip("10.111.111.101"))
    node.tell(May(node=N1, candidacies={KEY: (N1, N2), other: (N1, N3)}, neighbors=NEIGHBORS))
    node.hear(OTHER)
    node.tell(Frames(frames=(Heard(ifname=ETH0, address=other[1], lladdr=THIRD),)))
    node.run(1.02)
    node.alive = set()
    found = [at for at, action in node.run(0.7) if isinstance(action, PutAddresses)]
    assert 0.38 < found[0] <= 0.5


def test_silence_of_all_is_no_death_while_the_gateway_is_silent_too() -> None:
    gateway = ip("10.111.111.254")
    node = Node(link=replace(LINK, gateways=(gateway,))).watching()
    node.tell(Frames(frames=(Heard(ifname=ETH0, address=gateway, lladdr=FOREIGN),)))
    node.run(1.02)
    node.alive = set()
    did = node.run(1.0)
    assert PUT not in [a for _, a in did]
    assert SendProbe(ifname=ETH0, addresses=(gateway,)) in [a for _, a in did]
    assert PUT in [a for _, a in node.run(4)], "somebody has to, in the end"


def test_node_that_never_answered_icmp_is_judged_by_arp() -> None:
    node = Node(link=replace(LINK, sources=())).watching()
    asked = SendProbe(ifname=ETH0, addresses=(ip("10.111.111.3"),))
    for _ in range(30):
        assert asked in [a for _, a in node.run(0.1)]
        node.tell(Frames(frames=(Heard(ifname=ETH0, address=ip("10.111.111.3"), lladdr=OTHER),)))
        node.hear(OTHER)
    assert node.phase is Phase.WATCHING
    assert PUT in [a for _, a in node.run(0.5)]


def test_node_that_answered_icmp_is_dead_though_arp_still_answers() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    for _ in range(4):
        node.tell(Frames(frames=(Heard(ifname=ETH0, address=ip("10.111.111.3"), lladdr=OTHER),)))
        node.run(0.1)
    assert node.phase is Phase.HOLDING


def test_dead_node_that_is_seen_again_meets_what_was_taken_from_it() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    node.run(10)
    assert node.phase is Phase.HOLDING
    node.alive = {OTHER}
    did = node.run(0.15)
    assert {PROBE, ANNOUNCE} <= {a for _, a in did}


def test_node_that_was_not_heard_for_long_meets_what_is_held() -> None:
    node = Node().holding()
    node.run(7.35)
    other = Heard(ifname=ETH0, address=ip("10.111.111.199"), lladdr=OTHER)
    assert ANNOUNCE in node.tell(Frames(frames=(other,)))
    assert node.tell(Frames(frames=(other,))) == ()


def test_watcher_goes_on_watching_while_answers_come() -> None:
    node = Node()
    node.may()
    for _ in range(10):
        node.hear(OTHER)
        node.run(1.05)
    assert node.phase is Phase.WATCHING


def test_node_that_is_watched_on_two_links_falls_silent_once() -> None:
    node = Node()
    eth1, mac = IfName("eth1"), "02:00:00:00:01:03"
    links = {ETH0: LINK, eth1: replace(LINK, lladdr="02:00:00:00:01:02", sources=(ip("10.112.0.2"),))}
    node.tell(Present(keys=frozenset(), links=links, at=node.now))
    neighbors = {OTHER: NEIGHBORS[OTHER], mac: Neighbor(node=N2, addresses=(ip("10.112.0.3"),))}
    node.tell(May(node=N1, candidacies={KEY: (N1, N2), (eth1, VIP): (N1, N2)}, neighbors=neighbors))
    node.tell(Frames(frames=tuple(Heard(ifname=i, address=VIP, lladdr=m) for i, m in ((ETH0, OTHER), (eth1, mac)))))
    node.alive = {OTHER, mac}
    node.run(1.02)
    node.alive = set()
    node.run(0.35)
    assert [move.cause for move in node.moves] == [Cause.NODE_DEAD, Cause.NODE_DEAD]


def test_second_behind_a_holder_whose_agent_is_gone_gives_the_first_time() -> None:
    node = Node().watching((N2, N3, N1))
    at = when(node.run(20), PUT)[0]
    assert at > 10 * TIMING.watch + (TIMING.probes + 2) * TIMING.watch


def test_with_many_candidates_few_watch_and_each_takes_its_share() -> None:
    many = tuple(NodeName(f"n{i}") for i in range(1, 61))
    addresses = [VIP + i for i in range(30)]
    orders = [own.successors(many, N2, address, TIMING) for address in addresses]
    assert all(set(order) == set(many) - {N2} for order in orders)
    assert len({frozenset(order[:3]) for order in orders}) == 1
    assert sorted(sum(order[0] == first for order in orders) for first in orders[0][:3]) == [10, 10, 10]


def test_addresses_of_a_dead_node_are_put_and_announced_in_portions() -> None:
    node = Node()
    keys = [(ETH0, VIP + i) for i in range(100)]
    node.tell(May(node=N1, candidacies=dict.fromkeys(keys, (N1, N2)), neighbors=NEIGHBORS))
    node.tell(Frames(frames=tuple(Heard(ifname=ETH0, address=a, lladdr=OTHER) for _, a in keys)))
    node.run(1.02)
    node.alive = set()
    node.did.clear()
    node.run(0.36)
    kinds = [type(a) for _, a in node.did if isinstance(a, PutAddresses | SendAnnouncement)]
    assert kinds[:4] == [PutAddresses, SendAnnouncement, PutAddresses, SendAnnouncement]
    assert len(node.moves) == 100


def test_last_question_that_was_not_sent_counts_for_nothing() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    while node.state.verdict == inf:
        node.is_jammed = {w.silent for w in node.state.watches.values()} == {1}  # so the third doesn't leave
        node.run(max(0.0, next_due(node.state) - node.now))
    node.run(0.09)
    assert node.phase is Phase.WATCHING


def test_dead_node_that_is_seen_again_at_once_meets_what_was_taken_from_it() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    node.run(0.6)
    assert node.phase is Phase.HOLDING
    node.alive = {OTHER}
    assert {PROBE, ANNOUNCE} <= {a for _, a in node.run(0.1)}


def test_node_that_revives_before_it_is_succeeded_may_die_again() -> None:
    node = Node().watching((N2, N3, N1))
    node.run(1.02)
    node.alive = {THIRD}
    while node.state.entries[KEY].phase is not Phase.SUCCEEDING:
        node.run(0.01)
    node.alive = {OTHER, THIRD}
    node.run(0.09)
    assert node.phase is Phase.WATCHING
    node.run(1)
    node.alive = {THIRD}
    node.run(0.5)
    assert [move.cause for move in node.moves] == [Cause.NODE_DEAD]


def two_keys(order: tuple[NodeName, ...]) -> Node:
    """KEY is held by OTHER, with this order of candidates; another address by THIRD, with this node first behind."""
    node = Node()
    other = (ETH0, VIP + 1)
    node.tell(May(node=N1, candidacies={KEY: order, other: (N3, N1)}, neighbors=NEIGHBORS))
    node.hear(OTHER)
    node.tell(Frames(frames=(Heard(ifname=ETH0, address=other[1], lladdr=THIRD),)))
    node.run(1.02)
    return node


def test_unanswered_probes_say_nothing_where_nobody_answers_at_all() -> None:
    node = two_keys((N2, N3, NodeName("n4"), N1))
    node.alive = set()
    node.run(60)
    assert [(move.address, move.cause) for move in node.moves] == [(VIP + 1, Cause.NODE_DEAD)]


def test_unanswered_probes_say_nothing_while_the_node_itself_is_silent() -> None:
    node = two_keys((N2, N1))
    while node.state.entries[KEY].silent < TIMING.probes:
        node.run(0.1)
    node.run(node.state.entries[KEY].due - node.now - 0.15)
    node.alive = {THIRD}
    node.run(0.6)
    assert [move.cause for move in node.moves if move.address == VIP] == [Cause.NODE_DEAD]


def test_dead_node_has_no_place_in_the_order() -> None:
    node = two_keys((N2, N3, N1))
    node.alive = {OTHER}
    node.run(1.02)
    node.alive = set()
    assert when(node.run(0.36), PUT) != []


def second_behind_a_dead_node(count: int) -> tuple[Node, list[own.Key]]:
    """It waits for n3 to take so many addresses that n2 held, KEY among them."""
    node = Node()
    keys = [(ETH0, VIP + i) for i in range(count)]
    node.tell(May(node=N1, candidacies=dict.fromkeys(keys, (N2, N3, N1)), neighbors=NEIGHBORS))
    node.tell(Frames(frames=tuple(Heard(ifname=ETH0, address=a, lladdr=OTHER) for _, a in keys)))
    node.run(1.02)
    node.alive = {THIRD}
    while node.state.entries[KEY].phase is not Phase.SUCCEEDING:
        node.run(0.01)
    return node, keys


def test_second_gives_the_first_time_for_all_that_a_dead_node_held() -> None:
    node, _ = second_behind_a_dead_node(1000)
    assert node.state.entries[KEY].due - node.state.entries[KEY].since == pytest.approx(0.4)


@pytest.mark.parametrize(("taker", "waits"), [(THIRD, True), (OTHER, False), (FOREIGN, False)])
def test_second_waits_while_the_first_is_still_at_taking_over_but_not_for_ever(taker: str, *, waits: bool) -> None:
    node, keys = second_behind_a_dead_node(40)
    began = node.now
    for ifname, address in keys[:0:-1]:  # one after the other, and KEY never
        node.tell(Frames(frames=(Heard(ifname=ifname, address=address, lladdr=taker),)))
        node.run(0.04)
        if node.phase is Phase.HOLDING:
            break
    assert (0.9 < node.now - began < 1.2) if waits else node.now - began < 0.3


def test_of_those_that_show_what_a_dead_node_held_only_nodes_are_remembered() -> None:
    """Anybody on the link can show it from as many MACs as there are addresses."""
    node, keys = second_behind_a_dead_node(20)
    shown = zip(keys, [THIRD, *MACS], strict=False)
    node.tell(Frames(frames=tuple(Heard(ifname=ETH0, address=a, lladdr=mac) for (_, a), mac in shown)))
    assert set(node.state.watches[ETH0, OTHER].taken) == {THIRD}


@pytest.mark.parametrize("change", [{"sequence": -9}, {"address": VIP}, {"lladdr": FOREIGN}])
def test_echo_that_answers_no_late_question_of_ours_proves_nothing(change: dict[str, Any]) -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    told = {"ifname": ETH0, "address": ip("10.111.111.3"), "lladdr": OTHER, "sequence": 0} | change
    for _ in range(5):
        told["sequence"] = (node.state.sequence + change.get("sequence", 0)) % 2**16
        node.tell(Frames(frames=(HeardEcho(**told),)))
        node.run(0.1)
    assert node.phase is Phase.HOLDING


def slept(node: Node) -> Node:
    """It stood still for a second, and nobody told it what happened meanwhile."""
    node.now += 1
    node.tell(Tick())
    return node


def test_what_a_dead_node_held_before_this_one_stood_still_is_asked_for_first() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    did = slept(node).run(1)
    assert when(did, PROBE)[0] < when(did, PUT)[0]
    assert [move.cause for move in node.moves] == [Cause.UNHELD]


def test_claim_that_was_due_while_this_agent_stood_still_is_asked_for_first() -> None:
    node = Node().watching((N2, N3, N1))
    node.run(1.02)
    node.alive = {THIRD}
    while node.state.entries[KEY].phase is not Phase.SUCCEEDING:
        node.run(0.01)
    slept(node)
    node.hear(THIRD)
    node.run(5)
    assert node.moves == []


def test_probes_from_before_this_agent_stood_still_count_for_nothing() -> None:
    node = Node().watching()
    while node.state.entries[KEY].silent < TIMING.probes:
        node.run(0.1)
    slept(node)
    assert PUT not in [a for _, a in node.run(2.9)]


def test_holder_that_turns_out_to_be_a_node_is_watched_and_asked_from_then_on() -> None:
    node = Node()
    node.tell(May(node=N1, candidacies={KEY: (N1, N2)}, neighbors={}))
    for _ in range(4):
        node.hear(OTHER)
        node.run(node.state.entries[KEY].due - node.now - 0.1)
    node.hear(OTHER)
    assert (node.state.watches, node.state.entries[KEY].due - node.now > 4) == ({}, True)
    node.may()
    assert node.state.entries[KEY].due - node.now < 1.5
    node.run(0.2)
    assert set(node.state.watches) == {(ETH0, OTHER)}
