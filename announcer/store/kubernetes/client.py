"""The one door to the Kubernetes API: requests and watch streams as bytes, and one family of errors.

The library `kubernetes` does transport and authentication (kubeconfig with its plugins; in a pod the service account);
none of its models, watches or retries are used. No call waits longer than the timeout that it is given.

Credentials are renewed: the token file of a pod is read again whenever it is another file than before, by no clock;
a kubeconfig, and what its plugins say, after a 401.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from announcer.store import StoreError

APPLY: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS: Final = 5.0
CREDENTIALS_SECONDS: Final = 20.0
UNACKNOWLEDGED_MS: Final = 5000
LONGEST_LINE: Final = 16 << 20
CONNECTIONS: Final = 64
"""More than all watches and all writers together, so that a lease renewal never waits for a connection."""
UNAUTHORIZED: Final = 401


class ApiError(StoreError):
    """The API server answered with an error (`status` is the HTTP one), or did not answer (`status` 0).

    `retry_after_seconds` is what the server asked for (RFC 9110 §10.2.3), None where it didn't.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_seconds = status, retry_after_seconds


class NoAnswerError(ApiError):
    """Nobody answered: no connection, one that broke, or a silence."""


class Client:
    """`async with Client(kubeconfig)`; None takes the service account of the pod, from the folder `account`."""

    def __init__(self, kubeconfig: Path | None, *, account: Path = SERVICE_ACCOUNT) -> None:
        self._kubeconfig, self._account = kubeconfig, account
        self._configuration = Configuration()
        self._rest: RESTClientObject | None = None
        self._connector: aiohttp.TCPConnector | None = None
        self._token_stamp: tuple[int, int] | None = None
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        configuration = self._configuration
        # as every Go client: many a cluster's CA lacks what RFC 5280 asks for and Python 3.13 began to look at
        configuration.disable_strict_ssl_verification = True
        configuration.host = ""  # not localhost, where the file names no server
        await self._load()
        configuration.proxy = configuration.proxy or _proxy_of(configuration.host)
        try:
            self._rest = RESTClientObject(configuration)
        except OSError as error:  # ssl.SSLError is one
            raise ApiError(f"{self._whence()} can't be used: certificates: {error}") from error
        self._connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, ssl=self._rest.ssl_context, socket_factory=_socket_of_requests
        )
        # trust_env would ask the environment and ~/.netrc again for each request, in two threads
        configuration.client_session_kwargs = {"connector": self._connector, "trust_env": False}
        return self

    async def __aexit__(self, *_error: object) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            await rest.close()
        if self._connector is not None:
            await self._connector.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
        timeout_seconds: float,
    ) -> bytes:
        """The body of a 2xx answer. Raises ApiError.

        The server is told the timeout too, so that what nobody waits for any more isn't carried out later.
        """
        limits = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(CONNECT_SECONDS, timeout_seconds))
        asked = {**(query or {}), "timeout": f"{max(1, int(timeout_seconds))}s"}
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await self._send(method, path, asked, body, content_type, limits)
                async with answer:  # its own `read` would keep the data in it, which may end as a cycle of garbage
                    data: bytes = await answer.content.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise _unreachable(method, path, error) from error
        if answer.status >= 300:
            await self._renew(answer)
            raise _refused(method, path, answer, data)
        return data

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], idle_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A watch that the server has begun to answer: its lines, each without its end.

        They end where the server ends them; a silence of `idle_seconds`, an end in the middle of a line and every
        other failure is an ApiError.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
        try:
            async with asyncio.timeout(idle_seconds) as patience:
                async with await self._send("GET", path, query, None, JSON, limits) as answer:
                    if answer.status >= 300:
                        await self._renew(answer)
                        raise _refused("GET", path, answer, await answer.read())
                    patience.reschedule(None)
                    try:
                        yield _lines(path, answer.content)
                    finally:
                        _abort(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise _unreachable("GET", path, error) from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: object,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        if self._rest is None:
            raise ApiError("the client is not open")
        url = f"{self._configuration.host}{path}{'?' + urlencode(query) if query else ''}"
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "announcer"}
        token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        answer = await self._rest.request(method, url, headers=headers, body=body, _request_timeout=limits)
        response: aiohttp.ClientResponse = answer.response
        return response

    # -- credentials -----------------------------------------------------------------------------------------------

    def _whence(self) -> str:
        return f"kubeconfig {self._kubeconfig}" if self._kubeconfig else f"service account of the pod {self._account}"

    async def _load(self) -> None:
        """Raises ApiError, which names the file and what is wrong with it."""
        try:
            async with asyncio.timeout(CREDENTIALS_SECONDS):
                if self._kubeconfig is None:
                    self._load_account()
                else:
                    await load_kube_config(
                        str(self._kubeconfig), client_configuration=self._configuration, persist_config=False
                    )
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else "?"
            raise ApiError(f"{self._whence()} can't be used: line {line}: {error.problem or 'no YAML'}") from error
        except TimeoutError as error:
            raise ApiError(f"{self._whence()} can't be used: no answer in {CREDENTIALS_SECONDS:g} s") from error
        except KeyError as error:
            raise ApiError(f"{self._whence()} can't be used: {error} is missing") from error
        except (ConfigException, OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise ApiError(f"{self._whence()} can't be used: {' '.join(str(error).split())}") from error
        if not self._configuration.host:
            raise ApiError(f"{self._whence()} can't be used: its cluster has no server")

    def _load_account(self) -> None:
        files = {"token_filename": str(self._account / "token"), "cert_filename": str(self._account / "ca.crt")}
        InClusterConfigLoader(**files, try_refresh_token=False, environ=os.environ).load_and_set(self._configuration)
        self._token_stamp = None
        self._configuration.refresh_api_key_hook = self._read_token
        self._read_token(self._configuration)

    def _read_token(self, configuration: Any) -> None:
        """The kubelet replaces the file well before the token in it ends; until a new one is there, the old counts."""
        with suppress(OSError):
            stat = (self._account / "token").stat()
            stamp = (stat.st_ino, stat.st_mtime_ns)
            if stamp != self._token_stamp and (text := (self._account / "token").read_text("ascii").strip()):
                configuration.api_key["BearerToken"] = f"Bearer {text}"
                self._token_stamp = stamp

    async def _renew(self, answer: aiohttp.ClientResponse) -> None:
        """After a 401: take new credentials, once for all requests that were sent with the old ones."""
        if answer.status != UNAUTHORIZED:
            return
        async with self._renewing:
            if answer.request_info.headers.get("Authorization") in {
                None,
                self._configuration.api_key.get("BearerToken"),
            }:
                await self._load()


def _proxy_of(url: str) -> str | None:
    """The one that HTTPS_PROXY and NO_PROXY mean for it, as every client takes it."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _socket_of_requests(address: Any) -> socket.socket:
    """The kernel gives up what isn't acknowledged for so long, also after we have closed: a write that a partition held
    up isn't delivered when somebody else may have begun to write.
    """
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return made


async def _lines(path: str, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    pieces: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        first, *more = chunk.split(b"\n")
        pieces.append(first)
        size += len(first)
        if more:
            yield b"".join(pieces)
            for line in more[:-1]:
                yield line
            pieces, size = [more[-1]], len(more[-1])
        if size > LONGEST_LINE:
            raise ApiError(f"GET {path}: a line of more than {LONGEST_LINE >> 20} MiB")
    if size:
        raise ApiError(f"GET {path}: the stream ended in the middle of a line")


def _abort(answer: aiohttp.ClientResponse) -> None:
    """A watch that is left before its end: TLS's own farewell would keep the socket for up to 30 s."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


def _unreachable(method: str, path: str, error: BaseException) -> NoAnswerError:
    return NoAnswerError(f"{method} {path}: {str(error) or type(error).__name__}")


def _refused(method: str, path: str, answer: aiohttp.ClientResponse, data: bytes) -> ApiError:
    """The Status object's own words (meta/v1), or the beginning of whatever else was sent."""
    message = data[:200].decode("utf-8", "replace")
    with suppress(msgspec.DecodeError):
        found = msgspec.json.decode(data)
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            message = found["message"]
    retry_after = answer.headers.get("Retry-After", "")
    return ApiError(
        f"{method} {path}: {answer.status} {message or answer.reason}",
        status=answer.status,
        retry_after_seconds=float(retry_after) if retry_after.isdecimal() else None,
    )
