"""The ownership step, rule by rule."""

from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest

from announcer.core import own
from announcer.core.model import (
    Action,
    Heard,
    IfName,
    PutAddresses,
    RemoveAddresses,
    SendAnnouncement,
    SendProbe,
)
from announcer.core.own import May, Ownership, Phase, Present, Tick, Timing, farewell, next_due, step
from tests.builders import ip

ETH0, VIP = IfName("eth0"), ip("10.111.111.100")
KEY = (ETH0, VIP)
OWN, OTHER, FOREIGN = "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:99"
NODES = frozenset({OWN, OTHER})
TIMING = Timing()
PROBE = SendProbe(ifname=ETH0, addresses=(VIP,))
PUT = PutAddresses(ifname=ETH0, addresses=(VIP,), valid_seconds=10)
ANNOUNCE = SendAnnouncement(ifname=ETH0, addresses=(VIP,))
REMOVE = RemoveAddresses(ifname=ETH0, addresses=(VIP,))


class Node:
    """One node's protocol with a clock that the test turns."""

    def __init__(self, *, now: float = 100.0, listening: bool = True, lladdr: str = OWN) -> None:
        self.now, self.state, self.did = now, Ownership(), list[tuple[float, Action]]()
        self.lladdr = lladdr
        self.tell(Present(keys=frozenset(), lladdrs={ETH0: lladdr}))
        if listening:
            self.now += 10

    def tell(self, event: own.Event) -> tuple[Action, ...]:
        self.state, actions = step(self.state, event, self.now, TIMING)
        self.did += [(round(self.now, 3), action) for action in actions]
        return actions

    def may(self, position: int | None = 0, rivals: frozenset[str] = NODES, **more: frozenset[object]) -> None:
        found = {} if position is None else {KEY: (position, rivals)}
        self.tell(May(candidacies=found, nodes=NODES, **more))  # type: ignore[arg-type]  # tests pass keep only

    def present(self, *keys: own.Key) -> tuple[Action, ...]:
        return self.tell(Present(keys=frozenset(keys), lladdrs={ETH0: self.lladdr}))

    def hear(self, lladdr: str) -> tuple[Action, ...]:
        return self.tell(Heard(ifname=ETH0, address=VIP, lladdr=lladdr))

    def run(self, seconds: float) -> list[tuple[float, Action]]:
        """Let time pass; what was done in it, with the time since its beginning."""
        start, before = self.now, len(self.did)
        end = start + seconds
        while (due := next_due(self.state, TIMING)) <= end:
            self.now = max(self.now, due)
            self.tell(Tick())
        self.now = end
        return [(round(at - start, 3), action) for at, action in self.did[before:]]

    @property
    def phase(self) -> Phase | None:
        entry = self.state.entries.get(KEY)
        return entry.phase if entry else None

    def holding(self) -> "Node":
        self.may()
        self.run(0.5)
        assert self.phase is Phase.HOLDING
        return self


def test_first_candidate_probes_and_claims_when_nobody_answers() -> None:
    node = Node()
    node.may()
    did = node.run(0.15)
    assert did[:3] == [(0.0, PROBE), (0.1, PUT), (0.1, ANNOUNCE)]
    assert node.phase is Phase.HOLDING


def test_candidate_further_back_lets_the_others_go_first() -> None:
    node = Node()
    node.may(position=2)
    assert node.run(0.35)[:2] == [(0.2, PROBE), (0.3, PUT)]


def test_fresh_agent_asks_three_times() -> None:
    node = Node(listening=False)
    node.may()
    did = node.run(0.35)
    assert [action for _, action in did[:4]] == [PROBE, PROBE, PROBE, PUT]


def test_answered_probe_means_watching_not_claiming() -> None:
    node = Node()
    node.may()
    node.tell(Tick())
    node.hear(OTHER)
    assert PUT not in [action for _, action in node.run(0.9)]
    assert node.phase is Phase.WATCHING


def test_watcher_claims_after_three_unanswered_probes() -> None:
    node = Node()
    node.may()
    node.hear(OTHER)
    did = node.run(5.0)
    assert [action for _, action in did[:4]] == [PROBE, PROBE, PROBE, PUT]
    assert did[3][0] == pytest.approx(4.0)


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
        gaps.append(next_due(node.state, TIMING) - node.now)
        node.run(gaps[-1] + 0.01)
    assert gaps[0] == 1.0
    assert gaps == sorted(gaps)
    assert gaps[-1] == TIMING.foreign_most
    assert node.phase is Phase.WATCHING


