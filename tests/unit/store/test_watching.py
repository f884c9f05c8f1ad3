"""A reflector and its store against a scripted server: what can't be timed with a real one."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from announcer.core.dialects import parse
from announcer.core.model import ObjectRef, Parsed
from announcer.store import StoreError
from announcer.store.kubernetes import ApiError, Client, Timing
from announcer.store.kubernetes.client import NoAnswerError
from announcer.store.kubernetes.resources import CONFIGURATION, NODES, SERVICES
from announcer.store.kubernetes.watching import is_older
from tests import kube
from tests.builders import Raw, group, service
from tests.waiting import stays, until

POOLS = CONFIGURATION[0]
QUICK = replace(kube.QUICK, retry_first=0.01, retry_most=0.1, works=0.0, absent=0.05, hold=0.3, hold_look=0.02)
Answer = Raw | ApiError


class Server:
    """Lists come from `pages` (the last one for ever), watches send what is put into `events`."""

    def __init__(self, *pages: Answer) -> None:
        self.pages, self.asked, self.events = list(pages), list[str](), asyncio.Queue[Answer | None]()
        self.others: dict[str, Answer] = {}
        self.delay = asyncio.Event()
        self.delay.set()
        self.lists = self.streams = self.running = self.most = 0

    async def request(self, method: str, path: str, *, query: Mapping[str, str] | None = None, **_: object) -> bytes:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            return await self._answer(path, query)
        finally:
            self.running -= 1

    async def _answer(self, path: str, query: Mapping[str, str] | None) -> bytes:
        self.asked.append(path)
        if path in self.others:
            return _body(self.others[path])
        if (query or {}).get("limit") == "1":
            return _body(self.pages[0])
        self.lists += 1
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        await self.delay.wait()
        return _body(page)

    @asynccontextmanager
    async def stream(self, path: str, **_: object) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append(path)
        self.streams += 1
        try:
            yield self._lines()
        finally:
            self.streams -= 1

    async def _lines(self) -> AsyncIterator[bytes]:
        while (event := await self.events.get()) is not None:
            if isinstance(event, ApiError):
                raise event
            yield json.dumps(event).encode()

    def send(self, kind: str, one: Raw, version: int) -> None:
        self.events.put_nowait({"type": kind, "object": at(one, version)})


def _body(answer: Answer) -> bytes:
    if isinstance(answer, ApiError):
        raise answer
    return json.dumps(answer).encode()


def at(one: Raw, version: int, uid: str = "u") -> Raw:
    return one | {"metadata": one["metadata"] | {"resourceVersion": str(version), "uid": uid}}


def page(version: int, *objects: Raw, more: str = "") -> Raw:
    return {"kind": "List", "metadata": {"resourceVersion": str(version), "continue": more}, "items": list(objects)}


def run(
    server: Server,
    test: Callable[[kube.Running], Awaitable[None]],
    *,
    resources: tuple[Any, ...] = (SERVICES,),
    timing: Timing = QUICK,
) -> None:
    async def within() -> None:
        client = cast("Client", server)  # a store asks for nothing but `request` and `stream`
        store = kube.store(client, resources=resources, timing=timing)
        async with asyncio.timeout(10), kube.running(store) as running:
            await test(running)

    asyncio.run(within())


WEB, API = service("web"), service("api")


def test_pages_make_one_list() -> None:
    server = Server(page(5, at(API, 3), more="next"), page(5, at(WEB, 4)))
    run(server, lambda running: running.has("api", "web"))


def test_event_older_than_the_list_is_no_news() -> None:
    server = Server(page(5, at(service("web", loadBalancerClass="new"), 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        server.send("MODIFIED", WEB, 3)
        server.send("ADDED", API, 6)
        await running.has("api", "web")
        assert running.snapshot.services[1].load_balancer_class == "new"

    run(server, test)


def test_refresh_beside_events_loses_none() -> None:
    """A list that was read before an event, and arrives after it, must not undo it."""
    server = Server(page(5, at(WEB, 4)), page(6, at(WEB, 4)), page(7, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        server.delay.clear()
        refreshing = asyncio.ensure_future(running.store.refresh())
        await until(lambda: len(server.pages) == 1)
        server.send("ADDED", API, 7)
        server.delay.set()
        await refreshing
        await running.has("api", "web")
        await stays(lambda: running.names() == ["api", "web"], seconds=0.1)

    run(server, test)


def test_answer_to_a_write_outlives_a_list_that_is_older() -> None:
    assigned = service("web", addresses=["10.0.0.1"])
    server = Server(page(5, at(WEB, 4)), page(6, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        server.delay.clear()
        server.lists = 0
        refreshing = asyncio.ensure_future(running.store.refresh())
        await until(lambda: server.lists)
        took(running, assigned, 8)
        server.delay.set()
        await refreshing
        assert [str(a) for a in running.snapshot.services[0].status_addresses] == ["10.0.0.1"]

    run(server, test)


def took(running: kube.Running, one: Raw, version: int) -> None:
    """The server's answer to a write arrives."""
    ref = ObjectRef(kind="Service", namespace="test", name=one["metadata"]["name"])
    running.store._took(ref, at(one, version))


