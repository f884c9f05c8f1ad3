"""A store in memory: objects in their raw form, statuses beside them as the real ones keep them."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from announcer.core.dialects import assemble, parse
from announcer.core.model import UNKNOWN, ObjectRef, Snapshot, Unknown
from announcer.core.report import Note, Tell, tell_nothing
from announcer.store import StoreError, StoreHealth
from tests.builders import Raw

Key = tuple[str, str, str]
MADE = {
    "NodeAnnouncement": "announcer.io/v1alpha1",
    "ServiceL2Status": "metallb.io/v1beta1",
    "ServiceBGPStatus": "metallb.io/v1beta1",
}


class FakeStore:
    def __init__(self, *objects: Raw) -> None:
        self.objects: dict[Key, Raw] = {}
        self.statuses: dict[Key, Mapping[str, Any]] = {}
        self.annotations: dict[Key, Mapping[str, str]] = {}
        self.bases: dict[Key, object] = {}
        self.notes: list[Note] = []
        self.writes = self.refreshes = self.releases = self.looks = 0
        self.is_synced = self.is_writable = True
        self.is_held = False
        self._wakes: list[Callable[[], None]] = []
        self.put(*objects)

    def put(self, *objects: Raw) -> None:
        for one in objects:
            self.objects[_key(one)] = one
        self.tell()

    def delete(self, one: Raw) -> None:
        del self.objects[_key(one)]
        self.tell()

    def tell(self) -> None:
        for wake in self._wakes:
            wake()

    async def latest(self) -> Snapshot | Unknown:
        self.looks += 1
        return self.snapshot()

    def snapshot(self) -> Snapshot | Unknown:
        if not self.is_synced:
            return UNKNOWN
        found = [one | self._status(key, one) for key, one in self.objects.items()]
        return assemble(parse(one) for one in found)

    async def run(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)
        wake()
        await asyncio.Event().wait()

    def release(self) -> None:
        self.releases += 1

    async def refresh(self) -> None:
        self.refreshes += 1

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
        if not self.is_writable:
            raise StoreError("no space left on device")
        key = (ref.kind, ref.namespace, ref.name)
        self.bases[key] = basis
        if self.statuses.get(key) == status:
            return
        self.writes += 1
        before = self.statuses.get(key) or self.objects.get(key, {}).get("status") or {}
        self.statuses[key], self.annotations[key] = dict(status), dict(annotations or {})
        self.notes += tell(before)
        if ref.kind in MADE:
            metadata = {"name": ref.name, "namespace": ref.namespace, "labels": dict(labels or {})}
            self.objects[key] = {"apiVersion": MADE[ref.kind], "kind": ref.kind, "metadata": metadata}
        self.tell()

    async def remove(self, ref: ObjectRef) -> None:
        key = (ref.kind, ref.namespace, ref.name)
        self.statuses.pop(key, None)
        if self.objects.pop(key, None):
            self.tell()

    def health(self) -> StoreHealth:
        since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) if self.is_held else None
        message = "held" if self.is_held else ""
        return StoreHealth(is_synced=self.is_synced, message=message, held_since=since)

    def _status(self, key: Key, one: Raw) -> Raw:
        return {"status": {**one.get("status", {}), **self.statuses[key]}} if key in self.statuses else {}


def _key(one: Raw) -> Key:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]
