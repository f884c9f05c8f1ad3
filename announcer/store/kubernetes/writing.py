"""What is written to the API server: one request per object at a time, the last wanted state only, and then Events.

Nothing waits for a write. Services go first; of other objects each is written once a second at most.

| answer | then |
|---|---|
| 2xx | done; where the object keeps less than was sent, the same isn't sent again while nobody changes it |
| 500, a field is not in the schema | sent again at once, and from then on, without that field |
| 400, 422 | refused for good: the same isn't sent again while nobody changes the object |
| 404, 410 | gone: the next decision is made on what is there then |
| 409 | somebody was faster: sent again on the new version while that still means the same |
| none, 429, 503 | nothing is sent at all for 0.2 to 20 s, or as long as the server asks |
| every other | the object waits, 0.2 to 20 s; others don't, unless several of the kind fail so in a row (`gates`) |

What was decided is sent only while that holds: in the same term of leadership, and of a Service only while it means
what it meant in the snapshot that was decided on (`basis`). Whoever is told of the change decides again.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from announcer.core.model import MANAGED_BY, MANAGER, ObjectRef
from announcer.core.report import ANNOTATIONS, Note, Tell, tell_nothing
from announcer.log import fields
from announcer.store.kubernetes.client import APPLY, ApiError
from announcer.store.kubernetes.events import Events
from announcer.store.kubernetes.gates import Gate
from announcer.store.kubernetes.patches import (
    Api,
    Target,
    declared,
    head,
    is_written,
    stamp,
    status_of,
    text_of,
    undeclared,
)
from announcer.store.kubernetes.resources import MIRRORS, Decoder

log = logging.getLogger(__name__)
WORKERS: Final = 24
WRITE_SECONDS: Final = 5.0
SPACING_SECONDS: Final = 1.0
REST_SECONDS: Final = 5.0
RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS = 0.2, 20.0
RACED: Final = frozenset({"Service"})
MADE: Final = frozenset({"NodeAnnouncement", *(resource.kind for resource in MIRRORS)})
"""Kinds whose objects we make ourselves; of every other kind, only what is there is written to."""
LARGE: Final = frozenset({"NodeAnnouncement"})
"""What is new in ten thousand addresses takes a tenth of a second to tell: these are compared in a thread."""
RANKS: Final = {"Service": 0, "NodeAnnouncement": 0} | {resource.kind: 2 for resource in MIRRORS}
GONE, FINAL, AWAY = frozenset({404, 410}), frozenset({400, 422}), frozenset({0, 429, 503})
ANSWERS: Final = GONE | FINAL | {409}
"""They are about the object: its kind can be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an object should say, `is_gone` that there should be none; `meaning` is the basis of that decision."""

    status: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    is_gone: bool = False
    tell: Tell = field(default=tell_nothing, compare=False)
    resource_version: str = field(default="", compare=False)
    meaning: object = field(default=None, compare=False)
    term: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class _Settled:
    """What was sent, though the object doesn't say it: its schema drops a part, or it was refused for good."""

    wanted: Wanted
    resource_version: str


