"""A proxy in front of a Kubernetes API server: forwards every request, or makes it fail in the way that it is told.

It speaks plain HTTP on loopback. What the client sends goes on as it is (path, query, body, token), answers come back
chunk by chunk; where the upstream breaks off, so does the proxy. What a fault has caught it keeps, also after `clear`.

| fault | catches | the client sees | a watch that is open when it is set |
|---|---|---|---|
| CLOSE_AT_ONCE | watches | 200, then the end of the stream | ends |
| GONE_EVENT | watches | 200, an ERROR event with Status 410, the end | the same |
| RESET_MID_LINE | watches | half of the next event, then a reset | the same |
| HALF_OPEN | everything | nothing, on a connection that stays open | is silent from the end of its line on |
| HANG_LISTS, HANG_WRITES | lists, writes | nothing; the upstream never hears of it | goes on |
| EMPTY_LIST | lists | 200 and no items, at the upstream's newest resourceVersion | goes on |
| HttpError | everything | that answer | goes on |
| Delay | everything | what the upstream says, but later | goes on |
"""

import asyncio
import json
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import aiohttp
from aiohttp import ClientResponse, web
from yarl import URL

JSON: Final = "application/json"
MOST_REQUESTS: Final = 20_000
HANG_SECONDS, IDLE_SECONDS, CONNECT_SECONDS, CLOSE_SECONDS = 600.0, 600.0, 5.0, 5.0
COLLECTION: Final = re.compile(r"/(api/v1|apis/[^/]+/[^/]+)(/namespaces/[^/]+(?!/(?:status|finalize)$))?/[^/]+")
HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
"""Headers of one connection only (RFC 9110 §7.6.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked for; `at` is monotonic time."""

    method: str
    path: str
    query: Mapping[str, str]
    at: float

    @property
    def is_watch(self) -> bool:
        return self.method == "GET" and self.query.get("watch") in {"true", "1"}

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and not self.is_watch and COLLECTION.fullmatch(self.path) is not None


Fault = Enum("Fault", "CLOSE_AT_ONCE GONE_EVENT RESET_MID_LINE HALF_OPEN HANG_LISTS HANG_WRITES EMPTY_LIST")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpError:
    """Without a `body` it is the Status object of an API server."""

    status: int
    body: bytes | None = None
    content_type: str = JSON
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    seconds: float


AnyFault = Fault | HttpError | Delay
Matches = Callable[[Request], bool]


def everything(_request: Request) -> bool:
    return True