def test_answer_to_a_write_brings_nothing_back_that_was_deleted() -> None:
    server = Server(page(5, at(WEB, 3), at(API, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("api", "web")
        server.send("DELETED", API, 9)
        await running.has("web")
        took(running, API, 8)
        assert running.names() == ["web"]

    run(server, test)


def test_refresh_waits_for_a_list_that_began_after_it() -> None:
    server = Server(page(5), page(6), page(7, at(WEB, 7)))

    async def test(running: kube.Running) -> None:
        await running.is_synced()
        server.delay.clear()
        first = asyncio.ensure_future(running.store.refresh())
        await until(lambda: len(server.pages) == 1)
        second = asyncio.ensure_future(running.store.refresh())
        await stays(lambda: not first.done(), seconds=0.05)
        server.delay.set()
        await second
        assert running.names() == ["web"]

    run(server, test)


def test_refresh_that_fails_says_so() -> None:
    server = Server(page(5), ApiError("overloaded", status=503))

    async def test(running: kube.Running) -> None:
        await running.is_synced()
        with pytest.raises(StoreError, match="overloaded"):
            await running.store.refresh()

    run(server, test)


def test_refresh_ends_a_back_off() -> None:
    server = Server(ApiError("overloaded", status=503), page(5, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await until(lambda: running.store.health().message)
        await running.store.refresh()
        assert running.names() == ["web"]

    run(server, test, timing=replace(QUICK, retry_first=30.0))


def test_list_that_says_the_same_is_not_read_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand Services are listed twice before an allocator gives the first address."""
    server, read = Server(page(5, at(API, 3), at(WEB, 4))), Counter[str]()

    def counted(raw: Raw, source: str) -> Parsed:
        read[raw["metadata"]["name"]] += 1
        return parse(raw, source)

    monkeypatch.setattr(kube, "parse", counted)

    async def test(running: kube.Running) -> None:
        await running.has("api", "web")
        # of a backup: the version is known, what it says isn't
        server.pages = [page(6, at(API, 3), at(service("web", loadBalancerClass="new"), 4))]
        await running.store.refresh()
        assert running.snapshot.services[1].load_balancer_class == "new"
        assert read == {"api": 1, "web": 2}

    run(server, test)


def test_hold_begins_anew_when_something_comes_back() -> None:
    """A backup that is being restored: what is there again makes the first list a doubtful witness."""
    objects = [at(service(f"s{i}"), i + 1) for i in range(8)]
    server = Server(page(50, *objects), page(51), page(52, objects[0]), page(53, *objects[:2]), page(54, *objects))

    async def test(running: kube.Running) -> None:
        await running.is_synced()
        with pytest.raises(StoreError, match="not believed"):
            await running.store.refresh()
        await until(lambda: not running.store.health().is_held)
        assert len(running.names()) == 8
        assert all(len(seen.services) == 8 for seen in running.seen)

    run(server, test, timing=replace(QUICK, hold=0.1, hold_look=0.08))


def test_list_that_lacks_half_is_believed_at_once() -> None:
    server = Server(page(5, at(WEB, 3), at(API, 4)), page(6, at(WEB, 3)))

    async def test(running: kube.Running) -> None:
        await running.has("api", "web")
        await running.store.refresh()
        assert running.names() == ["web"]

    run(server, test, timing=replace(QUICK, hold=300.0))


def test_anything_that_an_older_server_lacks_is_held() -> None:
    objects = [at(service(f"s{i}"), i + 1) for i in range(8)]
    server = Server(page(50, *objects), page(49, *objects[:7]))

    async def test(running: kube.Running) -> None:
        await running.is_synced()
        with pytest.raises(StoreError, match="not believed"):
            await running.store.refresh()
        await running.has(*(f"s{i}" for i in range(7)))

    run(server, test)


def test_equal_list_wakes_nobody() -> None:
    server = Server(page(5, at(WEB, 4)), page(6, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        before = len(running.seen)
        await running.store.refresh()
        assert len(running.seen) == before

    run(server, test)


DISCOVERY: dict[str, Answer] = {
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/apis/purelb.io/v1": ApiError("no", status=404),
    "/apis/purelb.io/v2": ApiError("no", status=404),
}
MISSING = ApiError("404 page not found", status=404)


def test_kind_that_is_not_installed_is_an_empty_list() -> None:
    server = Server(MISSING)
    server.others = DISCOVERY

    async def test(running: kube.Running) -> None:
        await running.is_synced()
        assert not running.store.health().is_stale
        server.pages = [page(5, at(group(), 4))]
        await until(lambda: running.snapshot.pools)

    run(server, test, resources=(POOLS,))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/apis", ApiError("no", status=404)),
        ("/apis", {"kind": "Status"}),
        ("/apis/purelb.io/v1", {"kind": "APIResourceList", "resources": [{"name": "servicegroups"}]}),
    ],
)
def test_not_found_that_discovery_contradicts_is_an_error(path: str, answer: Answer) -> None:
    server = Server(MISSING)
    server.others = DISCOVERY | {path: answer}

    async def test(running: kube.Running) -> None:
        await until(lambda: running.store.health().message)
        assert not running.store.health().is_synced

    run(server, test, resources=(POOLS,))


def test_core_kind_is_never_absent() -> None:
    server = Server(MISSING)
    server.others = {"/apis": {"kind": "APIGroupList", "groups": []}}

    async def test(running: kube.Running) -> None:
        await until(lambda: running.store.health().message)
        assert not running.store.health().is_synced
        assert "/apis" not in server.asked

    run(server, test)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ADDED", "object": "text"},
        {"type": "ADDED", "object": {}},
        {"type": "NEWS", "object": {}},
        {"kind": "Status"},
        {"type": "ERROR", "object": {"code": 500, "message": "etcd"}},
        {"type": "ERROR", "object": {"code": 410}},
    ],
    ids=str,
)
def test_line_that_is_no_event_ends_the_watch_and_nothing_else(event: Raw) -> None:
    server = Server(page(5, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        server.events.put_nowait(event)
        server.send("ADDED", API, 6)
        await running.has("api", "web")
        assert all("web" in {s.ref.name for s in seen.services} for seen in running.seen)

    run(server, test)


def test_bookmark_moves_the_version() -> None:
    server = Server(page(5, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        server.events.put_nowait({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "90"}}})
        server.pages = [page(80), page(95, at(WEB, 4), at(API, 94))]  # older than the bookmark: another server
        server.events.put_nowait(None)
        await running.has("api", "web")

    run(server, test)


def test_watch_that_ends_at_once_is_stale_and_asked_for_seldom() -> None:
    server = Server(page(5, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        for _ in range(100):
            server.events.put_nowait(None)
        await until(lambda: running.store.health().is_stale)
        await stays(lambda: Counter(server.asked).most_common(1)[0][1] < 20, seconds=0.3)
        assert running.names() == ["web"]

    run(server, test, timing=replace(QUICK, works=5.0))


def test_retry_after_is_honoured() -> None:
    server = Server(ApiError("slow down", status=429, retry_after_seconds=0.3))

    async def test(running: kube.Running) -> None:
        await until(lambda: server.asked)
        await stays(lambda: len(server.asked) == 1, seconds=0.25)

    run(server, test, timing=replace(QUICK, retry_most=1.0))


@pytest.mark.parametrize(
    ("version", "than", "expected"), [("9", "10", True), ("10", "9", False), ("9", "9", False), ("", "9", False)]
)
def test_versions_are_compared_as_numbers(version: str, than: str, expected: bool) -> None:
    assert is_older(version, than) is expected


def test_kind_that_works_again_ends_the_back_off_of_the_others() -> None:
    """After an outage everything is known again soon, not one kind after the other within half a minute."""
    server = Server(page(5, at(WEB, 4)))
    pools = POOLS.collection(POOLS.versions[0])
    server.others[pools] = ApiError("connection refused")
    server.pages.insert(0, ApiError("connection refused"))

    async def test(running: kube.Running) -> None:
        await until(lambda: server.asked.count(pools) == 1 and server.lists == 1)
        del server.others[pools]
        (services, *_) = running.store._reflectors
        services.nudge()
        await until(lambda: server.asked.count(pools) >= 2, what="the other kind asked for")

    run(server, test, resources=(SERVICES, POOLS), timing=replace(QUICK, retry_first=30.0, retry_most=30.0))


def test_server_that_serves_nobody_is_asked_by_one_and_then_by_all_in_turn() -> None:
    server = Server(NoAnswerError("refused"))
    paths = [resource.collection(resource.versions[0]) for resource in kube.READ]
    server.others = {path: NoAnswerError("refused") for path in paths}

    async def test(running: kube.Running) -> None:
        await until(lambda: max(Counter(server.asked).values(), default=0) >= 5)
        assert sorted(Counter(server.asked).values())[:-1] == [1] * (len(paths) - 1)
        server.others, server.most = {path: page(5) for path in paths}, 0
        await until(lambda: running.store.health().is_synced and not running.store.health().message)
        assert server.most == 1, "asked by several at the same time"

    # the first pause is long beside the others: without its bound the asking one would be too late with its fifth
    run(server, test, resources=kube.READ, timing=replace(QUICK, retry_first=0.5, retry_most=30.0, asking=0.02))


def test_kind_that_nobody_is_answered_for_holds_up_no_other() -> None:
    server = Server(page(5, at(WEB, 4)))
    pools = POOLS.collection(POOLS.versions[0])
    server.others[pools] = NoAnswerError("timeout")

    async def test(running: kube.Running) -> None:
        await until(lambda: server.asked.count(pools) >= 3 and server.streams == 2)
        server.events.put_nowait(NoAnswerError("reset"))
        await until(lambda: server.streams < 2, what="a watch that was reset")
        await until(lambda: server.streams == 2, what="that watch again")

    timing = replace(QUICK, retry_most=30.0, asking=30.0)
    run(server, test, resources=(SERVICES, NODES, POOLS), timing=timing)


def test_one_that_asks_for_all_and_is_refused_lets_the_others_ask() -> None:
    server = Server(NoAnswerError("refused"))
    pools = POOLS.collection(POOLS.versions[0])
    server.others[pools] = NoAnswerError("refused")

    async def test(running: kube.Running) -> None:
        await until(lambda: max(Counter(server.asked).values(), default=0) >= 3)
        server.pages = [ApiError("who are you?", status=403)]
        server.others[pools] = ApiError("who are you?", status=403)
        await until(lambda: server.asked.count(pools) >= 2 and server.lists >= 2, what="an answer for each")

    run(server, test, resources=(SERVICES, POOLS), timing=replace(QUICK, retry_most=30.0, asking=0.02))


def test_log_tells_once_of_a_server_that_is_away_and_of_each_kind_that_is_not_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    pools = POOLS.collection(POOLS.versions[0])
    server = Server(NoAnswerError("GET services: refused"))
    server.others[pools] = NoAnswerError(f"GET {pools}: refused")

    async def test(running: kube.Running) -> None:
        await until(lambda: min(server.lists, server.asked.count(pools)) >= 3)
        [away] = told(caplog)
        assert away.startswith("the API server does not answer ")
        server.others[pools] = ApiError("not yours", status=403)
        server.pages = [page(5, at(WEB, 4))]
        await until(lambda: len(told(caplog)) == 3)
        assert sorted(told(caplog)[1:]) == [
            "not read from the API server servicegroups",
            "the API server answers again",
        ]
        server.others[pools] = page(5)
        await until(lambda: told(caplog)[3:] == ["read from the API server again servicegroups"])
        server.events.put_nowait(NoAnswerError("reset"))
        await until(lambda: server.streams == 1)
        await until(lambda: server.streams == 2)
        assert len(told(caplog)) == 4, "a watch that broke and came back at once"

    run(server, test, resources=(SERVICES, POOLS), timing=replace(QUICK, retry_most=0.05, asking=0.05))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the store, with the kind that a record speaks of."""
    found = [one for one in caplog.records if one.name.startswith("announcer.store")]
    return [f"{one.getMessage()} {vars(one).get('fields', {}).get('resource', '')}".strip() for one in found]


def test_back_off_that_the_server_asked_for_is_not_cut_short() -> None:
    server = Server(ApiError("slow down", status=429, retry_after_seconds=30.0), page(5, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await until(lambda: running.store.health().message)
        asked = asyncio.ensure_future(running.store.refresh())
        await stays(lambda: server.lists == 1, seconds=0.2)
        asked.cancel()
        await asyncio.wait({asked})

    run(server, test, timing=replace(QUICK, retry_most=30.0))


def test_refresh_of_a_server_that_has_gone_fails_and_is_no_reason_to_hurry() -> None:
    server = Server(page(5, at(WEB, 4)))

    async def test(running: kube.Running) -> None:
        await running.has("web")
        server.others[SERVICES.collection("v1")] = ApiError("connection refused")
        server.events.put_nowait(None)
        await until(lambda: running.store.health().message)
        before = len(server.asked)
        with pytest.raises(StoreError, match="refused"):
            await running.store.refresh()
        await stays(lambda: len(server.asked) <= before + 3, seconds=0.2)

    run(server, test, timing=replace(QUICK, retry_first=0.5, retry_most=30.0))
