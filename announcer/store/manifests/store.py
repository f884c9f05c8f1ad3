"""The manifest directory as a store: what is in force, what changed, and the statuses beside the objects.

| seen | in force |
|---|---|
| a folder for the first time | when it has been quiet for `settle_seconds`: it may be being filled |
| an object, new or changed | at once; while its new version is refused, the last good one |
| one object twice | the one whose path is shallower, then smaller; the other is a Problem |
| an object no more | until the folder has been quiet for `QUIET_SECONDS`, at most `GONE_SECONDS` |
| no folder, no object in it at all, an error while listing | as before: an unmounted volume looks like that |
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from announcer.core.dialects import CLUSTER_SCOPED
from announcer.core.model import UNKNOWN, ObjectRef, Parsed, Problem, Reason, Snapshot, Unknown
from announcer.core.report import Tell, tell_nothing
from announcer.store import StoreError, StoreHealth
from announcer.store.manifests.documents import Document
from announcer.store.manifests.files import STATUS_FOLDER, Look, look
from announcer.store.manifests.inotify import Watcher

GATHER_SECONDS, QUIET_SECONDS, GONE_SECONDS, RESCAN_SECONDS = 0.002, 1.0, 10.0, 30.0
NODE_ANNOUNCEMENT = ("announcer.io/v1alpha1", "NodeAnnouncement")
Identity = tuple[str, str, str]
"""Kind, namespace (empty where the kind has none), name."""


@dataclass(slots=True)
class _Entry:
    """An object in force. `missing_since` is when it was first not found any more, in monotonic seconds."""

    document: Document
    status: Mapping[str, Any] | None
    parsed: Parsed
    missing_since: float | None = None


class ManifestStore:
    """`parse` makes a Parsed of one raw object with its status in it, `assemble` a Snapshot of all of them."""

    def __init__(
        self,
        root: Path,
        *,
        parse: Callable[[Mapping[str, Any], str], Parsed],
        assemble: Callable[[Iterable[Parsed]], Snapshot],
        clock: Callable[[], float] = time.monotonic,
        settle_seconds: float = QUIET_SECONDS,
    ) -> None:
        self._root, self._parse, self._assemble, self._clock = root, parse, assemble, clock
        self._look = Look(manifests={}, statuses={})
        self._settle_seconds, self._settles_at = settle_seconds, clock() + settle_seconds
        self._entries: dict[Identity, _Entry] = {}
        self._problems: tuple[Parsed, ...] = ()
        self._statuses: dict[Identity, Mapping[str, Any]] = {}
        self._ours: set[Identity] = set()
        self._snapshot: Snapshot | None = None
        self._health = StoreHealth(is_synced=False, message=f"{root} has not been read yet")
        self._away_since: float | None = None

    def snapshot(self) -> Snapshot | Unknown:
        if not self._health.is_synced:
            return UNKNOWN
        if self._snapshot is None:
            self._snapshot = self._assemble([*(entry.parsed for entry in self._entries.values()), *self._problems])
        return self._snapshot

    async def latest(self) -> Snapshot | Unknown:
        return self.snapshot()

    def health(self) -> StoreHealth:
        away = 0.0 if self._away_since is None else self._clock() - self._away_since
        return replace(self._health, away_seconds=away)

    async def run(self, wake: Callable[[], None]) -> None:
        """For ever: look, tell, and wait for the next change."""
        watcher = Watcher()
        try:
            while True:
                if self._take(await asyncio.to_thread(look, self._root, self._look, watcher.watch)):
                    wake()
                if await watcher.wait(self._patience()):
                    await asyncio.sleep(GATHER_SECONDS)
                elif self._expire(QUIET_SECONDS / 2):
                    wake()
        finally:
            watcher.close()

    def release(self) -> None:
        """SIGHUP: nothing is held here; a folder that is gone or empty is waited for."""

    async def refresh(self) -> None:
        """What was written is read back by the next look; there is nobody else who writes."""

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
        """Replace the status of one object; nothing is written where it is equal. Raises StoreError.

        There is no fsync: a status that a crash of the machine takes away is computed again. Nobody else writes, so
        `basis` still holds.
        """
        key = (ref.kind, ref.namespace, ref.name)
        self._ours.add(key)
        if self._statuses.get(key) == status:
            return
        entry = self._entries.get(key)
        version = entry.document.raw["apiVersion"] if entry else NODE_ANNOUNCEMENT[0]
        metadata: dict[str, object] = {"name": ref.name}
        metadata |= {"namespace": ref.namespace} if ref.namespace else {}
        metadata |= {"annotations": dict(annotations)} if annotations else {}
        text = json.dumps({"apiVersion": version, "kind": ref.kind, "metadata": metadata, "status": status}, indent=1)
        try:
            if not self._root.is_dir():
                raise FileNotFoundError(f"there is no folder {self._root}")
            _write(self._root, self._path(key), text + "\n")
        except OSError as error:
            raise StoreError(f"{self._path(key)} was not written: {error}") from error
        self._statuses[key] = dict(status)

    async def remove(self, ref: ObjectRef) -> None:
        """Nothing is made here that would have to go."""

    def _patience(self) -> float:
        """Seconds until a look is due although nothing happened."""
        if self._look.manifests and not self._health.is_synced:
            return max(0.0, self._settles_at - self._clock())
        is_waiting = any(entry.missing_since is not None for entry in self._entries.values())
        return QUIET_SECONDS if is_waiting else RESCAN_SECONDS

    # -- looking ---------------------------------------------------------------------------------------------------

    def _take(self, found: Look | None) -> bool:
        """Bring what is in force up to what was found; whether anything changed."""
        before = self._health
        if found is None or not found.manifests or not any(f.contents.documents for f in found.manifests.values()):
            what = "is gone or can't be read" if found is None else "has no object in it"
            then = "; what it said before stays in force" if before.is_synced else ""
            self._health = replace(before, is_stale=before.is_synced, message=f"{self._root} {what}{then}")
            self._away_since = self._clock() if self._away_since is None else self._away_since
            return before != self._health
        self._away_since = None
        same = found.manifests == self._look.manifests and found.statuses == self._look.statuses
        if not before.is_synced and not self._is_settled(found):
            return False
        self._look, self._health = found, StoreHealth(is_synced=True)
        if same and before == self._health:
            return False
        is_news = self._update(found)
        return is_news or before != self._health

    def _is_settled(self, found: Look) -> bool:
        """Whether the manifests have stayed as they are for long enough to believe that they are all."""
        if found.manifests != self._look.manifests:
            self._settles_at = self._clock() + self._settle_seconds
            self._look = Look(manifests=found.manifests, statuses={})
        return self._clock() >= self._settles_at

    def _update(self, found: Look) -> bool:
        """Whether anything means something else than before: most reports of other nodes don't."""
        before = self._problems
        self._statuses = {key: raw.get("status") or {} for key, raw in _statuses(found)}
        documents, twins, problems = _settle(found)
        is_news = False
        for key, document in documents.items():
            is_news |= self._put(key, document)
        for key, raw in _statuses(found):
            if key[0] == NODE_ANNOUNCEMENT[1]:
                is_news |= self._put(key, Document(raw=raw, source=f"{STATUS_FOLDER}: {key[2]}"))
                documents[key] = self._entries[key].document
        for key in self._entries.keys() - documents.keys():
            entry = self._entries[key]
            entry.missing_since = self._clock() if entry.missing_since is None else entry.missing_since
        problems += [problem for twin in twins for problem in self._parse(twin.raw, twin.source).problems]
        self._problems = tuple(Parsed(ref=p.ref, value=None, problems=(p,)) for p in problems)
        self._snapshot = None  # where things stand is in it too, and is no news
        return self._expire(GONE_SECONDS) or is_news or self._problems != before

    def _put(self, key: Identity, document: Document) -> bool:
        """Parse an object again only if it or its status changed. Whether it means something else then."""
        status, old = self._statuses.get(key), self._entries.get(key)
        if old is not None and old.document == document and old.status == status:
            old.missing_since = None
            return False
        raw = {**document.raw, "status": _merged(document.raw.get("status"), status)} if status else document.raw
        parsed = self._parse(raw, document.source)
        if parsed.value is None and parsed.problems and old is not None and old.parsed.value is not None:
            parsed = replace(parsed, value=old.parsed.value)
        self._entries[key] = _Entry(document=document, status=status, parsed=parsed)
        return parsed.differs_from(old.parsed if old else None)

    def _expire(self, after: float) -> bool:
        """Objects that have been missing for so long are gone, and so are the statuses that we wrote for them. Whether
        there were any.
        """
        now, count = self._clock(), len(self._entries)
        for key, entry in list(self._entries.items()):
            if entry.missing_since is not None and now - entry.missing_since >= after and not self._health.is_stale:
                del self._entries[key]
                self._snapshot = None
                if key in self._ours and key[0] != NODE_ANNOUNCEMENT[1]:
                    self._path(key).unlink(missing_ok=True)
        return len(self._entries) < count

    def _path(self, key: Identity) -> Path:
        kind, namespace, name = key
        return self._root / STATUS_FOLDER / kind.lower() / (namespace or "_cluster") / f"{name}.json"


