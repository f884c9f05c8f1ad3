"""The ownership step, rule by rule."""

from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest

from announcer.core import own
from announcer.core.model import (
    Action,
    Heard,
    HeardEcho,
    IfName,
    IPAddress,
    NodeName,
    PutAddresses,
    RemoveAddresses,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
)
from announcer.core.own import (
    Cause,
    Frames,
    May,
    Move,
    Neighbor,
    OwnLink,
    Phase,
    Present,
    Refreshed,
    Tick,
    Timing,
    Unsent,
    farewell,
    next_due,
    step,
)
from tests.builders import ip

ETH0, VIP = IfName("eth0"), ip("10.111.111.100")
KEY = (ETH0, VIP)
OWN, OTHER, FOREIGN = "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:99"
N1, N2, N3 = NodeName("n1"), NodeName("n2"), NodeName("n3")
MACS = [f"02:00:00:00:03:{i:02x}" for i in range(99)]
THIRD = "02:00:00:00:00:04"
NEIGHBORS = {
    OTHER: Neighbor(node=N2, addresses=(ip("10.111.111.3"),)),
    THIRD: Neighbor(node=N3, addresses=(ip("10.111.111.4"),)),
}
LINK = OwnLink(lladdr=OWN, sources=(ip("10.111.111.2"),))
TIMING = Timing()
PROBE = SendProbe(ifname=ETH0, addresses=(VIP,))
PUT = PutAddresses(ifname=ETH0, addresses=(VIP,), valid_seconds=10)
ANNOUNCE = SendAnnouncement(ifname=ETH0, addresses=(VIP,))
REMOVE = RemoveAddresses(ifname=ETH0, addresses=(VIP,))


class Node:
    """One node's protocol with a clock that the test turns; whoever lives answers its echoes."""

    def __init__(
        self,
        *,
        now: float = 100.0,
        lladdr: str = OWN,
        link: OwnLink = LINK,
        held: frozenset[own.Key] = frozenset(),
        timing: Timing = TIMING,
    ) -> None:
        self.timing = timing
        self.now, self.state, self.did = now, own.Ownership(), list[tuple[float, Action]]()
        self.moves = list[Move]()
        self.link, self.alive = replace(link, lladdr=lladdr), {OTHER, THIRD}
        self.present(*held)

    def tell(self, event: own.Event) -> tuple[Action, ...]:
        self.state, outcome = step(self.state, event, self.now, self.timing)
        self.moves += [one for one in outcome if isinstance(one, Move)]
        actions = tuple(one for one in outcome if not isinstance(one, Move))
        self.did += [(round(self.now, 3), action) for action in actions]
        if any(isinstance(a, PutAddresses) for a in actions):
            self.tell(Refreshed(at=self.now))
        for action in actions:
            if isinstance(action, SendEcho):
                self.answer(action)
        return tuple(a for a in actions if not isinstance(a, SendEcho))

    def answer(self, action: SendEcho) -> None:
        for echo in action.echoes:
            if echo.lladdr in self.alive:
                told = HeardEcho(ifname=action.ifname, address=echo.target, lladdr=echo.lladdr, sequence=echo.sequence)
                self.tell(Frames(frames=(told,)))

    def may(self, order: tuple[NodeName, ...] | None = (N1, N2), keep: frozenset[IPAddress] = frozenset()) -> None:
        found = {} if order is None else {KEY: order}
        self.tell(May(node=N1, candidacies=found, neighbors=NEIGHBORS, keep=keep))

    def present(self, *keys: own.Key, **change: Any) -> tuple[Action, ...]:
        self.link = replace(self.link, **change)
        return self.tell(Present(keys=frozenset(keys), links={ETH0: self.link}, at=self.now))

    def hear(self, lladdr: str) -> tuple[Action, ...]:
        return self.tell(Frames(frames=(Heard(ifname=ETH0, address=VIP, lladdr=lladdr),)))

    def run(self, seconds: float) -> list[tuple[float, Action]]:
        """Let time pass; what was done in it but for echoes, with the time since its beginning."""
        start, before = self.now, len(self.did)
        end = start + seconds
        while (due := next_due(self.state)) <= end + 1e-9:
            self.now = max(self.now, due)
            self.tell(Tick())
        self.now = end
        return [(round(at - start, 3), a) for at, a in self.did[before:] if not isinstance(a, SendEcho)]

    @property
    def phase(self) -> Phase | None:
        entry = self.state.entries.get(KEY)
        return entry.phase if entry else None

    def holding(self) -> "Node":
        self.may()
        self.run(5)
        assert self.phase is Phase.HOLDING
        return self

    def watching(self, order: tuple[NodeName, ...] = (N1, N2)) -> "Node":
        self.may(order)
        self.hear(OTHER)
        assert self.phase is Phase.WATCHING
        return self


