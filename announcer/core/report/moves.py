"""NodeAnnouncement.status.moves: which addresses a node began or ceased to hold, from whom, to whom, and why.

Addresses that moved alike in the same second stand together, as a node may take over a thousand at once. What a report
says of them it keeps: the Services are those that had the addresses when the move was first reported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from announcer.core.desired import Placement
from announcer.core.model import MoveReport
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
    """The history with what moved since, oldest first.

    An address that moves to and fro in one second has an entry each time.
    """
    if not moves:
        return tuple(history)
    whose: dict[str, list[str]] = {str(timed.move.address): [] for timed in moves}
    for placement in placements:
        address = str(placement.address)
        if address in whose:
            whose[address].append(f"{placement.service} {address}")
    book = _Book(history)
    for timed in moves:
        address = str(timed.move.address)
        book.add(timed, address, tuple(dict.fromkeys(whose[address])) or (address,))
    return tuple(book.entries[-MOVES_MOST:])


class _Book:
    """`places` are of the last entry of each kind, `latest` of the last one that names an address."""

    def __init__(self, history: Iterable[MoveReport]) -> None:
        self.entries: list[MoveReport] = []
        self.places: dict[tuple[str, ...], int] = {}
        self.latest: dict[str, int] = {}
        for entry in history:
            self._append(entry)
            self.latest.update((who.rpartition(" ")[2], len(self.entries) - 1) for who in entry.services)

    def add(self, timed: TimedMove, address: str, names: tuple[str, ...]) -> None:
        told = _report(timed, names)
        place = self.places.get(_kind(told))
        if place is None or self.latest.get(address, -1) >= place:
            place = self._append(told)
        else:
            self.entries[place] = _joined(self.entries[place], told)
        self.latest[address] = place

    def _append(self, entry: MoveReport) -> int:
        self.entries.append(entry)
        self.places[_kind(entry)] = len(self.entries) - 1
        return len(self.entries) - 1


def _kind(one: MoveReport) -> tuple[str, ...]:
    return one.time, one.link, one.old, one.new, one.reason


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


def _joined(one: MoveReport, other: MoveReport) -> MoveReport:
    return replace(
        one,
        count=one.count + other.count,
        services=(one.services + other.services)[:NAMES_MOST],
        silent_seconds=max(one.silent_seconds, other.silent_seconds),
    )
