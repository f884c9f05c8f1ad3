"""An API server that serves nobody: who asks it, and what the log says."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from announcer.log import fields
from announcer.store.kubernetes.client import ApiError, NoAnswerError
from announcer.store.kubernetes.resources import Resource

log = logging.getLogger(__name__)
TOLD_MOST = 10
"""Errors of one outage that are told; some servers have a new one each time."""


class Turns:
    """Who asks a server that serves nobody: one reflector, until it has an answer, and then one after the other.

    A dozen that come back at the same moments would take the loop's time from what it is there for. While any watch is
    open, each is on its own: what one kind meets says nothing of the others then. Nor does `refresh` wait.
    """

    def __init__(self) -> None:
        self._open = 0
        self._asking: asyncio.Event | None = None
        self._waiting: dict[asyncio.Event, None] = {}

    @property
    def is_serving(self) -> bool:
        return self._open > 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._open += 1
        self.pass_on()
        try:
            yield
        finally:
            self._open -= 1

    def take(self, one: asyncio.Event) -> bool:
        """Whether `one` may ask. Where another does, `one` is set when it is its turn, unless it leaves before."""
        if self.is_serving or self._asking is None or self._asking is one:
            self._asking = None if self.is_serving else one
            return True
        self._waiting[one] = None
        return False

    def leave(self, one: asyncio.Event) -> None:
        self._waiting.pop(one, None)

    def is_asking(self, one: asyncio.Event) -> bool:
        return self._asking is one

    def pass_on(self) -> None:
        """Somebody has an answer."""
        self._asking = None
        if self._waiting:
            one = next(iter(self._waiting))
            self.leave(one)
            one.set()


class Told:
    """One line for a server that serves nobody and each of its errors, one for each kind that is not read although
    others are. A watch that breaks is asked for again, and is worth a line only when that fails too.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._of_all: list[str] = []
        self._of_kinds: dict[str, str] = {}

    def failed(self, resource: Resource, error: ApiError, *, is_first: bool) -> None:
        is_unanswered, text = isinstance(error, NoAnswerError), str(error)
        if is_unanswered and is_first:
            return
        if is_unanswered and not self._turns.is_serving:
            cause = text.partition(": ")[2] or text  # without the kind's path
            if cause not in self._of_all and len(self._of_all) < TOLD_MOST:
                self._of_all.append(cause)
                log.warning("the API server does not answer", extra=fields(resource=resource.plural, error=error))
        elif text != self._of_kinds.get(resource.kind):
            self._of_kinds[resource.kind] = text
            log.warning("not read from the API server", extra=fields(resource=resource.plural, error=error))

    def works(self, resource: Resource) -> None:
        if self._of_all:
            log.info("the API server answers again")
        if self._of_kinds.pop(resource.kind, ""):
            log.info("read from the API server again", extra=fields(resource=resource.plural))
        self._of_all.clear()
