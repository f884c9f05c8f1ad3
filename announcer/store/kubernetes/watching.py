"""One resource kept up to date: a list in pages, then a watch, for ever, whatever the server does.

| what the server does | answer |
|---|---|
| ends a watch in order | watch again from the last version seen |
| resets, restarts, is silent for `idle` seconds | the same; but list again where its versions are older than ours |
| 410, as an event or as a status | list again, whole; the sink compares |
| 403, 429, 5xx, no JSON | wait (Retry-After, else back-off with jitter) and try the same again |
| 404 on every version of the resource | an empty list: nobody has installed it; look again now and then |

What the sink knows is only ever replaced by a complete list or changed by an event. A server that was restored from a
backup has older versions; a watch from a newer one would just be silent there, so it is asked after every failure.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from announcer.store.kubernetes.client import ApiError, Client
from announcer.store.kubernetes.resources import Bookmark, Decoder, Event, Failure, Page, Resource

GONE = 410
BREATHE_EVERY = 25
"""Objects read between two moments in which the loop may do something else: some 3 ms of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. A watch is asked for at random between the two bounds, so that agents don't all come back at once."""

    page: float = 15.0
    idle: float = 75.0
    watch_least: int = 240
    watch_most: int = 480
    retry_first: float = 0.8
    retry_most: float = 30.0
    stable: float = 10.0
    absent: float = 15.0
    page_size: int = 500


class Sink(Protocol):
    """Where a reflector puts what it learns."""

    async def listed(self, resource: Resource, version: str, objects: list[dict[str, Any]]) -> float | None:
        """A whole list. None accepts it, else the seconds after which it has to be asked for again."""
        ...

    def changed(self, resource: Resource, kind: str, raw: dict[str, Any]) -> None:
        """An event: ADDED, MODIFIED or DELETED."""
        ...

    def failed(self, resource: Resource, error: ApiError) -> None: ...

    def works(self, resource: Resource) -> None: ...


class _GoneError(Exception):
    pass


class Reflector:
    """`run` never ends and raises nothing but bugs."""

    def __init__(
        self, client: Client, resource: Resource, sink: Sink, clock: Callable[[], float], timing: Timing
    ) -> None:
        self._client, self._resource, self._sink, self._clock, self._timing = client, resource, sink, clock, timing
        self._retry = timing.retry_first
        self._version = ""
        self._seen = ""
        """The resourceVersion up to which everything is known; empty before the first list and after a 410."""
        self._is_unsure = False
        """Whether the server may have been another one since."""

    async def run(self) -> None:
        while True:
            began = self._clock()
            try:
                if not self._seen and (pause := await self._list()) is not None:
                    await asyncio.sleep(pause)
                    continue
                if self._is_unsure:
                    await self._check_version()
                await self._watch()
                error = None
            except _GoneError:
                self._seen, error = "", None
            except ApiError as caught:
                error = caught
                self._sink.failed(self._resource, caught)
            lived = self._clock() - began
            self._is_unsure = error is not None or lived < self._timing.stable
            await self._back_off(error, lived=lived)

    async def refresh(self) -> None:
        """List now, beside the watch that goes on: events older than the list are no news to the sink."""
        try:
            await self._list()
        except _GoneError as error:
            raise ApiError(f"list of {self._resource.plural}: it took too long") from error

    async def _back_off(self, error: ApiError | None, *, lived: float) -> None:
        """A stream that lived for a while ended in order; everything quicker than that is spread out."""
        if lived >= self._timing.stable:
            self._retry = self._timing.retry_first
            if error is None:
                return
        pause = self._retry * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, guards nothing
        if error is not None and error.retry_after_seconds is not None:
            pause = max(pause, min(error.retry_after_seconds, self._timing.retry_most))
        self._retry = min(self._retry * 2, self._timing.retry_most)
        await asyncio.sleep(pause)

    async def _list(self) -> float | None:
        """Seconds until the next try, None where the list counts and a watch may begin."""
        for version in self._resource.versions:
            try:
                objects, seen = await self._pages(version)
            except ApiError as error:
                if error.status != 404:
                    raise
                continue
            pause = await self._sink.listed(self._resource, version, objects)
            if pause is None:
                self._version, self._seen = version, seen
                self._sink.works(self._resource)
            return pause
        return await self._sink.listed(self._resource, "", []) or self._timing.absent

    async def _pages(self, version: str) -> tuple[list[dict[str, Any]], str]:
        decode = Decoder(self._resource, version)
        objects: list[dict[str, Any]] = []
        token = ""
        while True:
            query = {"limit": str(self._timing.page_size)} | ({"continue": token} if token else {})
            path = self._resource.collection(version)
            try:
                data = await self._client.request("GET", path, query=query, timeout_seconds=self._timing.page)
                page = msgspec.json.decode(data, type=Page)
                for count, item in enumerate(page.items, 1):
                    objects.append(decode(item))
                    if count % BREATHE_EVERY == 0:
                        await asyncio.sleep(0)
            except msgspec.DecodeError as error:
                raise ApiError(f"GET {path}: not a list of {self._resource.kind}: {error}") from error
            except ApiError as error:
                if error.status == GONE:  # the continue token is too old
                    raise _GoneError from error
                raise
            token = page.metadata.continue_
            if not token:
                return objects, page.metadata.resource_version

    async def _check_version(self) -> None:
        path = self._resource.collection(self._version)
        data = await self._client.request("GET", path, query={"limit": "1"}, timeout_seconds=self._timing.page)
        try:
            now = msgspec.json.decode(data, type=Page).metadata.resource_version
        except msgspec.DecodeError as error:
            raise ApiError(f"GET {path}: not a list of {self._resource.kind}: {error}") from error
        if is_older(now, self._seen):
            raise _GoneError
        self._is_unsure = False

    async def _watch(self) -> None:
        timing, decode = self._timing, Decoder(self._resource, self._version)
        seconds = random.randint(timing.watch_least, timing.watch_most)  # noqa: S311 - spreads, guards nothing
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._seen,
            "timeoutSeconds": str(seconds),
        }
        path = self._resource.collection(self._version)
        lines = self._client.stream(path, query=query, idle_seconds=timing.idle)
        count = 0
        try:
            async for line in lines:
                self._take(line, decode)
                count += 1
                if count == 1:
                    self._sink.works(self._resource)
                if count % BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
        except msgspec.DecodeError as error:
            raise ApiError(f"GET {path}: not an event: {error}") from error
        except ApiError as error:
            if error.status == GONE:
                raise _GoneError from error
            raise

    def _take(self, line: bytes, decode: Decoder) -> None:
        event = msgspec.json.decode(line, type=Event)
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                raw = decode(event.object)
                self._sink.changed(self._resource, event.type, raw)
                self._seen = str(raw["metadata"].get("resourceVersion") or self._seen)
            case "BOOKMARK":
                found = msgspec.json.decode(event.object, type=Bookmark)
                self._seen = found.metadata.resource_version or self._seen
            case "ERROR":
                failure = msgspec.json.decode(event.object, type=Failure)
                if failure.code == GONE:
                    raise _GoneError
                raise ApiError(f"watch of {self._resource.plural}: {failure.message}", status=failure.code)
            case _:
                raise msgspec.DecodeError(f"unknown type {event.type!r}")


def is_older(version: str, than: str) -> bool:
    """resourceVersions are decimal and comparable from Kubernetes 1.35 on, and were so in every release before."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
