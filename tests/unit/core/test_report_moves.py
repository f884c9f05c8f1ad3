"""Moves in a node's report: put together, bounded, read back, told once with their reason, and shown."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from announcer.core.desired import Desired, Mode, Placement
from announcer.core.model import UNKNOWN, IfName, MoveReport, NodeName, ServiceKey
from announcer.core.own import Cause, Move, Ownership
from announcer.core.report import LastMove, Note, Past, TimedMove, node_status, node_tell, remember, rows
from announcer.core.report.changes import NOTES_MOST
from announcer.core.report.moves import MOVES_MOST, NAMES_MOST
from tests.builders import Raw, group, ip, pool, raw, service, snapshot

VIP = "10.113.113.100"
WHO = f"test/web {VIP}"
NOON = datetime(2026, 11, 25, 12, 0, 0, 900_000, tzinfo=UTC)


def moved(
    address: str = VIP, old: str = "n2", new: str = "n1", cause: Cause = Cause.NODE_DEAD, *, at: int = 0, **more: Any
) -> TimedMove:
    link = IfName(more.pop("link", "eth0"))
    move = Move(ifname=link, address=ip(address), old=old, new=new, cause=cause, **more)
    return TimedMove(move=move, time=NOON + timedelta(seconds=at))


def placed(*names: str, address: str = VIP) -> list[Placement]:
    return [Placement(service=ServiceKey(f"test/{n}"), address=ip(address), mode=Mode.LOCAL) for n in names]


def test_move_says_who_from_whom_to_whom_why_and_for_how_long_nobody_answered() -> None:
    (found,) = remember((), [moved(silent_seconds=0.263)], placed("web", "dns"))
    assert found == MoveReport(
        time="2026-11-25T12:00:00Z",
        link=IfName("eth0"),
        old="n2",
        new="n1",
        reason="node-dead",
        silent_seconds=0.263,
        services=(WHO, f"test/dns {VIP}"),
    )


def test_nothing_new_leaves_the_history_as_it_is() -> None:
    history = remember((), [moved()], placed("web"))
    assert remember(history, (), ()) == history


def test_address_that_is_no_service_s_any_more_is_named_alone() -> None:
    assert remember((), [moved()], ())[0].services == (VIP,)


def test_thousand_addresses_at_once_are_one_entry() -> None:
    many = [moved(f"10.0.{n // 250}.{n % 250}", silent_seconds=n / 1000) for n in range(1000)]
    (found,) = remember((), many, ())
    assert (found.count, len(found.services), found.silent_seconds) == (1000, NAMES_MOST, 0.999)
    assert found.services[0] == "10.0.0.0"


def test_what_moves_alike_in_one_second_stands_together_whatever_comes_between() -> None:
    one, two = moved("10.0.0.1", "n2"), moved("10.0.0.2", "n3")
    found = remember(remember((), [one, two], ()), [moved("10.0.0.3", "n2"), moved("10.0.0.4", "n2", at=1)], ())
    assert [(f.old, f.services) for f in found] == [
        ("n2", ("10.0.0.1", "10.0.0.3")),
        ("n3", ("10.0.0.2",)),
        ("n2", ("10.0.0.4",)),
    ]


def test_address_that_moves_to_and_fro_in_one_second_has_an_entry_each_time() -> None:
    there, back = moved(cause=Cause.PLANNED), moved(old="n1", new="n2", cause=Cause.CONFLICT)
    found = remember((), [there, back, there], ())
    assert [one.reason for one in found] == ["planned", "conflict", "planned"]


@pytest.mark.parametrize("other", [{"new": "n3"}, {"cause": Cause.PLANNED}, {"link": "eth1"}])
def test_what_moves_otherwise_is_an_entry_of_its_own(other: dict[str, Any]) -> None:
    assert [one.count for one in remember((), [moved(), moved(**other)], ())] == [1, 1]


def test_history_keeps_the_newest() -> None:
    found = remember((), [moved(at=n) for n in range(MOVES_MOST + 5)], ())
    assert len(found) == MOVES_MOST
    assert (found[0].time, found[-1].time) == ("2026-11-25T12:00:05Z", "2026-11-25T12:00:24Z")


def status(*moves: TimedMove, holding: bool = True, names: tuple[str, ...] = ("web",), reason: str = "") -> Raw:
    """A report of n1 with these moves."""
    found: Raw = node_status((), Desired(), Ownership(), UNKNOWN, (), Past(moves=remember((), moves, placed(*names))))
    told = reason or ("Holding" if holding else "HeldByAnotherNode")
    services = [f"test/{name} {VIP}" for name in names]
    return found | {"addresses": [{"services": services, "mode": "local", "link": "eth0", "reason": told}]}


def test_moves_come_back_as_they_were_written() -> None:
    moves = [moved(silent_seconds=0.3), moved(old="n1", new="", cause=Cause.CARRIER_LOST, at=1)]
    written = status(*moves)
    cluster = snapshot(raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status=written))
    report = next(r for r in cluster.reports if r.node == "n1")
    assert cluster.problems == ()
    assert report.moves == remember((), moves, placed("web"))


# -- Events ----------------------------------------------------------------------------------------------------------


def told(before: Raw, after: Raw, home: Raw | None = None) -> list[Note]:
    return list(node_tell(NodeName("n1"), after, snapshot(home or group()).pools)(before))


def said(before: Raw, after: Raw, home: Raw | None = None) -> list[tuple[str, str]]:
    assert told(after, after, home) == []
    return [(note.reason, note.message) for note in told(before, after, home)]


AWAY = status(holding=False)
BEGUN = f"Node n1 announcing {VIP} on interface eth0"
ENDED = f"Node n1 doesn't announce {VIP} any more"


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (moved(silent_seconds=0.263), f"{BEGUN}, taken over from n2: node-dead, no answer for 0.263 s"),
        (moved(cause=Cause.PLANNED), f"{BEGUN}, taken over from n2: planned"),
        (moved(old="", cause=Cause.UNHELD, silent_seconds=0.3), BEGUN),
        (moved(old="", cause=Cause.NODE_DEAD), f"{BEGUN}: node-dead"),
    ],
)
def test_take_over_is_told_once_with_its_reason(move: TimedMove, message: str) -> None:
    assert said(AWAY, status(move)) == [("AnnouncingLocal", message)]


def test_take_over_of_an_address_of_metallb_s_pool_is_told_in_its_words() -> None:
    words = 'announcing from node "n1" with protocol "layer2"'
    home = pool("m", f"{VIP}/32")
    assert said(AWAY, status(moved()), home) == [("nodeAssigned", f"{words}, taken over from n2: node-dead")]


@pytest.mark.parametrize(
    ("move", "after", "message"),
    [
        (moved(old="n1", new="n2", cause=Cause.CONFLICT), "HeldByAnotherNode", f"{ENDED}: conflict, n2 does"),
        (moved(old="n1", new="", cause=Cause.CARRIER_LOST), "Claiming", f"{ENDED}: carrier-lost"),
        (moved(old="n1", new="", cause=Cause.FENCE_FELL), "Claiming", f"{ENDED}: fence-fell"),
    ],
)
def test_loss_is_told_once_with_its_reason(move: TimedMove, after: str, message: str) -> None:
    assert said(status(), status(move, reason=after)) == [("Withdrawn", message)]


def test_loss_that_was_told_before_it_moved_is_not_told_again() -> None:
    """A drained node says at once that it is not eligible, and holds on until its successor is heard."""
    drained = status(reason="NodeExcluded")
    assert said(status(), drained) == [("Withdrawn", f"{ENDED}: NodeExcluded")]
    assert said(drained, status(moved(old="n1", new="n2", cause=Cause.PLANNED), reason="NodeExcluded")) == []


def test_what_moved_there_and_back_while_nothing_could_be_written_is_told() -> None:
    away = moved(old="n1", new="", cause=Cause.CARRIER_LOST)
    back = moved(old="", new="n1", cause=Cause.UNHELD, at=3)
    assert said(status(), status(away, back)) == [("Withdrawn", f"{ENDED}: carrier-lost"), ("AnnouncingLocal", BEGUN)]


def test_every_service_of_an_address_is_told() -> None:
    names = ("dns", "web")
    found = told(status(holding=False, names=names), status(moved(), names=names))
    assert [(note.ref.namespace, note.ref.name) for note in found] == [("test", "dns"), ("test", "web")]


def test_address_without_a_service_is_told_to_nobody() -> None:
    assert told(status(names=()), status(moved(), names=())) == []


def test_moves_of_a_thousand_addresses_are_a_few_events_and_a_sum() -> None:
    names = tuple(f"s{n:03}" for n in range(1000))
    found = told(status(holding=False, names=names), status(moved(), names=names))
    assert len(found) == NOTES_MOST + 1
    assert (found[-1].ref.kind, found[-1].message.split(";")[0]) == ("Node", f"{1000 - NOTES_MOST} more changes")


# -- announcer status ------------------------------------------------------------------------------------------------


def shown(*reports: tuple[str, Raw]) -> LastMove | None:
    nodes = [raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status=status) for name, status in reports]
    (row,) = rows(snapshot(group(), service(addresses=[VIP]), *nodes), {})
    return row.last_move


def test_row_has_the_newest_move() -> None:
    found = shown(("n1", status(moved(), moved(at=5, cause=Cause.AGENT_GONE), moved("10.9.9.9", at=7))))
    assert found is not None
    assert (found.time, found.old, found.new, found.reason) == ("2026-11-25T12:00:05Z", "n2", "n1", "agent-gone")


def test_row_has_the_move_that_brought_it_to_its_holder_whatever_the_clock_of_another_says() -> None:
    fast = status(moved(old="n1", new="n2", cause=Cause.CONFLICT, at=3600), holding=False)
    found = shown(("n1", status(moved())), ("n2", fast))
    assert found is not None
    assert (found.new, found.reason) == ("n1", "node-dead")


def test_row_of_an_address_that_never_moved_has_none() -> None:
    assert shown(("n1", status())) is None
