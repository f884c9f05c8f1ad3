"""Leader election on a Lease (coordination.k8s.io/v1): at most one leader at any moment, by monotonic time only.

| seconds, default | meaning |
|---|---|
| duration 12 | others take over when the Lease hasn't changed for so long, by their own clock |
| deadline 7 | the leader stops leading when its last good renewal was *sent* so long ago |
| retry 1 | between two renewals, and between two looks of the others |

| the Lease | who looks at it may lead |
|---|---|
| names us, or nobody (it was released) | at once |
| names another | when it stays so for `duration`; who led stops at once |
| is older than what we saw: a restored server | when it stays so for `duration`, but for the leader that it names |
| was there and is gone | its leader makes it again at once; another when it stays so for `duration` |
| isn't there when we first look | after two `retry`, in which a leader would have made it again |

Wall-clock times in the Lease are for people; nothing is decided by them, so those clocks may jump and differ. Of two
monotonic clocks a leader goes by the one that is ahead (CLOCK_BOOTTIME goes on in suspend), who waits by the one that
is behind; so one of them may jump. A Lease changes hands by compare-and-swap on its resourceVersion.

A write that the leader began just before its deadline is given up by the client, the kernel and the API server 5 s
later at the latest, which is when the next one may begin; what etcd was already asked for can't be called back. Against
that Services are written by compare-and-swap, and whoever begins to lead reads everything first.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from announcer.log import fields
from announcer.store.kubernetes.client import ApiError, Client
from announcer.store.kubernetes.watching import NOT_FOUND, is_older
from announcer.store.kubernetes.writing import WRITE_SECONDS

log = logging.getLogger(__name__)
CONFLICT = 409
HELD = "announcer.io/held"
"""Annotation of the Lease: since when (RFC 3339), a space, and why its holder doesn't believe what the server lists."""
NEVER = (-math.inf, -math.inf)
SPREAD = 1.1
RELEASE_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    duration_seconds: float = 12.0
    deadline_seconds: float = 7.0
    retry_seconds: float = 1.0
    request_seconds: float = 2.0

    @classmethod
    def of(cls, duration_seconds: float) -> "LeaseTiming":
        """The other times in proportion to the duration, which must leave room for a write to end (5 s)."""
        share = duration_seconds / 12.0
        return cls(
            duration_seconds=duration_seconds,
            deadline_seconds=duration_seconds - WRITE_SECONDS,
            retry_seconds=1.0 * share,
            request_seconds=2.0 * share,
        )

    def __post_init__(self) -> None:
        """A renewal is a read and a write, and begins up to a tenth late."""
        if min(self.request_seconds, self.retry_seconds) <= 0:
            raise ValueError("a lease needs times above 0")
        if not SPREAD * self.retry_seconds + 2 * self.request_seconds <= self.deadline_seconds < self.duration_seconds:
            raise ValueError(
                f"a lease of {self.duration_seconds:g} s is too short: 1.1 retry + 2 requests <= deadline < duration"
            )


