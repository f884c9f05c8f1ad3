"""The ownership step, rule by rule: claims, announcements, hand-overs, conflicts, carrier and fence."""

from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest

from announcer.core import own
from announcer.core.model import (
    Heard,
    HeardProbe,
    NodeName,
    SendRequest,
)
from announcer.core.own import (
    Cause,
    Frames,
    May,
    Move,
    Neighbor,
    Phase,
    Present,
    Tick,
    farewell,
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
    OTHER,
    OWN,
    PROBE,
    PUT,
    REMOVE,
    REQUEST,
    THIRD,
    TIMING,
    VIP,
    Node,
    when,
)


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


def test_holder_announces_five_times_then_once_a_minute() -> None:
    node = Node(timing=replace(TIMING, beacon=1000.0))
    node.may()
    node.run(0.5)
    times = [at + 0.2 for at, action in node.run(70) if action == ANNOUNCE]
    steady = 60 * (0.9 + int(VIP) % 11 / 100)
    assert times == pytest.approx([0.3, 1.1, 3.1, 3.1 + steady], abs=0.45)


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
    assert [action for _, action in node.did] == [PUT, ANNOUNCE, REQUEST]


@pytest.mark.parametrize(("lladdr", "other"), [(OWN, OTHER), (OTHER, OWN)])
def test_conflict_is_settled_the_same_way_on_both_sides(lladdr: str, other: str) -> None:
    keeps = own.rank(lladdr, VIP) < own.rank(other, VIP)
    node = Node(lladdr=lladdr).holding()
    node.tell(May(node=N1, candidacies={KEY: (N1, N2)}, neighbors={other: Neighbor(node=N2)}))
    node.run(0.2)
    assert node.hear(other) == ((ANNOUNCE, REQUEST) if keeps else (REMOVE,))
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
    assert node.present() == (PUT, ANNOUNCE, REQUEST)


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
    assert set(node.hear(strange)) == {ANNOUNCE, REQUEST, PROBE}
    assert node.hear(strange) == (REMOVE,)


def test_frames_of_a_stranger_that_are_read_together_are_one() -> None:
    strange = next(m for m in MACS if own.rank(m, VIP) < own.rank(OWN, VIP))
    node = Node().holding()
    frames = [Heard(ifname=ETH0, address=VIP, lladdr=strange, at=node.now - late) for late in (0.05, 0.0)]
    assert set(node.tell(Frames(frames=tuple(frames)))) == {ANNOUNCE, REQUEST, PROBE}
    node.run(0.1)
    answer = Heard(ifname=ETH0, address=VIP, lladdr=strange, at=node.now)
    assert node.tell(Frames(frames=(answer,))) == (REMOVE,)


def test_planned_claim_that_lost_is_not_repeated_at_once() -> None:
    node = Node(lladdr=next(m for m in MACS if own.rank(m, VIP) > own.rank(OTHER, VIP)))
    node.may((N1,))
    node.hear(OTHER)
    node.run(0.25)
    node.hear(OTHER)
    assert [move.cause for move in node.moves] == [Cause.PLANNED, Cause.CONFLICT]
    node.may((N1,))
    assert node.phase is Phase.WATCHING


def test_frame_that_the_old_holder_sent_before_a_planned_claim_is_no_conflict() -> None:
    node = Node(lladdr=next(m for m in MACS if own.rank(m, VIP) > own.rank(OTHER, VIP)))
    node.may((N1,))
    node.hear(OTHER)
    node.now += 0.01
    node.hear(OTHER)
    assert node.phase is Phase.HOLDING


@pytest.mark.parametrize(("order", "claims_after"), [((N1, N2), 0.3), ((N2, N1), 0.65)])
def test_of_two_that_ask_at_once_the_later_in_the_order_waits(order: tuple[NodeName, ...], claims_after: float) -> None:
    node = Node()
    node.may(order)
    node.run(0.15 if order[0] == N1 else 0.25)
    node.tell(Frames(frames=(HeardProbe(ifname=ETH0, address=VIP, lladdr=OTHER),)))
    assert when(node.run(2), PUT)[0] + (0.15 if order[0] == N1 else 0.25) == pytest.approx(claims_after, abs=0.01)


def test_probe_of_somebody_else_s_address_or_while_nothing_is_asked_is_ignored() -> None:
    node = Node().holding()
    probes = tuple(HeardProbe(ifname=ETH0, address=a, lladdr=OTHER) for a in (VIP, VIP + 1))
    assert node.tell(Frames(frames=probes)) == ()


