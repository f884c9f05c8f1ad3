"""Where objects come from: a store keeps the latest of each, says when something changed, and takes statuses.

Every store keeps three promises: `snapshot` is UNKNOWN until everything was read once; afterwards a source that is away
leaves the last snapshot in force; and one object that can't be understood doesn't touch any other.
"""

from dataclasses import dataclass
from datetime import datetime


class StoreError(Exception):
    """A status could not be written. What is announced doesn't depend on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """`is_stale`: the source is away, and what it said last stays in force; `message` says what is the matter.

    `held_since`: the source is there, and says so much less than before that it isn't believed yet.
    `away_seconds`: for how long it hasn't answered, 0 while it does.
    """

    is_synced: bool
    is_stale: bool = False
    message: str = ""
    held_since: datetime | None = None
    away_seconds: float = 0.0

    @property
    def is_held(self) -> bool:
        return self.held_since is not None
