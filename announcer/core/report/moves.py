"""NodeAnnouncement.status.moves: which addresses a node began or ceased to hold, from whom, to whom, and why.

Addresses that moved alike in the same second stand together, as a node may take over a thousand at once. What a report
says of them it keeps: the Services are those that had the addresses when the move was first reported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from announcer.core.desired import Placement
from announcer.core.model import IPAddress, MoveReport
from announcer.core.own import Move

MOVES_MOST = 20
"""Entries in a report, the newest last."""
NAMES_MOST = 20
"""Addresses that are named in an entry; `count` says how many there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedMove:
    """A Move and the wall-clock time at which it was decided, in UTC: for people."""

    move: Move
    time: datetime


def remember(
    history: Sequence[MoveReport], moves: Sequence[TimedMove], placements: Iterable[Placement]
) -> tuple[MoveReport, ...]:
    """The history with what moved since, oldest first."""
    if not moves:
        return tuple(history)
    whose: dict[IPAddress, list[str]] = {timed.move.address: [] for timed in moves}
    for placement in placements:
        if placement.address in whose:
            whose[placement.address].append(f"{placement.service} {placement.address}")
    found = list(history)
    for timed in moves:
        names = tuple(dict.fromkeys(whose[timed.move.address])) or (str(timed.move.address),)
        told = _report(timed, names)
        place = _place(found, told)
        if place < len(found):
            found[place] = _joined(found[place], told)
        else:
            found.append(told)
    return tuple(found[-MOVES_MOST:])


def moves_status(history: Iterable[MoveReport]) -> list[dict[str, object]]:
    return [
        {
            "time": one.time,
            "link": one.link,
            "from": one.old,
            "to": one.new,
            "reason": one.reason,
            "silentSeconds": one.silent_seconds,
            "count": one.count,
            "services": list(one.services),
        }
        for one in history
    ]


def _report(timed: TimedMove, names: tuple[str, ...]) -> MoveReport:
    move = timed.move
    return MoveReport(
        time=timed.time.isoformat(timespec="seconds").replace("+00:00", "Z"),
        link=move.ifname,
        old=move.old,
        new=move.new,
        reason=move.cause.value,
        silent_seconds=move.silent_seconds,
        services=names[:NAMES_MOST],
    )


def _place(found: Sequence[MoveReport], told: MoveReport) -> int:
    """Of the entry of the same second that is alike; the end where there is none, or where the address has moved
    elsewhere meanwhile.
    """
    names = frozenset(told.services)
    for place in range(len(found) - 1, -1, -1):
        if found[place].time != told.time:
            break
        if not names.isdisjoint(found[place].services):
            break
        if _is_alike(found[place], told):
            return place
    return len(found)


def _is_alike(one: MoveReport, other: MoveReport) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("link", "old", "new", "reason"))


def _joined(one: MoveReport, other: MoveReport) -> MoveReport:
    return replace(
        one,
        count=one.count + other.count,
        services=(one.services + other.services)[:NAMES_MOST],
        silent_seconds=max(one.silent_seconds, other.silent_seconds),
    )