def when(did: list[tuple[float, Action]], action: Action) -> list[float]:
    return [at for at, one in did if one == action]


def test_first_candidate_probes_three_times_and_claims_when_nobody_answers() -> None:
    node = Node()
    node.may()
    did = node.run(0.35)
    assert did[:5] == [(0.0, PROBE), (0.1, PROBE), (0.2, PROBE), (0.3, PUT), (0.3, ANNOUNCE)]
    assert node.moves == [Move(ifname=ETH0, address=VIP, old="", new="n1", cause=Cause.UNHELD, silent_seconds=0.3)]


def test_candidate_further_back_lets_the_others_go_first() -> None:
    node = Node()
    node.may((N2, N3, N1))
    assert node.run(0.55)[0] == (0.2, PROBE)


def test_answered_probe_means_watching_not_claiming() -> None:
    node = Node()
    node.may()
    node.run(0.05)
    node.hear(OTHER)
    assert PUT not in [action for _, action in node.run(0.9)]
    assert node.phase is Phase.WATCHING


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
        node.state = replace(node.state, verdict=inf)
    assert node.phase is Phase.WATCHING


def test_question_that_was_not_sent_counts_for_nothing() -> None:
    node = Node().watching()
    node.run(1.02)
    node.alive = set()
    end = node.now + 1
    while node.now < end:
        node.run(max(0.0, next_due(node.state) - node.now))
        node.tell(Unsent(ifname=ETH0))
    assert node.phase is Phase.WATCHING


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
    node.run(7.15)
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


def test_foreign_host_is_never_overruled_and_asked_ever_more_rarely() -> None:
    node = Node()
    node.may()
    gaps = []
    for _ in range(8):
        node.hear(FOREIGN)
        gaps.append(node.state.entries[KEY].due - node.now)
        node.run(gaps[-1] + 0.01)
    assert gaps[0] == 1.0
    assert gaps == sorted(gaps)
    assert gaps[-1] == TIMING.foreign_most
    assert node.phase is Phase.WATCHING


def test_holder_announces_four_times_then_once_a_minute() -> None:
    node = Node(timing=replace(TIMING, beacon=1000.0))
    node.may()
    node.run(0.5)
    times = [at + 0.2 for at, action in node.run(70) if action == ANNOUNCE]
    steady = 60 * (0.9 + int(VIP) % 11 / 100)
    assert times == pytest.approx([1.1, 3.1, 3.1 + steady], abs=0.35)


def test_holder_refreshes_the_fence_every_three_seconds() -> None:
    node = Node().holding()
    refreshes = [at for at, action in node.run(9.5) if action == PUT]
    assert len(refreshes) == 3
    assert max(b - a for a, b in pairwise(refreshes)) <= 3.1 + 1e-6


def test_holder_that_is_no_candidate_answers_until_its_successor_is_heard() -> None:
    node = Node().holding()
    node.may(None)
    assert node.phase is Phase.LEAVING
    assert node.hear(OTHER) == (REMOVE,)
    assert node.phase is None


def test_holder_that_is_no_candidate_leaves_alone_after_two_seconds() -> None:
    node = Node().holding()
    node.may(None)
    assert (2.0, REMOVE) in node.run(2.5)
    assert node.phase is None


def test_holder_that_is_a_candidate_again_just_stays() -> None:
    node = Node().holding()
    node.may(None)
    node.may()
    assert REMOVE not in [action for _, action in node.run(5)]
    assert node.phase is Phase.HOLDING


def test_holder_keeps_what_cannot_be_judged() -> None:
    node = Node().holding()
    node.may(None, keep=frozenset({VIP}))
    node.run(5)
    assert node.phase is Phase.HOLDING


def test_first_candidate_claims_at_once_from_a_node_that_is_none_any_more() -> None:
    node = Node()
    node.may()
    node.hear(OTHER)
    node.did.clear()
    node.may((N1,))
    assert [action for _, action in node.did] == [PUT, ANNOUNCE]


@pytest.mark.parametrize(("lladdr", "other"), [(OWN, OTHER), (OTHER, OWN)])
def test_conflict_is_settled_the_same_way_on_both_sides(lladdr: str, other: str) -> None:
    keeps = own.rank(lladdr, VIP) < own.rank(other, VIP)
    node = Node(lladdr=lladdr).holding()
    node.tell(May(node=N1, candidacies={KEY: (N1, N2)}, neighbors={other: Neighbor(node=N2)}))
    node.run(0.2)
    assert node.hear(other) == ((ANNOUNCE,) if keeps else (REMOVE,))
    assert node.phase is (Phase.HOLDING if keeps else Phase.WATCHING)


def test_own_frames_are_no_conflict() -> None:
    node = Node().holding()
    assert node.hear(OWN) == ()


