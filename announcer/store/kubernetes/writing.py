"""What is written to the API server: statuses by server-side apply, and an Event beside each change of state.

A status is written when it differs from what stands there, one request per object at a time, the last wanted state
only. Nothing waits for a write. Where two could race (Services), the write names the version that the decision was made
on, and is dropped on a conflict: the event that caused it leads to a new decision.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from announcer.core.model import ObjectRef
from announcer.core.report import Note
from announcer.log import fields
from announcer.store.kubernetes.client import APPLY, ApiError, Client
from announcer.store.kubernetes.resources import Decoder, Resource

log = logging.getLogger(__name__)
WORKERS: Final = 24
WRITE_SECONDS: Final = 5.0
RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS = 0.2, 20.0
NOTES_MOST: Final = 2000
OURS: Final = "announcer.io/"
"""Prefix of the condition types that are ours."""
RACED: Final = frozenset({"Service"})
CREATED: Final = frozenset({"NodeAnnouncement"})
"""Kinds whose objects we make ourselves; of every other kind, only what is there is written to."""
DROPPED: Final = frozenset({404, 409, 410})
"""Gone, or changed by somebody: the next decision is made on what is there then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an object is written: `raw` is what stands there, None where there is no such object yet."""

    resource: Resource
    version: str
    raw: Mapping[str, Any] | None
    resource_version: str = ""
    uid: str = ""
    owner: Mapping[str, Any] | None = None
    """An ownerReference for an object that has to be created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    status: Mapping[str, Any]
    annotations: Mapping[str, str]
    resource_version: str
    note: Note | None = None


@dataclass(slots=True)
class Writer:
    """`target` finds an object; `took` is told the server's answer; nothing is sent while `may_write` is false."""

    client: Client
    component: str
    target: Callable[[ObjectRef], Target | None]
    took: Callable[[ObjectRef, dict[str, Any]], None]
    may_write: Callable[[], bool] = lambda: True
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _wanted: dict[ObjectRef, Wanted] = field(default_factory=dict)
    _queue: asyncio.Queue[ObjectRef] = field(default_factory=asyncio.Queue)
    _busy: set[ObjectRef] = field(default_factory=set)
    _notes: deque[Note] = field(default_factory=deque)
    _noted: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: dict[ObjectRef, str] = field(default_factory=dict)
    _retry: float = RETRY_FIRST_SECONDS

    def put(
        self, ref: ObjectRef, status: Mapping[str, Any], annotations: Mapping[str, str], note: Note | None = None
    ) -> None:
        """Each object is in the queue at most once, so the queue is bounded by the number of objects."""
        target = self.target(ref)
        if target is None or (target.raw is None and ref.kind not in CREATED):
            return
        if target.raw is not None and is_written(target.raw, status, annotations):
            self._wanted.pop(ref, None)
            return
        old = self._wanted.get(ref)
        self._wanted[ref] = Wanted(
            status=status, annotations=annotations, resource_version=target.resource_version, note=note
        )
        if old is None and ref not in self._busy:
            self._queue.put_nowait(ref)

    def note(self, note: Note) -> None:
        """The oldest are lost where nobody can take so many: an Event is a help, not a record."""
        if len(self._notes) >= NOTES_MOST:
            self._notes.popleft()
        self._notes.append(note)
        self._noted.set()

    def is_idle(self) -> bool:
        return not self._wanted and not self._busy

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work())
            tasks.create_task(self._tell())

    async def _work(self) -> None:
        while True:
            ref = await self._queue.get()
            wanted = self._wanted.pop(ref, None)
            if wanted is None:
                continue
            self._busy.add(ref)
            pause = await self._write(ref, wanted)
            self._busy.discard(ref)
            if pause is not None:
                await asyncio.sleep(pause)
                self._wanted.setdefault(ref, wanted)
            if ref in self._wanted:
                self._queue.put_nowait(ref)

    async def _write(self, ref: ObjectRef, wanted: Wanted) -> float | None:
        """One try; seconds until the next one, None where it is done with."""
        target = self.target(ref)
        if target is None or (target.raw is None and ref.kind not in CREATED) or not self.may_write():
            return None
        try:
            if target.raw is None and ref.kind in CREATED:
                await self._apply(ref, target, self._new(ref, target), "")
            body = self._body(ref, target, wanted)
            raw = await self._apply(ref, target, body, "status")
        except ApiError as error:
            return self._not_written(ref, error)
        self._retry = RETRY_FIRST_SECONDS
        self._failures.pop(ref, None)
        has_changed = target.raw is None or not is_same_state(target.raw, wanted.status)
        self.took(ref, raw)
        if wanted.note is not None and has_changed:
            self.note(wanted.note)
        return None

    def _not_written(self, ref: ObjectRef, error: ApiError) -> float | None:
        if error.status in DROPPED:
            return None
        if self._failures.get(ref) != str(error) and len(self._failures) < NOTES_MOST:
            self._failures[ref] = str(error)
            log.warning("status not written", extra=fields(object=ref, error=error))
        if error.status in {400, 422}:  # the same again would be refused again; a new decision is tried
            return None
        pause = max(self._retry, min(error.retry_after_seconds or 0.0, RETRY_MOST_SECONDS))
        self._retry = min(self._retry * 2, RETRY_MOST_SECONDS)
        return pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, guards nothing

    async def _apply(self, ref: ObjectRef, target: Target, body: Mapping[str, Any], subresource: str) -> dict[str, Any]:
        path = target.resource.path(ref, target.version, subresource)
        query = {"fieldManager": self.component, "force": "true"}
        data = await self.client.request(
            "PATCH", path, query=query, body=body, content_type=APPLY, timeout_seconds=WRITE_SECONDS
        )
        try:
            return Decoder(target.resource, target.version)(data)
        except msgspec.DecodeError as error:
            raise ApiError(f"PATCH {path}: answered by something else: {error}") from error

    def _body(self, ref: ObjectRef, target: Target, wanted: Wanted) -> dict[str, Any]:
        body = _head(ref, target)
        if ref.kind in RACED:
            body["metadata"]["resourceVersion"] = wanted.resource_version
        if wanted.annotations:
            body["metadata"]["annotations"] = dict(wanted.annotations)
        body["status"] = stamp(wanted.status, target.raw or {}, _text(self.now()))
        return body

    def _new(self, ref: ObjectRef, target: Target) -> dict[str, Any]:
        body = _head(ref, target)
        if target.owner is not None:
            body["metadata"]["ownerReferences"] = [dict(target.owner)]
        return body

    async def _tell(self) -> None:
        """Events go out while no status waits; one that can't be written is lost."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._notes:
                if not self._queue.empty():
                    await asyncio.sleep(0.05)
                    continue
                note = self._notes.popleft()
                try:
                    await self._create_event(note)
                except ApiError as error:
                    log.debug("Event not written", extra=fields(object=note.ref, reason=note.reason, error=error))
                    await asyncio.sleep(RETRY_FIRST_SECONDS)

    async def _create_event(self, note: Note) -> None:
        target = self.target(note.ref)
        if target is None:
            return
        namespace, now = note.ref.namespace or "default", self.now()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{note.ref.name}.{int(now.timestamp() * 1e9):x}"[-253:], "namespace": namespace},
            "involvedObject": {
                "apiVersion": target.resource.api_version(target.version),
                "kind": note.ref.kind,
                "namespace": note.ref.namespace,
                "name": note.ref.name,
                "uid": target.uid,
                "resourceVersion": target.resource_version,
            },
            "reason": note.reason,
            "message": note.message[:1024],  # the API's own limit
            "type": "Warning" if note.is_warning else "Normal",
            "source": {"component": self.component},
            "reportingComponent": self.component,
            "reportingInstance": self.component,
            "firstTimestamp": _text(now),
            "lastTimestamp": _text(now),
            "count": 1,
        }
        await self.client.request(
            "POST", f"/api/v1/namespaces/{namespace}/events", body=body, timeout_seconds=WRITE_SECONDS
        )


def is_written(raw: Mapping[str, Any], status: Mapping[str, Any], annotations: Mapping[str, str]) -> bool:
    """Whether the object says all of this, and no condition of ours beyond it; times are not compared."""
    have = raw.get("status") or {}
    known = (raw.get("metadata") or {}).get("annotations") or {}
    return (
        is_same_state(raw, status)
        and all(_is_same(have.get(name), value) for name, value in status.items() if name != "conditions")
        and all(known.get(name) == value for name, value in annotations.items())
    )


def is_same_state(raw: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether conditions and ingress points stay: what an Event would be about."""
    have = raw.get("status") or {}
    mine = {c.get("type"): _judgment(c) for c in have.get("conditions") or () if _is_ours(c)}
    wanted = {c.get("type"): _judgment(c) for c in status.get("conditions") or ()}
    return mine == wanted and _is_same(have.get("loadBalancer"), status.get("loadBalancer", have.get("loadBalancer")))