class FaultProxy:
    """`requests` is in order of arrival, the last MOST_REQUESTS of them; `url` stays the same while it lives."""

    def __init__(self, upstream: str, ca_file: Path | None = None) -> None:
        self.url, self.requests = "", list[Request]()
        self._upstream, self._ca_file = upstream.rstrip("/"), ca_file
        self._fault: AnyFault | None = None
        self._matches: Matches = everything
        self._reading: set[asyncio.Timeout] = set()

    async def __aenter__(self) -> Self:
        # bound but not listening, it keeps the port from others while connections are refused
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._holder.getsockname())
        context = ssl.create_default_context(cafile=self._ca_file)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the certificate that kube-apiserver makes for itself
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=limits, auto_decompress=False)
        self._server = web.Server(self._answer, handler_cancellation=True, access_log=None)
        await self.listen()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.stop_listening()
        self.drop_connections()
        await self._server.shutdown(CLOSE_SECONDS)
        await self._session.close()
        self._holder.close()

    def set(self, fault: AnyFault, *, matches: Matches = everything) -> None:
        """From now on this fault and no other, for what it catches and `matches` is true for."""
        self._fault, self._matches = fault, matches
        while self._reading:
            self._reading.pop().reschedule(asyncio.get_running_loop().time())

    def clear(self) -> None:
        self._fault = None

    async def listen(self) -> None:
        self._listener = await asyncio.get_running_loop().create_server(self._server, *self._holder.getsockname())

    def stop_listening(self) -> None:
        """Refuse connections; those that are open stay."""
        self._listener.close()

    def drop_connections(self) -> None:
        for connection in self._server.connections:
            _reset(connection)

    def _fault_of(self, request: Request) -> AnyFault | None:
        match self._fault:
            case Fault.CLOSE_AT_ONCE | Fault.GONE_EVENT | Fault.RESET_MID_LINE:
                is_caught = request.is_watch
            case Fault.HANG_LISTS | Fault.EMPTY_LIST:
                is_caught = request.is_list
            case Fault.HANG_WRITES:
                is_caught = request.method != "GET"
            case _:
                is_caught = True
        return self._fault if is_caught and self._matches(request) else None

    async def _answer(self, incoming: web.BaseRequest) -> web.StreamResponse:
        request = Request(method=incoming.method, path=incoming.path, query=dict(incoming.query), at=time.monotonic())
        self.requests.append(request)
        del self.requests[:-MOST_REQUESTS]
        try:
            match self._fault_of(request):
                case HttpError() as error:
                    return _error(error)
                case Delay(seconds=seconds):
                    await asyncio.sleep(seconds)
                case Fault.EMPTY_LIST:
                    return await self._empty_list(incoming)
                case Fault.HALF_OPEN | Fault.HANG_LISTS | Fault.HANG_WRITES:
                    await asyncio.sleep(HANG_SECONDS)  # the client leaves or the proxy closes before that
                    return _reset(incoming)
            return await self._forward(incoming, request)
        except (aiohttp.ClientError, TimeoutError):
            return _reset(incoming)

    async def _forward(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
        url, body = URL(self._upstream + incoming.raw_path, encoded=True), await incoming.read()
        headers = _end_to_end(incoming.headers, "host", "content-length")
        sent = self._session.request(incoming.method, url, headers=headers, data=body or None, allow_redirects=False)
        async with sent as outgoing:
            if outgoing.status == HTTPStatus.OK:
                return await self._relay(incoming, request, outgoing)
            headers = _end_to_end(outgoing.headers)
            return web.Response(status=outgoing.status, headers=headers, body=await outgoing.read())

    async def _relay(self, incoming: web.BaseRequest, request: Request, outgoing: ClientResponse) -> web.StreamResponse:
        response, is_mid_line = web.StreamResponse(headers=_end_to_end(outgoing.headers)), False
        await response.prepare(incoming)
        while True:
            match None if is_mid_line else self._fault_of(request):
                case Fault.CLOSE_AT_ONCE:
                    return response
                case Fault.GONE_EVENT:
                    await response.write(b'{"type":"ERROR","object":' + _status(410) + b"}\n")
                    return response
                case Fault.RESET_MID_LINE:
                    line = (await outgoing.content.readany()).split(b"\n")[0]
                    await response.write(line[: (len(line) + 1) // 2])
                    return _reset(incoming)
                case Fault.HALF_OPEN:
                    await asyncio.sleep(HANG_SECONDS)
                    return _reset(incoming)
            chunk = await self._read(outgoing.content)
            if chunk:
                await response.write(chunk)
                is_mid_line = not chunk.endswith(b"\n")
            elif chunk is not None:
                return response

    async def _read(self, source: aiohttp.StreamReader) -> bytes | None:
        """The next chunk, empty at the end; None where a fault was set meanwhile."""
        try:
            async with asyncio.timeout(None) as scope:
                self._reading.add(scope)
                return await source.readany()
        except TimeoutError:
            if not scope.expired():
                raise
            return None
        finally:
            self._reading.discard(scope)

    async def _empty_list(self, incoming: web.BaseRequest) -> web.Response:
        headers = _end_to_end(incoming.headers, "host", "accept-encoding") | {"Accept-Encoding": "identity"}
        async with self._session.get(f"{self._upstream}{incoming.path}?limit=1", headers=headers) as outgoing:
            found = await outgoing.json()
        if outgoing.status == HTTPStatus.OK:
            found |= {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "items": []}
        return web.json_response(found, status=outgoing.status)


def _end_to_end(headers: Mapping[str, str], *without: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP.union(without)}


def _status(code: int) -> bytes:
    phrase = HTTPStatus(code).phrase
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}
    return json.dumps(status | {"message": phrase, "reason": phrase.replace(" ", "")}).encode()


def _error(error: HttpError) -> web.Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = _status(error.status) if error.body is None else error.body
    return web.Response(status=error.status, body=body, content_type=error.content_type, headers=headers)


def _reset(on: web.BaseRequest | web.RequestHandler) -> web.Response:
    """RST, by an SO_LINGER of 0 seconds (socket(7)). What is answered then reaches nobody."""
    if isinstance(on.transport, asyncio.Transport):
        opened = on.transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        on.transport.abort()
    return web.Response()
