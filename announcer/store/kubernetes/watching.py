"""One resource kept up to date: a list in pages, then a watch, for ever, whatever the server does.

| what the server does | answer |
|---|---|
| ends a watch in order | watch again from the last version seen, unless its versions are older than that |
| ends it at once, resets, restarts, is silent for `idle` seconds | the same, after a back-off, and it is an error |
| 410, as an event or as a status | list again, whole; the sink compares |
| 403, 429, 5xx, no JSON | wait (Retry-After, else back-off with jitter) and try the same again |
| 404 on a kind that somebody has to install, and discovery agrees | an empty list; look again now and then |
| serves nobody | one reflector asks for all, `asking` seconds after it failed at most; then one after the other |

What the sink knows is only ever replaced by a complete list or changed by an event, and by one of them at a time. A
server that was restored from a backup has older versions; a watch from a newer one would just be silent there.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from announcer.store.kubernetes.client import ApiError, Client, NoAnswerError
from announcer.store.kubernetes.outage import Turns
from announcer.store.kubernetes.resources import Bookmark, Decoder, Event, Failure, Names, Page, Resource

NOT_FOUND, GONE = 404, 410
BREATHE_EVERY = 25
"""Objects read between two moments in which the loop may do something else: some 3 ms of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. A watch is asked for at random between the two bounds, so that agents don't all come back at once.

    A watch that was open for `works` counts as working, one that was for `stable` resets the back-off. That another
    kind works again ends a back-off at most every `nudge`. Of a server that serves nobody, the one that asks waits for
    `asking` at most, the others for `retry_most` unless it is their turn before. A list that lacks too much is asked
    for again every `hold_look`, and believed when it still says so after `hold`. A Secret is read again every
    `secret`, sooner while one that is named can't be.
    """

    page: float = 15.0
    idle: float = 75.0
    watch_least: int = 240
    watch_most: int = 480
    retry_first: float = 0.8
    retry_most: float = 30.0
    asking: float = 5.0
    works: float = 1.0
    stable: float = 10.0
    nudge: float = 5.0
    absent: float = 15.0
    hold: float = 30.0
    hold_look: float = 5.0
    secret: float = 30.0
    page_size: int = 500


class Sink(Protocol):
    """Where a reflector puts what it learns: `listing`, any number of `found`, then `listed`; or events."""

    def listing(self, resource: Resource, version: str) -> None:
        """A list begins; one that began before and didn't end is void."""
        ...

    def found(self, resource: Resource, raw: dict[str, Any]) -> None: ...

    async def listed(self, resource: Resource, seen: str) -> float | None:
        """The list is whole. None accepts it, else the seconds after which it has to be asked for again."""
        ...

    def changed(self, resource: Resource, kind: str, raw: dict[str, Any]) -> None:
        """An event: ADDED, MODIFIED or DELETED."""
        ...

    def failed(self, resource: Resource, error: ApiError) -> None: ...

    def works(self, resource: Resource) -> None: ...


_Answer = TypeVar("_Answer", Page, Names)


class _GoneError(Exception):
    pass