def _settle(found: Look) -> tuple[dict[Identity, Document], list[Document], list[Problem]]:
    """One document per object, in the order of Look; the others, whose own mistakes are shown too; Problems."""
    documents: dict[Identity, Document] = {}
    twins: list[Document] = []
    problems: list[Problem] = []
    for file in found.manifests.values():
        problems += file.contents.problems
        for document in file.contents.documents:
            key = _identity(document.raw)
            first = documents.setdefault(key, document)
            if first is not document:
                twins.append(document)
                problems.append(_twin(key, document, first))
    return documents, twins, problems


def _twin(key: Identity, document: Document, first: Document) -> Problem:
    return Problem(
        ref=ObjectRef(kind=key[0], namespace=key[1], name=key[2], source=document.source),
        field="metadata.name",
        value=key[2],
        message=f"stands in {first.source} too, and that one counts",
        remedy="remove or rename one of both",
        reason=Reason.DUPLICATE_OBJECT,
    )


def _identity(raw: Mapping[str, Any]) -> Identity:
    metadata = raw.get("metadata")
    found = metadata if isinstance(metadata, Mapping) else {}
    namespace = "" if raw["kind"] in CLUSTER_SCOPED else str(found.get("namespace") or "default")
    return raw["kind"], namespace, str(found.get("name") or "")


def _statuses(found: Look) -> list[tuple[Identity, Mapping[str, Any]]]:
    return [(_identity(d.raw), d.raw) for file in found.statuses.values() for d in file.contents.documents]


def _merged(manifest: object, written: Mapping[str, Any]) -> Mapping[str, Any]:
    """What we wrote over what the manifest itself has (a Node's conditions, say)."""
    return {**(manifest if isinstance(manifest, Mapping) else {}), **written}


def _write(root: Path, path: Path, text: str) -> None:
    """Whole or not at all: others read at any moment. The name starts with a dot, so that no look takes it.

    Folders are made one by one: a root that is gone, also since a moment ago, is not ours to make again.
    """
    for folder in reversed(path.relative_to(root).parents[:-1]):
        (root / folder).mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