def test_frames_about_other_addresses_are_ignored() -> None:
    assert Node().hear(OTHER) == ()


def test_restarted_agent_adopts_what_the_kernel_holds_and_refreshes_at_once() -> None:
    node = Node(held=frozenset({KEY}))
    node.may()
    assert node.phase is Phase.HOLDING
    assert (0.0, PUT) in node.run(0.05)
    assert PROBE not in [action for _, action in node.did]
    assert node.moves == []


def test_address_that_somebody_removed_is_put_back_at_once() -> None:
    node = Node().holding()
    node.present(KEY)
    assert node.present() == (PUT, ANNOUNCE)


def test_reading_from_before_a_claim_is_no_removal() -> None:
    node = Node().holding()
    since = node.state.entries[KEY].since
    assert node.tell(Present(keys=frozenset(), links={ETH0: node.link}, at=since - 0.01)) == ()


def test_address_that_fell_with_the_fence_is_asked_for_again() -> None:
    node = Node().holding()
    node.now += 11
    assert node.present() == (REMOVE,)
    assert node.phase is Phase.WAITING
    assert node.moves[-1].cause is Cause.FENCE_FELL


def test_agent_that_stood_still_for_longer_than_the_fence_puts_nothing_back() -> None:
    node = Node().holding()
    node.now += 12
    did = node.tell(Tick())
    assert REMOVE in did
    assert PUT not in did


def test_address_that_is_left_on_the_link_though_another_holds_it_is_removed() -> None:
    node = Node().watching()
    node.now += 1
    assert node.present(KEY) == (REMOVE,)


def test_reading_from_before_a_removal_adopts_nothing() -> None:
    node = Node().holding()
    node.may(None)
    node.hear(OTHER)
    node.present(KEY)
    assert node.phase is None


def test_link_that_is_gone_ends_holding() -> None:
    node = Node().holding()
    node.tell(Present(keys=frozenset(), links={}, at=node.now))
    assert node.run(0.3)[-1] == (0.2, REMOVE)
    assert node.phase is Phase.WAITING


def test_lost_carrier_gives_up_after_two_intervals_and_sends_nothing() -> None:
    node = Node().holding()
    node.present(KEY, has_carrier=False)
    assert [a for _, a in node.run(5)] == [REMOVE]
    assert node.moves[-1].cause is Cause.CARRIER_LOST


def test_carrier_that_comes_back_at_once_moves_nothing() -> None:
    node = Node().holding()
    node.present(KEY, has_carrier=False)
    node.run(0.1)
    assert {ANNOUNCE, PROBE} <= set(node.present(KEY, has_carrier=True))
    assert REMOVE not in [a for _, a in node.run(5)]


def test_carrier_that_comes_back_later_is_asked_for_first() -> None:
    node = Node().holding()
    node.present(KEY, has_carrier=False)
    node.run(1)
    node.present(has_carrier=True)
    assert node.run(0.35)[:4] == [(0.0, PROBE), (0.1, PROBE), (0.2, PROBE), (0.3, PUT)]


def test_frame_of_a_stranger_is_met_by_a_defence_and_not_by_giving_up() -> None:
    strange = next(m for m in MACS if own.rank(m, VIP) < own.rank(OWN, VIP))
    node = Node().holding()
    assert set(node.hear(strange)) == {ANNOUNCE, PROBE}
    assert node.hear(strange) == (REMOVE,)


def test_planned_claim_that_lost_is_not_repeated_at_once() -> None:
    node = Node(lladdr=next(m for m in MACS if own.rank(m, VIP) > own.rank(OTHER, VIP)))
    node.may((N1,))
    node.hear(OTHER)
    assert node.moves[-1].cause is Cause.PLANNED
    node.hear(OTHER)
    node.may((N1,))
    assert node.phase is Phase.WATCHING


def test_gateways_are_asked_from_the_address() -> None:
    node = Node(link=replace(LINK, gateways=(ip("10.111.111.254"), ip("fe80::1"))))
    node.may()
    asked = SendRequest(ifname=ETH0, address=VIP, asks=(ip("10.111.111.254"),))
    assert asked in [a for _, a in node.run(0.35)]


def test_candidacy_that_ends_before_a_claim_leaves_nothing() -> None:
    node = Node()
    node.may()
    node.may(None)
    assert node.phase is None
    assert next_due(node.state) == inf


def test_farewell_widens_the_fence_of_what_is_held() -> None:
    assert farewell(Node().holding().state, 105.0, TIMING) == (replace(PUT, valid_seconds=300),)


def test_node_whose_object_is_gone_is_no_foreign_host() -> None:
    node = Node().watching()
    node.tell(May(node=N1, candidacies={KEY: (N1,)}, neighbors={}))
    assert node.moves[-1].cause is Cause.PLANNED


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
