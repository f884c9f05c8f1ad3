"""An HTTP server for GET of /metrics, /healthz and /readyz, of an agent /leave too.

It answers one request a connection, takes CONNECTIONS_MOST at once, and gives each REQUEST_SECONDS in all, so that who
asks slowly or often costs the process nothing that it needs. /leave answers when the process may be ended, as long as
that takes, for LEAVING_MOST at once, and only who asks from the node itself: others could keep its `preStop` out. A
port that can't be had and certificates that can't be used are tried again: metrics are no reason not to announce. Where
a client's certificate is demanded, it is for /metrics only, as the kubelet has none.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from announcer.log import fields
from announcer.metrics.tls import CLIENT_CA, Tls, TlsError, TlsFiles

log = logging.getLogger(__name__)
CONNECTIONS_MOST: Final = 16
LEAVING_MOST: Final = 4
REQUEST_SECONDS: Final = 5.0
HEAD_BYTES_MOST: Final = 8192
RETRY_FIRST, RETRY_MOST = 1.0, 60.0
TEXT: Final = "text/plain; charset=utf-8"
END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`host` None is every address of the node, of both families."""

    host: str | None
    port: int

    @classmethod
    def of(cls, text: str) -> "Address":
        """HOST:PORT, [IPv6]:PORT or :PORT. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isdecimal() and port.isascii() and 0 < int(port) < 2**16):
            raise ValueError(f"{text!r} is not HOST:PORT with a port from 1 to 65535; try :9720")
        if ":" in host and not is_bracketed:
            raise ValueError(f"{text!r}: an IPv6 address stands in brackets, as in [::1]:9720")
        return cls(host=(host[1:-1] if is_bracketed else host) or None, port=int(port))

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


class Server:
    """`scrape` gives text and content type, `unready` why the process isn't ready. Without `files` it is plain HTTP."""

    def __init__(
        self,
        address: Address,
        scrape: Callable[[], tuple[bytes, str]],
        unready: Callable[[], tuple[str, ...]],
        files: TlsFiles | None = None,
        *,
        request_seconds: float = REQUEST_SECONDS,
        retry_seconds: float = RETRY_FIRST,
    ) -> None:
        self._address, self._scrape, self._unready = address, scrape, unready
        self._tls = Tls(files) if files else None
        self.leave: Callable[[], Awaitable[str]] | None = None
        """What /leave waits for, and tells; without it there is none."""
        self._leaving = 0
        self._request_seconds, self._retry_seconds = request_seconds, retry_seconds
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        """That it listens on, 0 while it doesn't."""

    async def run(self) -> None:
        """For ever. When cancelled, nothing is waited for: whoever still reads is cut off."""
        async with asyncio.TaskGroup() as tasks:
            is_open = True

            def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                # A handshake costs more than a refusal is worth.
                if not is_open or (self._tls is not None and len(self._serving) >= CONNECTIONS_MOST):
                    writer.transport.abort()
                    return
                if self._tls is not None and isinstance(writer.transport, asyncio.Transport):
                    writer.transport.pause_reading()  # until the handshake reads
                task = tasks.create_task(self._serve(reader, writer), name="metrics request")
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)

            server = await self._listen(take)
            self.port = server.sockets[0].getsockname()[1]
            try:
                await asyncio.Event().wait()
            finally:
                is_open, self.port = False, 0
                server.close()

    async def _listen(self, take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]) -> asyncio.Server:
        pause, told = self._retry_seconds, ""
        while True:
            try:
                if self._tls is not None:
                    self._tls.context()
                server = await asyncio.start_server(
                    take, self._address.host, self._address.port, limit=HEAD_BYTES_MOST, backlog=CONNECTIONS_MOST
                )
            except (OSError, TlsError) as error:
                text = str(error)
                if isinstance(error, OSError):
                    text += "; give --metrics-address another HOST:PORT, or '' for none"
                if told != text:
                    told = text
                    log.warning("metrics are not served", extra=fields(at=str(self._address), error=text))
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MOST)
            else:
                scheme = "http" if self._tls is None else "https"
                log.info("metrics are served", extra=fields(at=str(self._address), scheme=scheme))
                return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._request_seconds) as patience:
                if self._tls is not None:
                    await writer.start_tls(self._tls.context(), ssl_handshake_timeout=self._request_seconds)
                may_scrape, leave = self._may_scrape(writer), self.leave if _is_here(writer) else None
                writer.write(_text(await self._respond(reader, patience, leave, may_scrape=may_scrape)))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone, or is too slow
        finally:
            writer.transport.abort()

    def _may_scrape(self, writer: asyncio.StreamWriter) -> bool:
        """One that its CA hasn't signed has failed in the handshake."""
        if self._tls is None or self._tls.files.client_ca is None:
            return True
        return bool(writer.get_extra_info("peercert"))

    async def _respond(
        self,
        reader: asyncio.StreamReader,
        patience: asyncio.Timeout,
        leave: Callable[[], Awaitable[str]] | None,
        *,
        may_scrape: bool,
    ) -> _Answer:
        if len(self._serving) > CONNECTIONS_MOST:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many connections\n")
        try:
            head = (await reader.readuntil(END_OF_HEAD)).decode("latin-1")
        except asyncio.LimitOverrunError:
            return _Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"too large\n")
        match head.partition("\r\n")[0].split(" "):
            case ["GET", "/leave", "HTTP/1.1" | "HTTP/1.0"] if leave and self._leaving < LEAVING_MOST:
                return await self._wait(leave, patience)
            case ["GET", target, "HTTP/1.1" | "HTTP/1.0"]:
                return self._get(target.partition("?")[0], may_scrape=may_scrape, may_leave=leave is not None)
            case [_, _, "HTTP/1.1" | "HTTP/1.0"]:
                return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n")
        return _Answer(HTTPStatus.BAD_REQUEST, b"no HTTP/1.1 request\n")

    async def _wait(self, leave: Callable[[], Awaitable[str]], patience: asyncio.Timeout) -> _Answer:
        self._leaving += 1
        patience.reschedule(None)
        try:
            return _Answer(HTTPStatus.OK, f"{await leave()}\n".encode())
        finally:
            self._leaving -= 1
            patience.reschedule(asyncio.get_running_loop().time() + self._request_seconds)

    def _get(self, path: str, *, may_scrape: bool, may_leave: bool) -> _Answer:
        match path:
            case "/metrics" if not may_scrape:
                text = f"/metrics wants a client certificate that {CLIENT_CA} has signed\n"
                return _Answer(HTTPStatus.FORBIDDEN, text.encode())
            case "/metrics":
                return _Answer(HTTPStatus.OK, *self._scrape())
            case "/healthz":
                return _Answer(HTTPStatus.OK, b"ok\n")
            case "/readyz":
                why = self._unready()
                if not why:
                    return _Answer(HTTPStatus.OK, b"ready\n")
                text = "".join(f"not ready: {one}\n" for one in why)
                return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())
            case "/leave" if may_leave:
                return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many wait for it already\n")
        return _Answer(HTTPStatus.NOT_FOUND, b"there are /metrics, /healthz and /readyz\n")


def _is_here(writer: asyncio.StreamWriter) -> bool:
    """Whether who asks is on this node: answers to an address that it has itself reach nobody else."""
    asks, asked = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    return bool(asks) and asks[0] == asked[0]


def _text(answer: _Answer) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + answer.body
