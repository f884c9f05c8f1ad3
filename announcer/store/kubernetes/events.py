"""Events (core/v1) of what was written: for people, after every status, and lost rather than waited for."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from announcer.core.model import ObjectRef
from announcer.core.report import Note
from announcer.log import fields
from announcer.store.kubernetes.client import ApiError
from announcer.store.kubernetes.patches import Api, Target, text_of

log = logging.getLogger(__name__)
NOTES_MOST: Final = 20_000
WRITE_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 0.05
FAILED_SECONDS: Final = 1.0
MESSAGE_MOST, NAME_MOST = 1024, 200
"""Of events.k8s.io/v1 `note`, and what leaves room for the number in a name of 253 characters."""


@dataclass(slots=True)
class Events:
    """`is_busy` says whether statuses wait: those go first."""

    client: Api
    component: str
    target: Callable[[ObjectRef], Target | None]
    is_busy: Callable[[], bool]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _notes: deque[Note] = field(default_factory=lambda: deque(maxlen=NOTES_MOST))
    _noted: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def put(self, note: Note) -> None:
        """The oldest are lost where nobody can take so many: an Event is a help, not a record."""
        self._notes.append(note)
        self._noted.set()

    async def run(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._notes:
                if self.is_busy():
                    await asyncio.sleep(WAIT_SECONDS)
                    continue
                note = self._notes.popleft()
                try:
                    await self._create(note)
                except ApiError as error:
                    log.debug("Event not written", extra=fields(object=note.ref, reason=note.reason, error=error))
                    await asyncio.sleep(FAILED_SECONDS)

    async def _create(self, note: Note) -> None:
        target = self.target(note.ref)
        if target is None:
            return
        namespace, now = note.ref.namespace or "default", self.now()
        number = f"{int(now.timestamp() * 1e9):x}{next(self._numbers) % 0x1000:03x}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{note.ref.name[:NAME_MOST]}.{number}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": target.resource.api_version(target.version),
                "kind": note.ref.kind,
                "namespace": note.ref.namespace,
                "name": note.ref.name,
                "uid": target.uid,
                "resourceVersion": target.resource_version,
            },
            "reason": note.reason,
            "message": note.message[:MESSAGE_MOST],
            "type": "Warning" if note.is_warning else "Normal",
            "source": {"component": self.component},
            "reportingComponent": self.component,
            "reportingInstance": self.component,
            "firstTimestamp": text_of(now),
            "lastTimestamp": text_of(now),
            "count": 1,
        }
        path = f"/api/v1/namespaces/{namespace}/events"
        await self.client.request("POST", path, body=body, timeout_seconds=WRITE_SECONDS)
