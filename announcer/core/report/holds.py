"""What is held back, as a node's report says it: beside its addresses, or instead of them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from announcer.core.model import HoldReport, LinkReport
from announcer.core.report.moves import moves_status
from announcer.core.report.node import Past, Status, link_status
from announcer.core.report.sessions import sessions_status, unknown


def hold_report(since: datetime, message: str) -> HoldReport:
    return HoldReport(since=since.isoformat(timespec="seconds").replace("+00:00", "Z"), message=message)


def with_holds(status: Status, holds: Sequence[HoldReport]) -> Status:
    """The status with its holds in a field of their own and, for who looks with kubectl, among its errors."""
    errors: Any = status["errors"]
    shown = [{"since": hold.since, "message": hold.message} for hold in holds]
    return {**status, "errors": sorted([*errors, *(hold.message for hold in holds)]), "holds": shown}


def doubtful_status(links: Iterable[LinkReport], hold: HoldReport, past: Past = Past()) -> Status:
    """Of a node that doesn't believe its first look: its links and what was, and nothing about any address now."""
    known: Status = {
        "links": [link_status(link) for link in links],
        "sessions": sessions_status(unknown(past.sessions)),
        "isSidecarKnown": False,
        "errors": [],
        "moves": moves_status(past.moves),
    }
    return with_holds(known, [hold])