class Reflector:
    """`run` never ends and raises nothing but bugs. All of one client share `turns`."""

    def __init__(
        self, client: Client, resource: Resource, sink: Sink, clock: Callable[[], float], timing: Timing, turns: Turns
    ) -> None:
        self._client, self._resource, self._sink, self._clock, self._timing = client, resource, sink, clock, timing
        self._turns = turns
        self._retry = timing.retry_first
        self._version = ""
        self._seen = ""
        """The resourceVersion up to which everything is known; empty before the first list and after a 410."""
        self._is_unsure = False
        """Whether the server may have been another one since."""
        self._is_absent = False
        self._opened_at: float | None = None
        self._asked: list[asyncio.Future[None]] = []
        self._nudged = asyncio.Event()
        self._nudged_at = -math.inf
        self._watching: asyncio.Timeout | None = None

    async def run(self) -> None:
        while True:
            error, self._opened_at = None, None
            try:
                if not self._seen and (pause := await self._list()) is not None:
                    self._turns.pass_on()
                    await self._sleep(pause)
                    continue
                if self._is_unsure:
                    await self._check_version()
                await self._watch()
            except _GoneError:
                self._seen = ""
            except ApiError as caught:
                error = caught
                self._seen = "" if caught.status in {NOT_FOUND, GONE} else self._seen
                self._sink.failed(self._resource, caught)
                asked, self._asked = self._asked, []  # who asked for a list asks again, after a back-off of their own
                _tell(asked, caught)
            self._is_unsure = True
            if not isinstance(error, NoAnswerError) or self._turns.is_serving:
                self._turns.pass_on()
            if error is not None and error.retry_after_seconds is not None:
                await asyncio.sleep(self._pause(error))  # what the server asked for is not cut short by anybody
            elif not self._asked:
                await self._back_off(error)

    async def refresh(self) -> None:
        """Know everything that was written before this call: a list that begins now has been accepted."""
        asked = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._nudged.set()
        if self._watching is not None:
            self._watching.reschedule(asyncio.get_running_loop().time())
        await asked

    def nudge(self) -> None:
        """The server answers others: no need to wait for the end of a back-off, but now and then."""
        now = self._clock()
        if now - self._nudged_at >= self._timing.nudge:
            self._nudged_at = now
            self._nudged.set()

    async def _sleep(self, seconds: float) -> None:
        if self._asked:
            return
        self._nudged.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudged.wait()

    async def _back_off(self, error: ApiError | None) -> None:
        """A watch that lived for a while ended in order; everything quicker than that is spread out."""
        lived = 0.0 if self._opened_at is None else self._clock() - self._opened_at
        if lived >= self._timing.stable:
            self._retry = self._timing.retry_first
            if error is None:
                return
        await self._sleep(self._pause(error))
        if isinstance(error, NoAnswerError) and not self._asked and not self._turns.take(self._nudged):
            await self._sleep(_spread(self._timing.retry_most))
            self._turns.leave(self._nudged)

    def _pause(self, error: ApiError | None) -> float:
        most = self._timing.retry_most
        pause = _spread(min(self._retry, self._timing.asking if self._turns.is_asking(self._nudged) else most))
        if error is not None and error.retry_after_seconds is not None:
            pause = max(pause, min(error.retry_after_seconds, most))
        self._retry = min(self._retry * 2, most)
        return pause

    # -- lists -----------------------------------------------------------------------------------------------------

    async def _list(self) -> float | None:
        """Seconds until the next try, None where the list counts and a watch may begin. Tells who asked for it."""
        asked, self._asked = self._asked, []
        self._nudged.clear()
        try:
            pause = await self._list_whole()
            held = None if pause is None or self._is_absent else f"list of {self._resource.plural}: not believed yet"
            _tell(asked, ApiError(held) if held else None)
        except ApiError as error:
            _tell(asked, error)
            raise
        finally:
            for one in asked:
                one.cancel()
        return pause

    async def _list_whole(self) -> float | None:
        for version in self._resource.versions:
            self._sink.listing(self._resource, version)
            try:
                seen = await self._pages(version)
            except ApiError as error:
                if error.status != NOT_FOUND or not self._resource.is_optional:
                    raise
                continue
            self._is_absent = False
            pause = await self._sink.listed(self._resource, seen)
            if pause is None:
                self._version, self._seen, self._is_unsure = version, seen, False
            self._sink.works(self._resource)
            return pause
        await self._check_absent()
        self._sink.listing(self._resource, "")
        pause = await self._sink.listed(self._resource, "")
        self._is_absent = pause is None
        self._sink.works(self._resource)
        return self._timing.absent if pause is None else pause

    async def _check_absent(self) -> None:
        """Raises ApiError unless discovery says too that the kind isn't there: a 404 may come from anybody."""
        if self._is_absent:
            return
        for version in ("", *self._resource.versions):
            path = f"/apis/{self._resource.group}/{version}" if version else "/apis"
            try:
                names = await self._ask(path, Names)
            except ApiError as error:
                if error.status == NOT_FOUND and version:
                    continue
                raise
            if names.has(self._resource.plural):
                raise ApiError(f"GET {path}: {self._resource.plural} are there, and their list is not found")

    async def _pages(self, version: str) -> str:
        """Give a whole list to the sink, page by page; its resourceVersion."""
        decode, path, token = Decoder(self._resource, version), self._resource.collection(version), ""
        while True:
            limit = min(self._resource.page_size, self._timing.page_size)
            query = {"limit": str(limit)} | ({"continue": token} if token else {})
            page = await self._ask(path, Page, query)
            for count, item in enumerate(page.items or (), 1):
                try:
                    self._sink.found(self._resource, decode(item))
                except msgspec.DecodeError as error:
                    raise ApiError(f"GET {path}: not a list of {self._resource.kind}: {error}") from error
                if count % BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
            token = page.metadata.continue_
            if not token:
                return page.metadata.resource_version

    async def _check_version(self) -> None:
        page = await self._ask(self._resource.collection(self._version), Page, {"limit": "1"})
        if is_older(page.metadata.resource_version, self._seen):
            raise _GoneError
        self._is_unsure = False

    async def _ask(self, path: str, kind: type[_Answer], query: dict[str, str] | None = None) -> _Answer:
        data = await self._client.request("GET", path, query=query, timeout_seconds=self._timing.page)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise ApiError(f"GET {path}: answered by something else: {error}") from error

    # -- the watch -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Until it ends. Raises ApiError also where it ended in order but at once."""
        if self._asked:
            raise _GoneError
        loop = asyncio.get_running_loop()
        working: asyncio.TimerHandle | None = None
        try:
            async with asyncio.timeout(None) as self._watching:
                async with self._open() as lines:
                    self._opened_at = self._clock()
                    working = loop.call_later(self._timing.works, self._sink.works, self._resource)
                    with self._turns.watching():
                        await self._take_all(lines)
        except TimeoutError as error:  # somebody asked for a list
            raise _GoneError from error
        finally:
            self._watching = None
            if working is not None:
                working.cancel()
        if self._clock() - self._opened_at < self._timing.stable:
            raise ApiError(f"watch of {self._resource.plural}: ended as soon as it had begun")

    def _open(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        seconds = random.randint(self._timing.watch_least, self._timing.watch_most)  # noqa: S311 - as above
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._seen,
            "timeoutSeconds": str(seconds),
        }
        path = self._resource.collection(self._version)
        return self._client.stream(path, query=query, idle_seconds=self._timing.idle)

    async def _take_all(self, lines: AsyncIterator[bytes]) -> None:
        decode = Decoder(self._resource, self._version)
        count = 0
        async for line in lines:
            try:
                self._take(line, decode)
            except msgspec.DecodeError as error:
                raise ApiError(f"watch of {self._resource.plural}: not an event: {error}") from error
            count += 1
            if count == 1:
                self._sink.works(self._resource)
            if count % BREATHE_EVERY == 0:
                await asyncio.sleep(0)

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


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, guards nothing


def _tell(asked: Iterable["asyncio.Future[None]"], error: ApiError | None) -> None:
    for one in asked:
        if not one.done() and error is None:
            one.set_result(None)
        elif not one.done() and error is not None:
            one.set_exception(error)


def is_older(version: str, than: str) -> bool:
    """resourceVersions are decimal and comparable from Kubernetes 1.35 on, and were so in every release before."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
