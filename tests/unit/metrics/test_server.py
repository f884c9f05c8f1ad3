"""The HTTP server: its three paths, what it refuses, its bounds, and a port that is taken."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from announcer.metrics import Address, Server
from announcer.metrics.server import CONNECTIONS_MOST, HEAD_BYTES_MOST, LEAVING_MOST
from tests.waiting import until

HOME = "127.0.0.1"


@asynccontextmanager
async def serving(
    unready: tuple[str, ...] = (),
    *,
    port: int = 0,
    request_seconds: float = 5.0,
    leave: Callable[[], Awaitable[str]] | None = None,
) -> AsyncIterator[tuple[Server, "asyncio.Task[None]"]]:
    server = Server(
        Address(host=HOME, port=port),
        lambda: (b"some 1\n", "text/plain"),
        lambda: unready,
        request_seconds=request_seconds,
        retry_seconds=0.01,
    )
    server.leave = leave
    running = asyncio.ensure_future(server.run())
    try:
        yield server, running
    finally:
        running.cancel()
        await asyncio.wait({running})


async def ask(server: Server, text: bytes, come_from: str = HOME) -> str:
    await until(lambda: server.port)
    reader, writer = await asyncio.open_connection(HOME, server.port, local_addr=(come_from, 0))
    writer.write(text)
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def get(server: Server, path: str, come_from: str = HOME) -> tuple[int, str]:
    answer = await ask(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), come_from)
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_three_paths_and_no_others() -> None:
    async def test() -> None:
        async with serving() as (server, _):
            assert await get(server, "/metrics?x=1") == (200, "some 1\n")
            assert await get(server, "/healthz") == (200, "ok\n")
            assert await get(server, "/readyz") == (200, "ready\n")
            assert (await get(server, "/"))[0] == 404

    run(test)


def test_who_is_not_ready_says_why() -> None:
    async def test() -> None:
        async with serving(("the store", "an address")) as (server, _):
            assert await get(server, "/readyz") == (503, "not ready: the store\nnot ready: an address\n")
            assert (await get(server, "/healthz"))[0] == 200

    run(test)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"hello\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"\xff\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * HEAD_BYTES_MOST + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_get_is_refused_and_the_next_is_answered(request_text: bytes, status: int) -> None:
    async def test() -> None:
        async with serving() as (server, _):
            assert (await ask(server, request_text)).startswith(f"HTTP/1.1 {status} ")
            assert (await get(server, "/healthz"))[0] == 200

    run(test)


def test_who_asks_slowly_is_cut_off() -> None:
    async def test() -> None:
        async with serving(request_seconds=0.05) as (server, _):
            assert await ask(server, b"GET /metrics HTTP/1.1\r\n") == ""
            assert (await get(server, "/healthz"))[0] == 200

    run(test)


def test_more_connections_than_it_takes_are_refused_at_once() -> None:
    async def test() -> None:
        async with serving() as (server, _):
            await until(lambda: server.port)
            idle = [await asyncio.open_connection(HOME, server.port) for _ in range(CONNECTIONS_MOST)]
            assert (await ask(server, b"")).startswith("HTTP/1.1 503 ")
            for _, writer in idle:
                writer.close()

    run(test)


def test_leave_answers_when_it_is_over_to_a_few_at_once() -> None:
    async def test() -> None:
        over = asyncio.Event()

        async def leave() -> str:
            await over.wait()
            return "drained"

        async with serving(request_seconds=0.1, leave=leave) as (server, _):
            waiting = [asyncio.ensure_future(get(server, "/leave")) for _ in range(LEAVING_MOST + 1)]
            done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert [(await one)[0] for one in done] == [503]
            now = asyncio.get_running_loop().time
            later = now() + 0.2
            await until(lambda: now() > later)  # longer than a request may take
            assert (await get(server, "/healthz"))[0] == 200
            over.set()
            assert [await one for one in left] == [(200, "drained\n")] * LEAVING_MOST
        async with serving() as (server, _):
            assert (await get(server, "/leave"))[0] == 404

    run(test)


def test_leave_is_for_the_node_itself_and_others_fill_nothing() -> None:
    async def test() -> None:
        async def leave() -> str:
            return "drained"

        async with serving(leave=leave) as (server, _):
            unknown = await get(server, "/no", "127.0.0.9")
            assert unknown[0] == 404
            assert await get(server, "/leave", "127.0.0.9") == unknown
            assert await get(server, "/leave?", "127.0.0.9") == unknown
            assert (await get(server, "/healthz", "127.0.0.9"))[0] == 200
            assert await get(server, "/leave") == (200, "drained\n")

    run(test)


def test_end_waits_for_nobody() -> None:
    async def test() -> None:
        async with serving() as (server, running):
            await until(lambda: server.port)
            reader, writer = await asyncio.open_connection(HOME, server.port)
            writer.write(b"GET /metrics HTTP/1.1\r\n")
            await writer.drain()
            running.cancel()
            async with asyncio.timeout(1):
                await asyncio.wait({running})
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()

    run(test)


def test_port_that_is_taken_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        with socket.create_server((HOME, 0)) as taken:
            port = taken.getsockname()[1]
            async with serving(port=port) as (server, running):
                await until(lambda: caplog.records)
                text = str(vars(caplog.records[0]))
                assert "--metrics-address" in text
                assert f"{HOME}:{port}" in text
                taken.close()
                await until(lambda: server.port == port)
                assert not running.done()
                assert (await get(server, "/healthz"))[0] == 200
        assert sum(record.levelno == logging.WARNING for record in caplog.records) == 1

    run(test)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [(":9720", None, 9720), ("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:65535", "::1", 65535), ("node:80", "node", 80)],
)
def test_address_is_read_and_shown_as_it_was(text: str, host: str | None, port: int) -> None:
    assert Address.of(text) == Address(host=host, port=port)
    assert str(Address.of(text)) == text


@pytest.mark.parametrize("text", ["9720", ":", ":0", ":65536", ":http", "::1:9720", "host", "a:-1"])
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="9720"):
        Address.of(text)