def test_answer_that_a_drained_node_without_an_agent_still_gives_is_not_the_holder_s() -> None:
    node = Node()
    node.may((N3, N1))
    node.hear(THIRD)
    node.hear(OTHER)
    assert node.state.entries[KEY].holder == THIRD
    node.run(3)
    assert node.moves == []


def test_gateways_are_asked_from_the_address() -> None:
    node = Node(link=replace(LINK, gateways=(ip("10.111.111.254"), ip("fe80::1"))))
    node.may()
    asked = SendRequest(ifname=ETH0, addresses=(VIP,), asks=(ip("10.111.111.254"), ip("fe80::1")))
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
    node.tell(May(node=N1, candidacies={KEY: (N1,)}, neighbors={THIRD: Neighbor(node=N3)}))
    assert node.moves[-1].cause is Cause.PLANNED


def test_restarted_agent_gives_up_what_it_finds_on_a_link_without_carrier() -> None:
    node = Node(held=frozenset({KEY}), link=replace(LINK, has_carrier=False))
    node.may()
    assert [a for _, a in node.run(1)] == [REMOVE]
    assert node.phase is Phase.WAITING


def test_holder_announces_something_twice_a_second() -> None:
    node = Node().holding()
    node.run(10)
    assert 8 <= len(when(node.run(5), ANNOUNCE)) <= 10


def test_farewell_widens_nothing_once_the_fence_may_have_fallen() -> None:
    node = Node().holding()
    assert farewell(node.state, node.now + TIMING.fence, TIMING) == ()


def test_flood_of_conflicts_is_answered_once_an_interval() -> None:
    larger = next(m for m in MACS if own.rank(m, VIP) > own.rank(OWN, VIP))
    node = Node().holding()
    node.run(0.31)
    assert [node.hear(larger) for _ in range(50)].count((ANNOUNCE, REQUEST)) == 1


def test_frame_from_before_a_claim_is_no_conflict() -> None:
    smaller = next(m for m in MACS if own.rank(m, VIP) < own.rank(OWN, VIP))
    node = Node().holding()
    since = node.state.entries[KEY].since
    for _ in range(2):
        old = Heard(ifname=ETH0, address=VIP, lladdr=smaller, at=since - 0.01)
        assert node.tell(Frames(frames=(old,))) == ()
    assert node.phase is Phase.HOLDING


def test_planned_claim_behind_the_first_waits_and_is_taken_up_if_nobody_did() -> None:
    node = Node()
    node.may((N3, N1))
    node.hear(OTHER)
    assert node.phase is Phase.SUCCEEDING
    node.hear(OTHER)
    assert when(node.run(2), PUT)[0] == pytest.approx(TIMING.leave / 4)


def test_order_that_changes_changes_the_place_of_a_watcher() -> None:
    node = Node().watching((N2, N3, N1))
    node.may((N2, N1, N3))
    assert node.state.entries[KEY].position == 0


def test_carrier_that_is_lost_before_a_claim_begins_anew() -> None:
    node = Node()
    node.may()
    node.run(0.15)
    node.present(has_carrier=False)
    assert node.run(5) == []
    node.present(has_carrier=True)
    assert node.run(0.35)[3] == (0.3, PUT)


def test_candidate_on_a_link_without_carrier_waits_for_it() -> None:
    node = Node(link=replace(LINK, has_carrier=False))
    node.may()
    assert node.run(5) == []
    node.present(has_carrier=True)
    assert node.run(0.35)[3] == (0.3, PUT)


def test_candidacy_that_ends_on_a_dark_link_ends_with_it() -> None:
    node = Node().holding()
    node.present(KEY, has_carrier=False)
    node.hear(OTHER)
    node.may(None)
    assert [a for _, a in node.run(1)] == [REMOVE]
    assert node.phase is None


def test_late_frame_of_a_node_that_was_taken_for_dead_takes_nothing_away() -> None:
    node = Node(lladdr=next(m for m in MACS if own.rank(m, VIP) > own.rank(OTHER, VIP)))
    node.may()
    node.hear(OTHER)
    node.run(1.02)
    node.alive = set()
    node.run(0.5)
    node.hear(OTHER)  # it is asked, and defended against
    node.run(1)
    node.hear(OTHER)  # as old as the first, since nothing was answered
    assert node.phase is Phase.HOLDING


def test_address_that_is_given_up_and_claimed_again_in_one_step_stays_on_the_link() -> None:
    node = Node().holding()
    node.run(0.35)
    stale = Heard(ifname=ETH0, address=VIP, lladdr=THIRD)
    did = node.tell(Frames(frames=(stale, stale)))
    assert node.phase is Phase.HOLDING
    assert (PUT in did, REMOVE in did) == (True, False)
