"""The Kubernetes API as a store: everything that is read, kept as values, and the statuses that are written back.

| seen | in force |
|---|---|
| the first list of every resource | then the snapshot is known; before, it is UNKNOWN |
| an event | at once; while an object's new version is refused, the last good one |
| a list that lacks over half of a kind, or of what is announced | as before, until one `Timing.hold` later agrees |
| a list that lacks anything, of a server whose versions are older than before | the same |
| an error, a silence | as before |

An API server that was restored from an empty backup answers politely that there is nothing: that is what the hold is
for. `release` ends it by hand. A list agrees with the first one while nothing of what that one lacked is there again,
and not much more is missing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from announcer.core.model import UNKNOWN, IPAddress, ObjectRef, Parsed, Snapshot, Unknown
from announcer.core.report import Tell, tell_nothing
from announcer.log import fields
from announcer.store import StoreHealth
from announcer.store.kubernetes.client import ApiError, Client, NoAnswerError
from announcer.store.kubernetes.outage import Told, Turns
from announcer.store.kubernetes.patches import Target
from announcer.store.kubernetes.resources import Resource
from announcer.store.kubernetes.secrets import Secrets
from announcer.store.kubernetes.watching import Reflector, Timing, is_older
from announcer.store.kubernetes.writing import Writer

log = logging.getLogger(__name__)
Identity = tuple[str, str]
"""Namespace (empty where the kind has none) and name."""


@dataclass(slots=True)
class _Entry:
    """An object in force. `raw` is kept only where its status is compared with what is to be written."""

    parsed: Parsed
    resource_version: str
    uid: str
    raw: Mapping[str, Any] | None


@dataclass(slots=True)
class _Listing:
    """A list that isn't whole yet, and the answers to our writes since it began: those may be newer."""

    version: str
    entries: dict[Identity, _Entry] = field(default_factory=dict)
    written: dict[Identity, _Entry] = field(default_factory=dict)
    has_news: bool = False


@dataclass(frozen=True, slots=True)
class _Hold:
    """Since when (monotonic) lists lack what; `at` is for people."""

    since: float
    lost: frozenset[object]
    at: datetime

    def agrees(self, lost: frozenset[object]) -> bool:
        return self.lost <= lost and 2 * len(lost - self.lost) <= len(self.lost)