def stamp(status: Mapping[str, Any], raw: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The status with what meta/v1 Condition asks for: when each began to be so, and for which generation."""
    have = {c.get("type"): c for c in (raw.get("status") or {}).get("conditions") or ()}
    generation = (raw.get("metadata") or {}).get("generation")
    stamped = []
    for condition in status.get("conditions") or ():
        old = have.get(condition["type"], {})
        is_same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        since = old["lastTransitionTime"] if is_same else now
        extra = {"observedGeneration": generation} if generation is not None else {}
        stamped.append({**condition, "lastTransitionTime": since, **extra})
    return {**status, "conditions": stamped} if "conditions" in status else dict(status)


def _head(ref: ObjectRef, target: Target) -> dict[str, Any]:
    metadata = {"name": ref.name} | ({"namespace": ref.namespace} if ref.namespace else {})
    return {"apiVersion": target.resource.api_version(target.version), "kind": ref.kind, "metadata": metadata}


def _is_ours(condition: Mapping[str, Any]) -> bool:
    return str(condition.get("type", "")).startswith(OURS)


def _judgment(condition: Mapping[str, Any]) -> tuple[object, object, object]:
    return condition.get("status"), condition.get("reason"), condition.get("message") or ""


def _is_same(have: object, wanted: object) -> bool:
    """Empty and missing are the same: the API server leaves empty things out."""
    if isinstance(wanted, Mapping):
        known = have if isinstance(have, Mapping) else {}
        return all(_is_same(known.get(name), value) for name, value in wanted.items()) and bool(wanted or not have)
    if isinstance(wanted, list) and isinstance(have, list):
        return len(have) == len(wanted) and all(map(_is_same, have, wanted))
    return have == wanted or (not isinstance(wanted, (int, float)) and not have and not wanted)


def _text(time: datetime) -> str:
    """RFC 3339 in whole seconds, as meta/v1 Time has it."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
