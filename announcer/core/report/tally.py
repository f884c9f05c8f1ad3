"""How reports add up: what becomes of how many addresses, and whether anything is neither proven nor explained."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from announcer.core.model import Reason
from announcer.core.report.changes import DONE
from announcer.core.report.cluster import Writing

UNPROVEN: Final = frozenset({Reason.CLAIMING, Reason.ROUTE_PENDING, ""})
"""What is under way. Every other Reason but those of DONE explains."""
ANNOUNCED, PENDING, UNANNOUNCED = "announced", "pending", "unannounced"
WAITING_MOST: Final = 10
"""That are named; the rest is a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """`addresses` by mode (`none` where nothing was decided) and Reason; `services` by the state of their addresses.

    A Service with anything pending is pending, else one with anything announced is announced. `waiting` are the first
    of `pending` addresses that are neither proven nor explained, each with its Reason.
    """

    addresses: Mapping[tuple[str, str], int] = field(default_factory=dict)
    services: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    waiting: tuple[str, ...] = ()


def tally(status: Mapping[str, Any]) -> Tally:
    """Of a NodeAnnouncement's status."""
    addresses: Counter[tuple[str, str]] = Counter()
    states: dict[str, set[str]] = {PENDING: set(), ANNOUNCED: set(), UNANNOUNCED: set()}
    waiting: list[str] = []
    for group in status["addresses"]:
        reason, services = group["reason"], group["services"]
        addresses[group["mode"] or "none", reason] += len(services)
        state = PENDING if reason in UNPROVEN else ANNOUNCED if reason in DONE else UNANNOUNCED
        states[state].update(who.partition(" ")[0] for who in services)
        waiting += [f"{who}: {reason or 'nothing is known'}" for who in services] if state == PENDING else []
    states[ANNOUNCED] -= states[PENDING]
    states[UNANNOUNCED] -= states[PENDING] | states[ANNOUNCED]
    return Tally(
        addresses=addresses,
        services={state: len(found) for state, found in states.items()},
        pending=len(waiting),
        waiting=tuple(waiting[:WAITING_MOST]),
    )


def pool_tally(written: Iterable[Writing]) -> Mapping[tuple[str, str, str], int]:
    """Addresses by pool, family and state, as the pools' own statuses count them."""
    found = {}
    for one in written:
        for family in (4, 6):
            if (available := one.status.get(f"availableIPv{family}")) is None:
                continue
            used = one.status.get(f"assignedIPv{family}", one.status.get(f"allocatedIPv{family}", 0))
            for state, count in (("assigned", used), ("available", available)):
                if isinstance(count, int):
                    found[one.ref.name, f"ipv{family}", state] = count
    return found


def unready(
    *, unread: str, doubts: Sequence[str], failed: Mapping[str, str], found: Tally | None, failure: str
) -> tuple[str, ...]:
    """Why a process isn't ready: empty when all was read, and everything wanted is proven or explained.

    `unread` is why the store isn't known, empty where it is; `failed` are Actions and `failure` a pass that went
    wrong; `found` is None before the first pass has come to its end.
    """
    if unread:
        return (f"the store has not been read yet: {unread}",)
    why = [*doubts, *(f"{action} failed: {error}" for action, error in sorted(failed.items()))]
    why += [f"the last pass failed: {failure}"] if failure else []
    if found is None:
        return (*why, "no pass has come to its end yet")
    more = found.pending - len(found.waiting)
    return (*why, *found.waiting, *((f"and {more} more addresses are neither proven nor explained",) if more else ()))