@dataclass(slots=True)
class _Table:
    """All objects of one resource; `seen` is the newest resourceVersion that a list or an event brought."""

    resource: Resource
    version: str = ""
    entries: dict[Identity, _Entry] = field(default_factory=dict)
    seen: str = ""
    is_synced: bool = False
    listing: _Listing = field(default_factory=lambda: _Listing(version=""))
    is_listing: bool = False
    hold: _Hold | None = None
    is_released: bool = False
    error: str = ""
    is_unanswered: bool = False
    failing_since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What objects mean: `parse` and `assemble` as in the manifest store, what a snapshot would announce, and which
    Secrets it names: no others are read.
    """

    parse: Callable[[Mapping[str, Any], str], Parsed]
    assemble: Callable[[Iterable[Parsed]], Snapshot]
    announced: Callable[[Snapshot], frozenset[IPAddress]]
    secrets: Callable[[Snapshot], frozenset[ObjectRef]] = lambda _snapshot: frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """As whom this process writes: its field manager, the kinds whose status it writes, and whether it may now.

    Only of those kinds more than the parsed value is kept, and only of the object called `name` where there is a name.
    What was decided in one `term` isn't written in another.
    """

    component: str
    writes: frozenset[str] = frozenset()
    name: str = ""
    may_write: Callable[[], bool] = lambda: True
    term: Callable[[], int] = lambda: 0


class KubernetesStore:
    """`clock` is monotonic."""

    def __init__(
        self,
        client: Client,
        resources: Iterable[Resource],
        meaning: Meaning,
        role: Role,
        *,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing = Timing(),
    ) -> None:
        self._meaning, self._role, self._clock, self._timing = meaning, role, clock, timing
        self._tables = {resource.kind: _Table(resource=resource) for resource in resources}
        turns = Turns()
        self._told = Told(turns)
        self._reflectors = [Reflector(client, t.resource, self, clock, timing, turns) for t in self._tables.values()]
        self._writer = Writer(client, role.component, self._target, self._took, self._rested, role.may_write, role.term)
        self._secrets = Secrets(client, meaning.parse, self._news, lambda: not self.health().is_stale, timing)
        self._snapshot: Snapshot | None = None
        self._is_touched = False
        """Whether anything has changed since a snapshot was begun."""
        self._wake: Callable[[], None] = lambda: None

    def snapshot(self) -> Snapshot | Unknown:
        if not self.health().is_synced:
            return UNKNOWN
        if self._snapshot is None:
            self._snapshot = self._with_secrets(self._meaning.assemble(self._everything()))
        return self._snapshot

    async def latest(self) -> Snapshot | Unknown:
        """`snapshot`, put together in a thread: ten thousand Services take longer than the loop may stand still."""
        if self._snapshot is not None or not self.health().is_synced:
            return self.snapshot()
        self._is_touched = False
        found = self._with_secrets(await asyncio.to_thread(self._meaning.assemble, self._everything()))
        if not self._is_touched:
            self._snapshot = found
        return found

    def _with_secrets(self, found: Snapshot) -> Snapshot:
        self._secrets.want(self._meaning.secrets(found))
        return replace(found, secrets=self._secrets.known())

    def _everything(self) -> list[Parsed]:
        return [entry.parsed for table in self._tables.values() for entry in table.entries.values()]

    def _touch(self) -> None:
        self._snapshot, self._is_touched = None, True

    def _news(self) -> None:
        self._touch()
        self._wake()

    def health(self) -> StoreHealth:
        tables = self._tables.values()
        held = sorted(t.resource.kind for t in tables if t.hold is not None)
        away = sorted({t.error for t in tables if t.error})
        message = "; ".join(away[:1])
        if held:
            message = f"the API server lists too few of {', '.join(held)}; what was there before stays in force"
        return StoreHealth(
            is_synced=all(t.is_synced for t in tables if t.resource.is_needed),
            is_stale=bool(held or away),
            message=message,
            held_since=min((t.hold.at for t in tables if t.hold is not None), default=None),
            away_seconds=max((self._clock() - t.failing_since for t in tables if t.error), default=0.0),
        )

    def release(self) -> None:
        """Believe the next list, whatever it lacks (SIGHUP, for a person who knows that the objects are gone)."""
        for table in self._tables.values():
            table.is_released = table.hold is not None

    async def run(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            tasks.create_task(self._writer.run(), name="writer")
            tasks.create_task(self._secrets.run(), name="secrets")

    async def write_status(
        self,
        ref: ObjectRef,
        status: Mapping[str, object],
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        tell: Tell = tell_nothing,
        basis: object = None,
    ) -> None:
        """Have the status of an object written soon, unless it says so already. The last one given counts.

        What `tell` says of the status before becomes Events. `labels` are for objects that we make. `basis` is the
        snapshot's value of the object that this was decided on: nothing is written where it means another thing by now.
        """
        self._writer.put(ref, status, annotations or {}, labels=labels, tell=tell, basis=basis)

    async def remove(self, ref: ObjectRef) -> None:
        """Have an object that we made deleted soon; one without our mark is left alone."""
        self._writer.remove(ref)

    async def refresh(self) -> None:
        """Know everything that was written before this call. Raises StoreError."""
        pairs = zip(self._reflectors, self._tables.values(), strict=True)
        await asyncio.gather(*(reflector.refresh() for reflector, table in pairs if table.resource.is_needed))

    async def close(self) -> None:
        """Write nothing more, and wait for the answers to what is being written."""
        await self._writer.close()

    def is_idle(self) -> bool:
        """Whether everything that was given has been written."""
        return self._writer.is_idle()

    # -- what reflectors tell (Sink) -----------------------------------------------------------------------------

    def listing(self, resource: Resource, version: str) -> None:
        table = self._tables[resource.kind]
        table.listing, table.is_listing = _Listing(version=version), True

    def found(self, resource: Resource, raw: dict[str, Any]) -> None:
        table = self._tables[resource.kind]
        key = _identity(raw)
        old = table.entries.get(key)
        if old is not None and old.raw == raw:
            table.listing.entries[key] = old
            return
        _, entry = self._read(raw, table)
        if entry.parsed.differs_from(old.parsed if old else None):
            table.listing.has_news = True
        elif old is not None:
            # The same again: one of both is enough, and garbage that is freed at once never becomes a pause.
            entry.parsed = old.parsed
            entry.raw = old.raw if old.resource_version == entry.resource_version else entry.raw
        table.listing.entries[key] = entry

    async def listed(self, resource: Resource, seen: str) -> float | None:
        table = self._tables[resource.kind]
        listing, lost = table.listing, await self._lost(table, seen)
        if lost and not table.is_released and (pause := self._hold(table, lost)) is not None:
            return pause
        is_news = listing.has_news or bool(lost) or not table.is_synced or table.hold is not None
        is_news = is_news or bool(table.entries.keys() - listing.entries.keys())
        table.is_synced = True
        self._forget(table, table.entries.keys() - listing.entries.keys())
        table.entries, table.version, table.seen = listing.entries, listing.version, seen
        table.entries.update({key: new for key, new in listing.written.items() if is_older(seen, new.resource_version)})
        table.listing, table.is_listing = _Listing(version=listing.version), False
        table.hold, table.is_released = None, False
        if is_news:
            self._news()
        return None

    def changed(self, resource: Resource, kind: str, raw: dict[str, Any]) -> None:
        table = self._tables[resource.kind]
        table.seen = _version(raw) or table.seen
        if kind == "DELETED":
            self._forget(table, {_identity(raw)})
            if table.entries.pop(_identity(raw), None) is not None:
                self._news()
        else:
            self._put(table, raw)

    def failed(self, resource: Resource, error: ApiError) -> None:
        table = self._tables[resource.kind]
        self._told.failed(resource, error, is_first=not table.error)
        if not table.error:
            table.failing_since = self._clock()
        table.error, table.is_unanswered = str(error), isinstance(error, NoAnswerError)

    def works(self, resource: Resource) -> None:
        """Those that wait for their turn are not hurried."""
        table = self._tables[resource.kind]
        if table.error:
            for reflector, other in zip(self._reflectors, self._tables.values(), strict=True):
                if other.error and not other.is_unanswered and other is not table:
                    reflector.nudge()
        self._told.works(resource)
        table.error, table.is_unanswered = "", False

    # -- inside --------------------------------------------------------------------------------------------------

    def _put(self, table: _Table, raw: dict[str, Any], *, is_own: bool = False) -> None:
        """What our own writes change wakes nobody before the last one is out: it is what was decided."""
        old = table.entries.get(_identity(raw))
        if old is not None and (_version(raw) == old.resource_version or is_older(_version(raw), old.resource_version)):
            return
        key, entry = self._read(raw, table)
        table.entries[key] = entry
        if entry.parsed.differs_from(old.parsed if old else None):
            self._touch()
            if not is_own and not self._writer.is_writing(table.resource.kind, *key):
                self._wake()

    def _forget(self, table: _Table, gone: Set[Identity]) -> None:
        for namespace, name in gone:
            self._writer.forget(ObjectRef(kind=table.resource.kind, namespace=namespace, name=name))

    def _rested(self) -> None:
        if self._snapshot is None:
            self._wake()

    def _read(self, raw: dict[str, Any], table: _Table) -> tuple[Identity, _Entry]:
        key = _identity(raw)
        parsed = self._meaning.parse(raw, "")
        old = table.entries.get(key)
        if parsed.value is None and parsed.problems and old is not None and old.parsed.value is not None:
            parsed = replace(parsed, value=old.parsed.value)
        keeps = table.resource.kind in self._role.writes and self._role.name in {"", key[1]}
        uid = str(raw["metadata"].get("uid") or "")
        return key, _Entry(parsed=parsed, resource_version=_version(raw), uid=uid, raw=raw if keeps else None)

    def _hold(self, table: _Table, lost: frozenset[object]) -> float | None:
        """Seconds until a list that lacks `lost` is to be asked for again; None where it is confirmed by now."""
        now = self._clock()
        if table.hold is None or not table.hold.agrees(lost):
            is_first, table.hold = table.hold is None, _Hold(now, lost, datetime.now(UTC))
            shown = fields(resource=table.resource.plural, had=len(table.entries), listed=len(table.listing.entries))
            log.error("a list that lacks too much is not believed before a second one agrees", extra=shown)
            if is_first:
                self._wake()
        left = table.hold.since + self._timing.hold - now
        return min(left, self._timing.hold_look) if left > 0 else None

    async def _lost(self, table: _Table, seen: str) -> frozenset[object]:
        """What the list that has come takes away, where that is so much that it isn't to be believed at once."""
        entries = table.listing.entries
        lost = table.entries.keys() - entries.keys()
        if not table.is_synced or not (lost or table.listing.has_news):
            return frozenset()
        if is_older(seen, table.seen) or 2 * len(lost) > len(table.entries):
            return frozenset(lost)
        before = self.snapshot()
        if isinstance(before, Unknown) or table.resource.kind == "NodeAnnouncement":
            return frozenset()
        others = [e.parsed for t in self._tables.values() if t is not table for e in t.entries.values()]
        found = [*others, *(entry.parsed for entry in entries.values())]
        was, is_now = await asyncio.to_thread(self._compare, before, found)
        return frozenset(was - is_now) if 2 * len(was - is_now) > len(was) else frozenset()

    def _compare(self, before: Snapshot, found: list[Parsed]) -> tuple[frozenset[IPAddress], frozenset[IPAddress]]:
        meaning = self._meaning
        return meaning.announced(before), meaning.announced(meaning.assemble(found))

    def _target(self, ref: ObjectRef) -> Target | None:
        """Where an object is written, and what stands there as far as known; None where the kind isn't served."""
        table = self._tables.get(ref.kind)
        if table is None or not table.version or not table.is_synced:
            return None
        entry = table.entries.get((ref.namespace, ref.name))
        return Target(
            resource=table.resource,
            version=table.version,
            raw=entry.raw if entry else None,
            resource_version=entry.resource_version if entry else "",
            uid=entry.uid if entry else "",
            owner=self._owner(ref),
            meaning=entry.parsed.value if entry else None,
        )

    def _owner(self, ref: ObjectRef) -> Mapping[str, Any] | None:
        """A NodeAnnouncement belongs to its Node and is collected with it."""
        node = self._tables["Node"].entries.get(("", ref.name)) if ref.kind == "NodeAnnouncement" else None
        return {"apiVersion": "v1", "kind": "Node", "name": ref.name, "uid": node.uid} if node else None

    def _took(self, ref: ObjectRef, raw: dict[str, Any]) -> None:
        """The server's answer to a write is as good as the event that will follow, unless that has come already: an
        object that isn't there any more was deleted meanwhile.
        """
        table, key = self._tables[ref.kind], _identity(raw)
        if key not in table.entries and not is_older(table.seen, _version(raw)):
            return
        self._put(table, raw, is_own=True)
        if table.is_listing:
            table.listing.written[key] = table.entries[key]


def _identity(raw: Mapping[str, Any]) -> Identity:
    metadata = raw["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _version(raw: Mapping[str, Any]) -> str:
    return str(raw["metadata"].get("resourceVersion") or "")
