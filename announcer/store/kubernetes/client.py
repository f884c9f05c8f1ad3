"""The one door to the Kubernetes API: requests and watch streams as bytes, and one family of errors.

The library `kubernetes` does transport and authentication (kubeconfig with its plugins; in a pod the service account,
whose token it reads again every minute); none of its models, watches or retries are used. No call waits longer than
the timeout that it is given.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from announcer.store import StoreError

APPLY: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"
CONNECT_SECONDS: Final = 5.0
LONGEST_LINE: Final = 16 << 20
CONNECTIONS: Final = 64
"""More than all watches and all writers together, so that a lease renewal never waits for a connection."""


class ApiError(StoreError):
    """The API server answered with an error (`status` is the HTTP one), or did not answer (`status` 0).

    `retry_after_seconds` is what the server asked for (RFC 9110 §10.2.3), None where it didn't.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_seconds = status, retry_after_seconds


class Client:
    """`async with Client(kubeconfig)`; None takes the service account of the pod."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self._kubeconfig = kubeconfig
        self._configuration = Configuration()
        self._rest: RESTClientObject | None = None

    async def __aenter__(self) -> Self:
        configuration = self._configuration
        try:
            if self._kubeconfig is None:
                load_incluster_config(configuration)
            else:
                await load_kube_config(str(self._kubeconfig), client_configuration=configuration, persist_config=False)
            configuration.connection_pool_maxsize = CONNECTIONS
            self._rest = RESTClientObject(configuration)
        except (ConfigException, OSError, KeyError, ValueError) as error:
            where = f"kubeconfig {self._kubeconfig}" if self._kubeconfig else "service account of the pod"
            raise ApiError(f"{where} can't be used: {error}") from error
        return self

    async def __aexit__(self, *_error: tuple[type[BaseException], BaseException, TracebackType] | None) -> None:
        if self._rest is not None:
            await self._rest.close()

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
        """The body of a 2xx answer. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(CONNECT_SECONDS, timeout_seconds))
        try:
            answer = await self._send(method, path, query, body, content_type, timeout)
            async with answer:
                data: bytes = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise _unreachable(method, path, error) from error
        if answer.status >= 300:
            raise _refused(method, path, answer, data)
        return data

    async def stream(self, path: str, *, query: Mapping[str, str], idle_seconds: float) -> AsyncIterator[bytes]:
        """The lines of a watch, each without its end. Ends where the server ends it; a silence of `idle_seconds`, an
        end in the middle of a line and every other failure is an ApiError.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
        try:
            async with await self._send("GET", path, query, None, JSON, timeout) as answer:
                if answer.status >= 300:
                    raise _refused("GET", path, answer, await answer.read())
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                    if len(rest) > LONGEST_LINE:
                        raise ApiError(f"GET {path}: a line of more than {LONGEST_LINE >> 20} MiB")
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise _unreachable("GET", path, error) from error
        if rest:
            raise ApiError(f"GET {path}: the stream ended in the middle of a line")

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


def _unreachable(method: str, path: str, error: BaseException) -> ApiError:
    return ApiError(f"{method} {path}: {str(error) or type(error).__name__}")


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