class Lease:
    """`is_leader` may be asked at any moment."""

    def __init__(  # noqa: PLR0913 - two clocks
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
        timing: LeaseTiming = LeaseTiming(),
        held: Callable[[], str] = str,
    ) -> None:
        """`held` is what the annotation HELD says at the next renewal, empty for none."""
        self._held = held
        self._client, self._identity, self._timing = client, identity, timing
        self._clocks = (clock, steady)
        self._namespace, self._name = namespace, name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._leads_until = NEVER
        self._seen_version: str | None = None
        """Of the Lease at the last look: empty where there was none, None before the first."""
        self._last_version = ""
        self._seen_since, self._patience = NEVER, 0.0
        self._is_over = False
        self._error = ""
        self.term = 0
        """How often leading has begun: between two terms somebody else may have written."""

    def is_leader(self) -> bool:
        return all(now < until for now, until in zip(self._now(), self._leads_until, strict=True))

    async def run(self, on_change: Callable[[], None]) -> None:
        """For ever: try to lead, and go on leading. `on_change` is called when leading begins, also anew, or ends."""
        led, term = False, self.term
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
            elif term != self.term:  # it ended and began again within one round
                on_change()
            term = self.term
            pause = self._timing.retry_seconds * random.uniform(2 - SPREAD, SPREAD)  # noqa: S311 - spreads
            wait = self._wait()
            await asyncio.sleep(min(pause, wait) if wait > 0 else pause)

    async def release(self) -> None:
        """Never lead again, and let others at once where the Lease is ours."""
        self._leads_until, self._is_over = NEVER, True
        for _ in range(RELEASE_TRIES):
            try:
                found = await self._get()
                if found is not None and _holder(found) == self._identity:
                    await self._put(found, holder="", seconds=1)
                    log.info("lease released", extra=fields(lease=self._name))
            except ApiError as error:
                self._note(error)
                if error.status == CONFLICT:  # our own last renewal was under way
                    continue
            return

    async def _round(self) -> None:
        sent_at = self._now()
        found = None if self._is_over else await self._get()
        if self._is_over:
            return
        if found is not None and _holder(found) != self._identity:
            self._leads_until = NEVER
        if not self._is_free(found):
            return
        if found is None:
            await self._create()
        else:
            await self._put(found, holder=self._identity, seconds=self._timing.duration_seconds)
        if not self._is_over:
            self.term += not self.is_leader()
            self._leads_until = (sent_at[0] + self._timing.deadline_seconds, sent_at[1] + self._timing.deadline_seconds)

    def _is_free(self, found: Mapping[str, Any] | None) -> bool:
        version = "" if found is None else str(found["metadata"].get("resourceVersion"))
        if version != self._seen_version:
            self._patience = self._patience_with(found, version)
            self._seen_version, self._seen_since = version, self._now()
            self._last_version = version or self._last_version
        return self._wait() <= 0

    def _patience_with(self, found: Mapping[str, Any] | None, version: str) -> float:
        """Seconds for which a Lease that has just been seen for the first time has to stay as it is."""
        duration = self._timing.duration_seconds
        if self.is_leader():
            return 0.0
        if found is None:
            return 2 * self._timing.retry_seconds if self._seen_version is None else duration
        if is_older(version, self._last_version):
            return duration
        stated = (found.get("spec") or {}).get("leaseDurationSeconds") or 0
        return 0.0 if _holder(found) in {"", self._identity} else max(stated, duration)

    def _wait(self) -> float:
        """Seconds until the Lease would be free if it stayed as it is, by the clock that is behind."""
        return self._patience - min(now - since for now, since in zip(self._now(), self._seen_since, strict=True))

    def _now(self) -> tuple[float, float]:
        return self._clocks[0](), self._clocks[1]()

    async def _get(self) -> dict[str, Any] | None:
        try:
            data = await self._request("GET", f"{self._collection}/{self._name}")
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return data

    async def _create(self) -> None:
        metadata = self._metadata({"name": self._name}, self._held())
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        await self._request("POST", self._collection, {**body, "spec": self._spec(None, self._identity, None)})

    async def _put(self, found: Mapping[str, Any], *, holder: str, seconds: float) -> None:
        """Replace what was read; the resourceVersion in it makes this a compare-and-swap."""
        metadata = self._metadata(found["metadata"], self._held() if holder else "")
        body = {**found, "metadata": metadata, "spec": self._spec(found.get("spec") or {}, holder, seconds)}
        await self._request("PUT", f"{self._collection}/{self._name}", body)

    def _metadata(self, old: Mapping[str, Any], held: str) -> dict[str, Any]:
        others = {name: value for name, value in (old.get("annotations") or {}).items() if name != HELD}
        return {**old, "annotations": {**others, **({HELD: held} if held else {})}}

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
        if error.status == CONFLICT:  # somebody was quicker: that is how it is meant to be
            return
        if self._error != str(error):
            log.warning("lease not renewed", extra=fields(lease=self._name, leads=self.is_leader(), error=error))
        self._error = str(error)


async def read_held(client: Client, namespace: str, name: str) -> tuple[str, str]:
    """Who leads by a Lease, and its annotation HELD; both empty where it can't be read: nobody has to be allowed to."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
    try:
        data = await client.request("GET", path, timeout_seconds=LeaseTiming().request_seconds)
        found = msgspec.json.decode(data, type=_Held)
    except (ApiError, msgspec.DecodeError):
        return "", ""
    return found.spec.holder, (found.metadata.annotations or {}).get(HELD, "")


class _HeldMetadata(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _HeldSpec(msgspec.Struct, rename={"holder": "holderIdentity"}):
    holder: str = ""


class _Held(msgspec.Struct):
    metadata: _HeldMetadata
    spec: _HeldSpec


def _holder(found: Mapping[str, Any]) -> str:
    return str((found.get("spec") or {}).get("holderIdentity") or "")