@dataclass(slots=True)
class Writer:
    """`target` finds an object; `took` is told the server's answer; nothing is sent while `may_write` is false.

    `rested` is called when the last write is out, and now and then while some keep failing. What is put in one `term`
    isn't sent in another.
    """

    client: Api
    component: str
    target: Callable[[ObjectRef], Target | None]
    took: Callable[[ObjectRef, dict[str, Any]], None]
    rested: Callable[[], None] = lambda: None
    may_write: Callable[[], bool] = lambda: True
    term: Callable[[], int] = lambda: 0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    events: Events = field(init=False)
    _wanted: dict[ObjectRef, Wanted] = field(default_factory=dict)
    _queue: "asyncio.PriorityQueue[tuple[int, int, ObjectRef]]" = field(default_factory=asyncio.PriorityQueue)
    _lined: set[ObjectRef] = field(default_factory=set)
    _busy: dict[ObjectRef, Wanted] = field(default_factory=dict)
    _settled: dict[ObjectRef, _Settled] = field(default_factory=dict)
    _missing: dict[str, Set[str]] = field(default_factory=dict)
    _failures: dict[ObjectRef, int] = field(default_factory=dict)
    _complaints: set[tuple[str, int]] = field(default_factory=set)
    _gates: dict[str, Gate] = field(default_factory=dict)
    _is_closed: bool = False
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _away: int = 0
    _open_at: float = 0.0
    _rested_at: float = 0.0

    def __post_init__(self) -> None:
        self.events = Events(self.client, self.component, self.target, lambda: not self._queue.empty(), self.now)

    def put(
        self,
        ref: ObjectRef,
        status: Mapping[str, Any],
        annotations: Mapping[str, str],
        *,
        labels: Mapping[str, str] | None = None,
        tell: Tell = tell_nothing,
        basis: object = None,
    ) -> None:
        """Have this written, unless the object says it already, or means something else than `basis` by now."""
        target = self._there(ref)
        if target is None:
            self.forget(ref)
            return
        if basis is not None and target.meaning != basis:
            self._wanted.pop(ref, None)
            return
        wanted = Wanted(
            status=status,
            annotations=annotations,
            labels=labels or {},
            tell=tell,
            resource_version=target.resource_version,
            meaning=target.meaning,
            term=self.term(),
        )
        raw = target.raw
        if ref not in self._busy and raw is not None and is_written(raw, status, annotations, _written(ref)):
            self._settled.pop(ref, None)
            self._wanted.pop(ref, None)
            return
        self._line_up(ref, wanted, target)

    def remove(self, ref: ObjectRef) -> None:
        """Have an object that carries our mark deleted."""
        target = self._there(ref)
        if target is not None and _is_marked(target):
            self._line_up(ref, Wanted(is_gone=True, term=self.term()), target)

    def forget(self, ref: ObjectRef) -> None:
        """The object is gone, and what is remembered of writes to it with it."""
        self._settled.pop(ref, None)
        self._failures.pop(ref, None)

    def remembered(self) -> Set[ObjectRef]:
        return self._settled.keys() | self._failures.keys()

    def is_writing(self, kind: str, namespace: str, name: str) -> bool:
        """Whether what is heard of the object now is most likely our own write, which is told before it is answered."""
        return bool(self._busy) and ObjectRef(kind=kind, namespace=namespace, name=name) in self._busy

    def is_idle(self) -> bool:
        return not self._wanted and not self._busy

    async def close(self) -> None:
        """Send nothing more, and wait for the answers to what has been sent: WRITE_SECONDS at most."""
        self._is_closed = True
        while self._busy:
            self._answered.clear()
            await self._answered.wait()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work())
            tasks.create_task(self.events.run())

    # -- the queue: each object is in it at most once, so it is bounded by their number ----------------------------

    def _line_up(self, ref: ObjectRef, wanted: Wanted, target: Target) -> None:
        if self._settled.get(ref) == _Settled(wanted, target.resource_version) or self._busy.get(ref) == wanted:
            self._wanted.pop(ref, None)
            return
        self._wanted[ref] = wanted
        if ref not in self._lined:
            self._lined.add(ref)
            self._enqueue(ref)

    def _enqueue(self, ref: ObjectRef) -> None:
        self._queue.put_nowait((RANKS.get(ref.kind, 1), next(self._numbers), ref))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            *_, ref = await self._queue.get()
            wanted = self._wanted.pop(ref, None)
            pause = 0.0
            gate = self._gate(ref.kind)
            if wanted is not None:
                await self._opening()
                if not gate.lets(ref, is_new=ref not in self._failures):
                    self._wanted.setdefault(ref, wanted)
                    continue
                self._busy[ref] = wanted
                pause = await self._turn(ref, wanted)
                del self._busy[ref]
                self._answered.set()
            gate.passed(ref)
            self._rest(loop.time())
            if pause:
                loop.call_later(pause, self._next, ref)
            else:
                self._next(ref)

    def _gate(self, kind: str) -> Gate:
        return self._gates.setdefault(kind, Gate(self._enqueue, _pause))

    async def _opening(self) -> None:
        """Wait while nothing is to be sent at all. A failure meanwhile may make it longer."""
        loop = asyncio.get_running_loop()
        left = self._open_at - loop.time()
        if left > 0:
            await asyncio.sleep(left)
            await self._opening()

    def _rest(self, now: float) -> None:
        if self.is_idle() or (self._failures and now > self._rested_at + REST_SECONDS):
            self._rested_at = now
            self.rested()

    def _next(self, ref: ObjectRef) -> None:
        if ref in self._wanted:
            self._enqueue(ref)
        else:
            self._lined.discard(ref)

    # -- one write -------------------------------------------------------------------------------------------------

    async def _turn(self, ref: ObjectRef, wanted: Wanted) -> float:
        """One try; how long this object then rests."""
        target = self._there(ref)
        if target is None:
            self.forget(ref)
        if target is None or not self._holds(wanted):
            return 0.0
        try:
            if wanted.is_gone:
                await self._delete(ref, target)
            else:
                await self._write(ref, target, wanted)
        except ApiError as error:
            return self._failed(ref, target, wanted, error)
        self._away = 0
        self._failures.pop(ref, None)
        self._gate(ref.kind).worked()
        self._complaints = {c for c in self._complaints if c[0] != ref.kind}
        return 0.0 if ref.kind in RACED else SPACING_SECONDS

    def _holds(self, wanted: Wanted) -> bool:
        """Whether it may be sent at this moment."""
        return not self._is_closed and self.may_write() and wanted.term == self.term()

    async def _write(self, ref: ObjectRef, target: Target, wanted: Wanted) -> None:
        if target.raw is None:
            await self._apply(ref, target, _new(ref, target, wanted), "")
            if not self._holds(wanted):
                return
        body = self._body(ref, target, wanted)
        if wanted.status and not body["status"]:
            self._settled[ref] = _Settled(wanted, target.resource_version)
            return
        raw = await self._apply(ref, target, body, "status")
        before = self._before(ref, target)
        notes = await asyncio.to_thread(wanted.tell, before) if ref.kind in LARGE else wanted.tell(before)
        if is_written(raw, wanted.status, wanted.annotations, _written(ref)):
            self._settled.pop(ref, None)
        else:
            self._settled[ref] = _Settled(wanted, str(raw["metadata"].get("resourceVersion") or ""))
        self.took(ref, raw)
        self._note(notes)

    def _before(self, ref: ObjectRef, target: Target) -> Mapping[str, Any]:
        """The status before: what we said last, where the object can't show it."""
        settled = self._settled.get(ref)
        return settled.wanted.status if settled is not None else status_of(target.raw)

    def _note(self, notes: Sequence[Note]) -> None:
        for note in notes:
            self.events.put(note)

    def _failed(self, ref: ObjectRef, target: Target, wanted: Wanted, error: ApiError) -> float:
        loop = asyncio.get_running_loop()
        if error.status in ANSWERS:
            self._gate(ref.kind).worked()
        if error.status in GONE or (error.status == 409 and not self._means_the_same(ref, wanted)):
            self._failures.pop(ref, None)
            return 0.0
        known = self._missing.get(ref.kind, frozenset())
        if error.status == 500 and (more := undeclared(str(error)) - known):
            self._missing[ref.kind] = known | more
            log.warning("the kind's schema lacks fields", extra=fields(kind=ref.kind, fields=" ".join(sorted(more))))
            self._wanted.setdefault(ref, wanted)
            return 0.0
        self._complain(ref, error)
        if error.status in FINAL:
            self._settled[ref] = _Settled(wanted, target.resource_version)
            return 0.0
        self._wanted.setdefault(ref, wanted)
        if error.status in AWAY:
            pause = max(_pause(self._away), min(error.retry_after_seconds or 0.0, RETRY_MOST_SECONDS))
            if self._open_at <= loop.time():  # the first of many that failed together
                self._away, self._open_at = self._away + 1, loop.time() + pause
            return 0.0
        if error.status != 409:
            self._gate(ref.kind).failed(ref, error.status)
        count = self._failures.get(ref, 0)
        self._failures[ref] = count + 1
        return _pause(count)

    def _means_the_same(self, ref: ObjectRef, wanted: Wanted) -> bool:
        target = self._there(ref)
        return ref.kind in RACED and target is not None and target.meaning == wanted.meaning

    def _complain(self, ref: ObjectRef, error: ApiError) -> None:
        """Once per kind of object and of error, until that kind is written again."""
        complaint = (ref.kind, error.status)
        if error.status != 409 and complaint not in self._complaints:
            self._complaints.add(complaint)
            log.warning("status not written", extra=fields(object=ref, error=error))

    def _there(self, ref: ObjectRef) -> Target | None:
        """Where to write; None where there is nothing to write to."""
        target = self.target(ref)
        return None if target is None or (target.raw is None and ref.kind not in MADE) else target

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

    async def _delete(self, ref: ObjectRef, target: Target) -> None:
        if target.raw is not None and _is_marked(target):
            path = target.resource.path(ref, target.version)
            body = {"preconditions": {"uid": target.uid}}
            await self.client.request("DELETE", path, body=body, timeout_seconds=WRITE_SECONDS)
            self.forget(ref)

    def _body(self, ref: ObjectRef, target: Target, wanted: Wanted) -> dict[str, Any]:
        body = head(ref, target)
        if ref.kind in RACED:
            is_same = target.meaning == wanted.meaning
            body["metadata"]["resourceVersion"] = target.resource_version if is_same else wanted.resource_version
        if wanted.annotations:
            body["metadata"]["annotations"] = dict(wanted.annotations)
        status = declared(wanted.status, self._missing.get(ref.kind, frozenset()))
        body["status"] = stamp(status, target.raw or {}, text_of(self.now()))
        return body


def _new(ref: ObjectRef, target: Target, wanted: Wanted) -> dict[str, Any]:
    body = head(ref, target)
    if wanted.labels:
        body["metadata"]["labels"] = dict(wanted.labels)
    if target.owner is not None:
        body["metadata"]["ownerReferences"] = [dict(target.owner)]
    return body


def _written(ref: ObjectRef) -> Set[str]:
    """Annotations that are ours to take away."""
    return ANNOTATIONS if ref.kind == "Service" else frozenset()


def _is_marked(target: Target) -> bool:
    labels = ((target.raw or {}).get("metadata") or {}).get("labels") or {}
    return bool(labels.get(MANAGED_BY) == MANAGER)


def _pause(count: int) -> float:
    seconds = min(RETRY_FIRST_SECONDS * 2 ** min(count, 10), RETRY_MOST_SECONDS)
    return float(seconds * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, guards nothing
