"""Leader election on a Lease (coordination.k8s.io/v1): at most one leader at any moment, by monotonic time only.

| seconds, default | meaning |
|---|---|
| duration 12 | others take over when the Lease hasn't changed for so long, by their own clock |
| deadline 7 | the leader stops leading when its last good renewal was *sent* so long ago |
| retry 2 | between two renewals, and between two looks of the others |

A write that the leader began just before its deadline has ended by its own timeout (5 s) before anybody else leads, so
there are never two. Wall-clock times in the Lease are for people; nothing is decided by them, so clocks may jump and
differ. A Lease changes hands by compare-and-swap on its resourceVersion. SIGTERM releases it at once.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from announcer.log import fields
from announcer.store.kubernetes.client import ApiError, Client

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    duration_seconds: float = 12.0
    deadline_seconds: float = 7.0
    retry_seconds: float = 2.0
    request_seconds: float = 2.0

    @classmethod
    def of(cls, duration_seconds: float) -> "LeaseTiming":
        """The other times in proportion to the duration, which must leave room for a write to end (5 s)."""
        share = duration_seconds / 12.0
        return cls(
            duration_seconds=duration_seconds,
            deadline_seconds=duration_seconds - 5.0,
            retry_seconds=2.0 * share,
            request_seconds=2.0 * share,
        )

    def __post_init__(self) -> None:
        if not self.retry_seconds + self.request_seconds <= self.deadline_seconds < self.duration_seconds:
            raise ValueError("a lease needs retry + request <= deadline < duration")


class Lease:
    """`is_leader` may be asked at any moment. `clock` must go on while the machine is suspended (CLOCK_BOOTTIME)."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        timing: LeaseTiming = LeaseTiming(),
    ) -> None:
        self._client, self._identity, self._clock, self._timing = client, identity, clock, timing
        self._namespace, self._name = namespace, name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._leads_until = 0.0
        self._seen_version, self._seen_since = "", 0.0
        self._error = ""

    def is_leader(self) -> bool:
        return self._clock() < self._leads_until

    async def run(self, on_change: Callable[[], None]) -> None:
        """For ever: try to lead, and go on leading. `on_change` is called when leading begins or ends."""
        led = False
        while True:
            try:
                await self._round()
                self._error = ""
            except ApiError as error:
                self._note(error)
            if led is not self.is_leader():
                led = self.is_leader()
                log.info("leading begins" if led else "leading ends", extra=fields(lease=self._name, by=self._identity))
                on_change()
            await asyncio.sleep(self._timing.retry_seconds * random.uniform(0.9, 1.1))  # noqa: S311 - spreads

    async def release(self) -> None:
        """Let go at once, if we lead."""
        if not self.is_leader():
            return
        try:
            found = await self._get()
            if found is not None and _holder(found) == self._identity:
                self._leads_until = 0.0
                await self._put(found, holder="", seconds=1)
                log.info("lease released", extra=fields(lease=self._name))
        except ApiError as error:
            self._note(error)

    async def _round(self) -> None:
        sent_at = self._clock()
        found = await self._get()
        if found is None:
            await self._create()
        elif _holder(found) != self._identity and not self._is_free(found):
            return
        else:
            await self._put(found, holder=self._identity, seconds=self._timing.duration_seconds)
        self._leads_until = sent_at + self._timing.deadline_seconds

    def _is_free(self, found: Mapping[str, Any]) -> bool:
        """Nobody's, or unchanged for as long as its holder said, counted from when we first saw it so."""
        now, version = self._clock(), str(found["metadata"].get("resourceVersion"))
        if version != self._seen_version:
            self._seen_version, self._seen_since = version, now
        stated = (found.get("spec") or {}).get("leaseDurationSeconds") or 0
        return not _holder(found) or now - self._seen_since >= max(stated, self._timing.duration_seconds)

    async def _get(self) -> dict[str, Any] | None:
        try:
            data = await self._request("GET", f"{self._collection}/{self._name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return data

    async def _create(self) -> None:
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
        await self._request("POST", self._collection, {**body, "spec": self._spec(None, self._identity, None)})

    async def _put(self, found: Mapping[str, Any], *, holder: str, seconds: float) -> None:
        """Replace what was read; the resourceVersion in it makes this a compare-and-swap."""
        body = {**found, "spec": self._spec(found.get("spec") or {}, holder, seconds)}
        await self._request("PUT", f"{self._collection}/{self._name}", body)

    def _spec(self, old: Mapping[str, Any] | None, holder: str, seconds: float | None) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        changes = old is None or old.get("holderIdentity") != holder
        transitions = int((old or {}).get("leaseTransitions") or 0) + (1 if old and changes and holder else 0)
        return {
            **(old or {}),
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(seconds or self._timing.duration_seconds)),
            "leaseTransitions": transitions,
            "renewTime": now,
            **({"acquireTime": now} if changes else {}),
        }

    async def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = await self._client.request(method, path, body=body, timeout_seconds=self._timing.request_seconds)
        try:
            found = msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ApiError(f"{method} {path}: answered by something else: {error}") from error
        if not isinstance(found.get("metadata"), dict):
            raise ApiError(f"{method} {path}: answered by something else than a Lease")
        return found

    def _note(self, error: ApiError) -> None:
        if error.status == 409:  # somebody was quicker: that is how it is meant to be
            return
        if self._error != str(error):
            log.warning("lease not renewed", extra=fields(lease=self._name, leads=self.is_leader(), error=error))
        self._error = str(error)


def _holder(found: Mapping[str, Any]) -> str:
    return str((found.get("spec") or {}).get("holderIdentity") or "")
