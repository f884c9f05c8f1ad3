"""The fault proxy forwards what it is not told to spoil, and spoils what it is told as its table says.

The API server behind it is a few lines of aiohttp in the same loop; everything is on loopback.
"""

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.apiproxy import AnyFault, Delay, Fault, FaultProxy, HttpError, Request
from tests.waiting import stays, until

SERVICES = "/api/v1/services"
WATCH = f"{SERVICES}?watch=1&resourceVersion=7"
EVENT = b'{"type":"ADDED","object":{"kind":"Service","metadata":{"name":"web"}}}\n'
LIST = {"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {}}]}


class Upstream:
    """Lists and watches Services, answers writes with what they brought."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.watches = 0
        self.breaks_off = False
        self._lines: asyncio.Queue[bytes] = asyncio.Queue(100)

    def send(self, data: bytes) -> None:
        """To the oldest watch; nothing ends it."""
        self._lines.put_nowait(data)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.raw_path}")
        if request.method != "GET":
            kept = {name: request.headers.get(name, "") for name in ("Content-Type", "Authorization")}
            return web.json_response({**kept, "body": await request.text()}, status=201)
        if request.path != SERVICES:
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        return await self._watch(request) if "watch" in request.query else web.json_response(LIST)

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watches += 1
        try:
            while not self.breaks_off:
                await response.write(await self._lines.get())
        finally:
            self.watches -= 1
        assert request.transport is not None
        request.transport.abort()
        return response


class Bench:
    def __init__(self, upstream: Upstream, proxy: FaultProxy, client: aiohttp.ClientSession) -> None:
        self.upstream, self.proxy, self.client = upstream, proxy, client
        self.opened: list[aiohttp.ClientResponse] = []
        """Closed at the end, whatever became of them."""

    async def list(self) -> object:
        async with self.client.get(SERVICES) as answer:
            return await answer.json()

    async def status(self, method: str, path: str) -> int:
        async with self.client.request(method, path) as answer:
            await answer.read()
            return answer.status

    async def open(self, path: str) -> aiohttp.ClientResponse:
        response = await self.client.get(path)
        self.opened.append(response)
        return response

    async def watch(self) -> aiohttp.ClientResponse:
        """An open one that has had its first event."""
        response = await self.open(WATCH)
        self.upstream.send(EVENT)
        assert await response.content.readline() == EVENT
        return response


@asynccontextmanager
async def bench(context: ssl.SSLContext | None = None, ca_file: Path | None = None) -> AsyncIterator[Bench]:
    upstream = Upstream()
    server = web.Server(upstream.answer, handler_cancellation=True, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    url = f"http{'s' if context else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        async with (
            FaultProxy(url, ca_file) as proxy,
            aiohttp.ClientSession(proxy.url, connector=aiohttp.TCPConnector(force_close=True)) as client,
        ):
            made = Bench(upstream, proxy, client)
            yield made
            for response in made.opened:
                response.close()
    finally:
        listener.close()
        await server.shutdown(5.0)


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def within_a_bench() -> None:
        async with asyncio.timeout(20), bench() as made:
            await test(made)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="the end of all tasks")

    asyncio.run(within_a_bench())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_write_is_forwarded_whole(method: str) -> None:
    async def test(at: Bench) -> None:
        sent = {"Content-Type": "application/apply-patch+yaml", "Authorization": "Bearer secret"}
        path = f"{SERVICES}/web%2Fa?fieldManager=announcer&force=true"
        async with at.client.request(method, path, data=b"{}", headers=sent) as answer:
            assert (answer.status, await answer.json()) == (201, sent | {"body": "{}"})
        assert at.upstream.seen == [f"{method} {path}"]

    run(test)


def test_requests_are_kept_in_order() -> None:
    async def test(at: Bench) -> None:
        before = time.monotonic()
        (await at.client.get(f"{SERVICES}?limit=500")).close()
        (await at.client.get(WATCH)).close()
        listed, watched = at.proxy.requests
        assert (listed.method, listed.path, dict(listed.query)) == ("GET", SERVICES, {"limit": "500"})
        assert (listed.is_list, listed.is_watch, watched.is_list, watched.is_watch) == (True, False, False, True)
        assert before <= listed.at <= watched.at <= time.monotonic()

    run(test)


@pytest.mark.parametrize(
    ("path", "is_list"),
    [
        ("/api/v1/services", True),
        ("/api/v1/namespaces", True),
        ("/api/v1/namespaces/shop", False),
        ("/api/v1/namespaces/shop/status", False),
        ("/api/v1/namespaces/shop/services", True),
        ("/api/v1/namespaces/shop/services/web", False),
        ("/api/v1/namespaces/shop/services/web/status", False),
        ("/apis/discovery.k8s.io/v1/endpointslices", True),
        ("/apis/purelb.io/v1/namespaces/purelb/servicegroups", True),
        ("/apis/coordination.k8s.io/v1/namespaces/shop/leases/leader", False),
        ("/apis/discovery.k8s.io/v1", False),
        ("/api/v1", False),
        ("/readyz", False),
    ],
)
def test_list_is_a_get_of_a_collection(path: str, is_list: bool) -> None:
    assert Request(method="GET", path=path, query={}, at=0.0).is_list is is_list
    assert not Request(method="POST", path=path, query={}, at=0.0).is_list


def test_watch_events_arrive_one_by_one() -> None:
    async def test(at: Bench) -> None:
        response = await at.open(WATCH)  # its headers, before any event
        for _ in range(3):
            at.upstream.send(EVENT)
            assert await response.content.readline() == EVENT

    run(test)


def test_client_that_leaves_ends_the_watch_upstream() -> None:
    async def test(at: Bench) -> None:
        (await at.watch()).close()
        await until(lambda: at.upstream.watches == 0)

    run(test)


def test_upstream_that_breaks_off_breaks_the_watch() -> None:
    async def test(at: Bench) -> None:
        response = await at.watch()
        at.upstream.breaks_off = True
        at.upstream.send(b'{"type"')
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await response.read()

    run(test)


@pytest.mark.parametrize(("fault", "kind"), [(Fault.CLOSE_AT_ONCE, None), (Fault.GONE_EVENT, "ERROR")])
def test_watch_ends_in_order_open_or_new(fault: Fault, kind: str | None) -> None:
    async def test(at: Bench) -> None:
        old = await at.watch()
        at.proxy.set(fault)
        for response in (old, await at.open(WATCH)):
            body = await response.read()
            assert response.status == 200
            assert (json.loads(body)["type"], json.loads(body)["object"]["code"]) == (kind, 410) if kind else not body
        assert await at.status("GET", SERVICES) == 200

    run(test)


def test_gone_event_lets_a_line_end_first() -> None:
    async def test(at: Bench) -> None:
        response = await at.watch()
        at.upstream.send(EVENT[:10])
        assert await response.content.readexactly(10) == EVENT[:10]
        at.proxy.set(Fault.GONE_EVENT)
        at.upstream.send(EVENT[10:])
        rest, gone = (await response.read()).splitlines(keepends=True)
        assert (rest, json.loads(gone)["type"]) == (EVENT[10:], "ERROR")

    run(test)


def test_reset_comes_in_the_middle_of_the_next_line() -> None:
    async def test(at: Bench) -> None:
        response = await at.watch()
        at.proxy.set(Fault.RESET_MID_LINE)
        at.upstream.send(EVENT)
        half = await response.content.readany()
        assert EVENT.startswith(half)
        assert 0 < len(half) < len(EVENT) - 1
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await response.content.readany()

    run(test)


def test_half_open_connection_is_silent_even_when_cleared() -> None:
    async def test(at: Bench) -> None:
        response = await at.watch()
        at.proxy.set(Fault.HALF_OPEN)
        async with asyncio.TaskGroup() as tasks:
            old, new = tasks.create_task(response.read()), tasks.create_task(at.list())
            await until(lambda: len(at.proxy.requests) == 2)
            at.proxy.clear()
            at.upstream.send(EVENT)
            await stays(lambda: not old.done() and not new.done(), seconds=0.1)
            old.cancel()
            new.cancel()
        assert await at.list() == LIST

    run(test)


@pytest.mark.parametrize(
    ("fault", "method", "other"), [(Fault.HANG_LISTS, "GET", "PATCH"), (Fault.HANG_WRITES, "PATCH", "GET")]
)
def test_hanging_requests_never_reach_the_upstream(fault: Fault, method: str, other: str) -> None:
    async def test(at: Bench) -> None:
        at.proxy.set(fault)
        assert await at.status(other, SERVICES) < 300
        await at.watch()
        async with asyncio.TaskGroup() as tasks:
            hanging = tasks.create_task(at.client.request(method, SERVICES))
            await until(lambda: len(at.proxy.requests) == 3)
            await stays(lambda: not hanging.done(), seconds=0.1)
            hanging.cancel()
        assert at.upstream.seen == [f"{other} {SERVICES}", f"GET {WATCH}"]

    run(test)


@pytest.mark.parametrize(
    ("fault", "body", "content_type", "retry_after"),
    [
        (HttpError(status=403), None, "application/json", None),
        (HttpError(status=410), None, "application/json", None),
        (HttpError(status=429, retry_after=2), None, "application/json", "2"),
        (HttpError(status=500, body=b"<html>", content_type="text/html"), b"<html>", "text/html", None),
        (HttpError(status=503, body=b"", content_type="text/plain"), b"", "text/plain", None),
    ],
)
def test_http_error_answers_everything(
    fault: HttpError, body: bytes | None, content_type: str, retry_after: str | None
) -> None:
    async def test(at: Bench) -> None:
        at.proxy.set(fault)
        for method, path in (("GET", SERVICES), ("GET", WATCH), ("PATCH", SERVICES)):
            async with at.client.request(method, path) as answer:
                data = await answer.read()
                assert (answer.status, answer.content_type) == (fault.status, content_type)
                assert answer.headers.get("Retry-After") == retry_after
                assert data == body if body is not None else json.loads(data)["code"] == fault.status
        assert at.upstream.seen == []

    run(test)


def test_empty_list_keeps_kind_and_version() -> None:
    async def test(at: Bench) -> None:
        at.proxy.set(Fault.EMPTY_LIST)
        assert await at.list() == LIST | {"items": []}
        assert await at.status("GET", "/api/v1/absents") == 404
        await at.watch()

    run(test)


def test_delay_is_before_the_answer() -> None:
    async def test(at: Bench) -> None:
        at.proxy.set(Delay(seconds=0.1))
        before = time.monotonic()
        assert await at.list() == LIST
        assert time.monotonic() - before >= 0.1

    run(test)


@pytest.mark.parametrize("fault", [HttpError(status=500), Fault.HALF_OPEN, Fault.CLOSE_AT_ONCE])
def test_fault_spares_what_does_not_match(fault: AnyFault) -> None:
    async def test(at: Bench) -> None:
        response = await at.watch()
        at.proxy.set(fault, matches=lambda request: request.path != SERVICES)
        at.upstream.send(EVENT)
        assert await response.content.readline() == EVENT
        assert await at.list() == LIST

    run(test)


def test_port_refuses_and_comes_back() -> None:
    async def test(at: Bench) -> None:
        response = await at.watch()
        for _ in range(2):
            at.proxy.stop_listening()
            with pytest.raises(aiohttp.ClientConnectorError):
                await at.list()
            at.upstream.send(EVENT)
            assert await response.content.readline() == EVENT
            await at.proxy.listen()
            assert await at.list() == LIST

    run(test)


def test_dropped_connections_are_reset() -> None:
    async def test(at: Bench) -> None:
        host, port = at.proxy.url.removeprefix("http://").split(":")
        idle, writer = await asyncio.open_connection(host, int(port))
        response = await at.watch()
        at.proxy.drop_connections()
        with pytest.raises(ConnectionResetError):
            await idle.read()
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await response.read()
        await until(lambda: at.upstream.watches == 0)
        writer.close()

    run(test)


def test_proxy_ends_with_everything_open() -> None:
    async def test(at: Bench) -> None:
        await at.watch()
        at.proxy.set(Fault.HALF_OPEN)
        lists = [asyncio.create_task(at.list()) for _ in range(3)]
        await until(lambda: len(at.proxy.requests) == 4)
        await at.proxy.__aexit__()
        outcomes = await asyncio.gather(*lists, return_exceptions=True)
        assert [isinstance(one, ConnectionError | aiohttp.ClientError) for one in outcomes] == [True] * 3

    run(test)


def test_upstream_with_a_certificate_is_trusted_by_its_file(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    names = ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=10)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def test(ca_file: Path | None) -> object:
        async with asyncio.timeout(20), bench(context, ca_file) as at:
            return await at.list()

    assert asyncio.run(test(certificate)) == LIST
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        asyncio.run(test(None))