def test_holder_announces_four_times_then_once_a_minute() -> None:
    node = Node()
    node.may()
    node.run(0.1)
    times = [at for at, action in node.run(70) if action == ANNOUNCE]
    assert times == pytest.approx([0.1, 1.1, 3.0, 63.0])


def test_holder_refreshes_the_fence_every_three_seconds() -> None:
    node = Node().holding()
    refreshes = [at for at, action in node.run(9.5) if action == PUT]
    assert len(refreshes) == 3
    assert max(b - a for a, b in pairwise(refreshes)) == pytest.approx(3.0)


def test_holder_that_is_no_candidate_answers_until_its_successor_is_heard() -> None:
    node = Node().holding()
    node.may(position=None)
    assert node.phase is Phase.LEAVING
    assert node.hear(OTHER) == (REMOVE,)
    assert node.phase is None


def test_holder_that_is_no_candidate_leaves_alone_after_two_seconds() -> None:
    node = Node().holding()
    node.may(position=None)
    assert (2.0, REMOVE) in node.run(2.5)
    assert node.phase is None


def test_holder_that_is_a_candidate_again_just_stays() -> None:
    node = Node().holding()
    node.may(position=None)
    node.may()
    assert REMOVE not in [action for _, action in node.run(5)]
    assert node.phase is Phase.HOLDING


def test_holder_keeps_what_cannot_be_judged() -> None:
    node = Node().holding()
    node.may(position=None, keep=frozenset({VIP}))
    node.run(5)
    assert node.phase is Phase.HOLDING


def test_first_candidate_claims_at_once_from_a_node_that_is_none_any_more() -> None:
    node = Node()
    node.may()
    node.hear(OTHER)
    node.may(rivals=frozenset({OWN}))
    assert node.run(0.05)[:2] == [(0.0, PUT), (0.0, ANNOUNCE)]


@pytest.mark.parametrize(("lladdr", "other"), [(OWN, OTHER), (OTHER, OWN)])
def test_conflict_is_settled_the_same_way_on_both_sides(lladdr: str, other: str) -> None:
    keeps = own._rank(lladdr, VIP) < own._rank(other, VIP)
    node = Node(lladdr=lladdr).holding()
    assert node.hear(other) == ((ANNOUNCE,) if keeps else (REMOVE,))
    assert node.phase is (Phase.HOLDING if keeps else Phase.WATCHING)


def test_own_frames_are_no_conflict() -> None:
    node = Node().holding()
    assert node.hear(OWN) == ()


def test_frames_about_other_addresses_are_ignored() -> None:
    assert Node().hear(OTHER) == ()


def test_restarted_agent_adopts_what_the_kernel_holds_and_refreshes_at_once() -> None:
    node = Node(listening=False)
    node.state = Ownership()
    node.present(KEY)
    node.may()
    assert node.phase is Phase.HOLDING
    assert (0.0, PUT) in node.run(0.05)
    assert PROBE not in [action for _, action in node.did]


def test_address_that_somebody_removed_is_put_back_at_once() -> None:
    node = Node().holding()
    node.present(KEY)
    assert node.present() == (PUT,)
    assert (0.0, ANNOUNCE) in node.run(0.05)


def test_address_that_fell_with_the_fence_is_asked_for_again() -> None:
    node = Node().holding()
    node.now += 11
    assert node.present() == ()
    assert node.phase is Phase.WAITING


def test_claimed_address_that_shows_up_in_the_kernel_counts_as_held() -> None:
    node = Node()
    node.may()
    node.present(KEY)
    assert node.phase is Phase.HOLDING


def test_link_that_is_gone_ends_holding() -> None:
    node = Node().holding()
    node.tell(Present(keys=frozenset(), lladdrs={}))
    assert node.phase is Phase.WAITING


def test_candidacy_that_ends_before_a_claim_leaves_nothing() -> None:
    node = Node()
    node.may()
    node.may(position=None)
    assert node.phase is None
    assert next_due(node.state, TIMING) == inf


def test_farewell_widens_the_fence_of_what_is_held() -> None:
    assert farewell(Node().holding().state, TIMING) == (replace(PUT, valid_seconds=300),)
