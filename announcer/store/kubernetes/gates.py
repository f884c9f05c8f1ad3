"""Whether anything can be written of a kind: where objects of it fail alike one after another, one is tried at a time.

| gate | a write |
|---|---|
| open | is sent |
| shut, since FAILURES objects in a row failed with the same status | waits |
| shut, and its pause is over | the first one is sent, as a probe: it opens the gate, or another, longer pause begins |

An object that fails alone is no reason: it is one object, however often it is tried.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from announcer.core.model import ObjectRef

FAILURES: Final = 5


@dataclass(slots=True)
class Gate:
    """`again` lines a waiting object up again; `pause` is how long the nth pause is, in seconds."""

    again: Callable[[ObjectRef], None]
    pause: Callable[[int], float]
    _failed: set[ObjectRef] = field(default_factory=set)
    """Since the last success, with `_status`."""
    _status: int = 0
    _pauses: int = 0
    """How many since it was shut; 0 while it is open."""
    _is_due: bool = False
    _probe: ObjectRef | None = None
    _waiting: deque[ObjectRef] = field(default_factory=deque)

    def lets(self, ref: ObjectRef, *, is_new: bool) -> bool:
        """Whether it may be sent now; else it waits, one that hasn't failed yet before those that have."""
        if not self._pauses:
            return True
        if self._is_due:
            self._is_due, self._probe = False, ref
            return True
        (self._waiting.appendleft if is_new else self._waiting.append)(ref)
        return False

    def failed(self, ref: ObjectRef, status: int) -> None:
        if self._pauses:
            if ref == self._probe:  # others were under way when it was shut
                self._shut()
            return
        if status != self._status:
            self._failed.clear()
        self._status = status
        self._failed.add(ref)
        if len(self._failed) >= FAILURES:
            self._shut()

    def worked(self) -> None:
        self._failed.clear()
        self._pauses, self._is_due, self._probe = 0, False, None
        waiting, self._waiting = self._waiting, deque()
        for ref in waiting:
            self.again(ref)

    def passed(self, ref: ObjectRef) -> None:
        """Its turn is over. Where that said nothing of the kind, as nothing was sent, the next one is the probe."""
        if ref == self._probe:
            self._probe, self._is_due = None, True
        if self._is_due and self._waiting:
            self.again(self._waiting.popleft())

    def _shut(self) -> None:
        self._failed.clear()
        self._pauses, self._is_due, self._probe = self._pauses + 1, False, None
        asyncio.get_running_loop().call_later(self.pause(self._pauses - 1), self._due)

    def _due(self) -> None:
        if self._pauses and self._probe is None:
            self._is_due = True
            if self._waiting:
                self.again(self._waiting.popleft())
