"""The door to the API: what it says of files that can't be used, whose token it sends, and what it makes of answers."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from announcer.store.kubernetes import ApiError, Client
from announcer.store.kubernetes.client import LONGEST_LINE
from tests import kube

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of one on loopback."""
    made = web.Server(handler, handler_cancellation=True, access_log=None)
    listener = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await made.shutdown(5.0)


def run(tmp_path: Path, handler: Handler, test: Callable[[Client], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(10), server(handler) as port:
            config = kube.kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}", "secret")
            async with Client(config) as client:
                await test(client)
        await kube.transports_closed()

    asyncio.run(within())


def answering(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def sending(*chunks: bytes, then: Callable[[web.BaseRequest], Awaitable[None]] | None = None) -> Handler:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then is not None:
            await then(request)
        return response

    return answer


async def refused(client: Client, **more: float) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await client.request("GET", "/api", timeout_seconds=more.get("timeout_seconds", 5.0))
    return caught.value


async def read(client: Client, *, idle_seconds: float = 5.0) -> list[bytes]:
    async with client.stream("/watch", query={}, idle_seconds=idle_seconds) as lines:
        return [line async for line in lines]


# -- files ---------------------------------------------------------------------------------------------------------

CONFIG = """\
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""
CA_FILE = ", certificate-authority: /no/file}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "kubeconfig"),
        ("", "kubeconfig"),
        ("just words", "kubeconfig"),
        ("- a\n- list\n", "kubeconfig"),
        (CONFIG + "a: b: c\n", "line 5"),
        ("\0", "kubeconfig"),
        ("{}", "current-context"),
        (CONFIG.replace("current-context: x", "current-context: y"), "y"),
        (CONFIG.replace("{name: c", "{name: d"), "c"),
        (CONFIG.replace("server:", "serve:"), "server"),
        (CONFIG.replace('1"}', f'1"{CA_FILE}'), "/no/file"),
        (CONFIG.replace("{token: t}", "{client-certificate-data: '?'}"), "kubeconfig"),
    ],
    ids=["none", "empty", "text", "list", "yaml", "binary", "no-context", "context", "cluster", "server", "ca", "data"],
)
def test_kubeconfig_that_cannot_be_used_is_named_with_what_is_wrong(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    config = tmp_path / "my.kubeconfig"
    if text is not None:
        config.write_text(text)

    async def test() -> None:
        async with Client(config):
            pass

    with pytest.raises(ApiError, match=r"my\.kubeconfig can't be used") as caught:
        asyncio.run(test())
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pod_without_a_service_account_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Client(None, account=tmp_path):
            pass

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ApiError, match=r"service account of the pod .* can't be used"):
        asyncio.run(test())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    with pytest.raises(ApiError, match="token"):
        asyncio.run(test())


# -- tokens --------------------------------------------------------------------------------------------------------


def certificate(folder: Path) -> ssl.SSLContext:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "1", "-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "ca.crt")]
    subprocess.run([*made, *names, *files], check=True, capture_output=True, timeout=10)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "ca.crt", folder / "key")
    return context


def test_token_of_the_pod_is_read_again_as_soon_as_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kubelet does it: a link to a folder that is replaced."""
    context, sent = certificate(tmp_path), list[str]()

    def rotate(number: int, text: str) -> None:
        (tmp_path / f"data{number}").mkdir()
        (tmp_path / f"data{number}" / "token").write_text(text)
        (tmp_path / "new").symlink_to(f"data{number}")
        (tmp_path / "new").replace(tmp_path / "data")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(request.headers["Authorization"])
        return web.Response(body=b"{}")

    async def test() -> None:
        async with asyncio.timeout(10), server(answer, context) as port:
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
            async with Client(None, account=tmp_path) as client:
                await client.request("GET", "/api", timeout_seconds=5)
                for number, text in enumerate(("second\n", "", "third")):
                    rotate(number + 1, text)
                    await client.request("GET", "/api", timeout_seconds=5)
                (tmp_path / "data").unlink()
                await client.request("GET", "/api", timeout_seconds=5)
        await kube.transports_closed()

    rotate(0, "first")
    (tmp_path / "token").symlink_to("data/token")
    asyncio.run(test())
    assert sent == ["Bearer first", "Bearer second", "Bearer second", "Bearer third", "Bearer third"]


def test_kubeconfig_is_read_again_after_401(tmp_path: Path) -> None:
    sent: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(request.headers["Authorization"])
        return web.Response(status=200 if sent[-1] == "Bearer new" else 401, body=b"{}")

    async def test(client: Client) -> None:
        config = tmp_path / "kubeconfig"
        config.write_text(config.read_text().replace("secret", "new"))
        assert {(await refused(client)).status} == {401}
        await client.request("GET", "/api", timeout_seconds=5)

    run(tmp_path, answer, test)
    assert sent == ["Bearer secret", "Bearer new"]


def test_plugin_is_asked_again_once_for_many_that_were_refused(tmp_path: Path) -> None:
    plugin, count = tmp_path / "plugin", tmp_path / "count"
    said = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t%s"}}'
    plugin.write_text(f"#!/bin/sh\necho >> {count}\nprintf '{said}' $(wc -l < {count})\n")
    plugin.chmod(0o700)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401 if request.headers["Authorization"] == "Bearer t1" else 200, body=b"{}")

    async def test() -> None:
        async with asyncio.timeout(10), server(answer) as port:
            config = kube.kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}", "none")
            found = json.loads(config.read_text())
            version = "client.authentication.k8s.io/v1"
            found["users"][0]["user"] = {"exec": {"apiVersion": version, "command": str(plugin), "args": []}}
            config.write_text(json.dumps(found))
            async with Client(config) as client:
                await asyncio.gather(*(refused(client) for _ in range(5)))
                await client.request("GET", "/api", timeout_seconds=5)
        await kube.transports_closed()

    asyncio.run(test())
    assert len(count.read_text().splitlines()) == 2


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", 7.0), ("0", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", None), ("-1", None), ("soon", None), ("", None)],
)
def test_retry_after_is_what_the_server_asked_for(tmp_path: Path, given: str, seconds: float | None) -> None:
    async def test(client: Client) -> None:
        error = await refused(client)
        assert (error.status, error.retry_after_seconds) == (429, seconds)

    run(tmp_path, answering(429, b"{}", Retry_After=given), test)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"kind": "Status", "message": "services is forbidden"}', "services is forbidden"),
        (b"<html><body>Bad Gateway</body></html>", "<html>"),
        (b"", "Bad Gateway"),
        (b"[1]", "[1]"),
        (b"\xff\xfe" * 500, "502"),
    ],
)
def test_error_says_what_the_server_said(tmp_path: Path, body: bytes, text: str) -> None:
    async def test(client: Client) -> None:
        error = await refused(client)
        assert text in str(error)
        assert len(str(error)) < 300

    run(tmp_path, answering(502, body), test)


def test_request_that_hangs_ends_in_time_and_told_the_server(tmp_path: Path) -> None:
    asked: list[str] = []

    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.query["timeout"])
        await asyncio.Event().wait()
        return web.Response()

    async def test(client: Client) -> None:
        assert (await refused(client, timeout_seconds=0.1)).status == 0
        assert asked == ["1s"]

    run(tmp_path, hang, test)


def test_body_that_trickles_ends_in_time(tmp_path: Path) -> None:
    async def trickle(request: web.BaseRequest) -> None:
        await asyncio.Event().wait()

    async def test(client: Client) -> None:
        assert (await refused(client, timeout_seconds=0.2)).status == 0

    run(tmp_path, sending(b"{", then=trickle), test)


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b'{"a"', b":1}\n{", b"}\n"], [b'{"a":1}', b"{}"]),
        ([b"one\ntwo\n", b"\n", b"three\n"], [b"one", b"two", b"", b"three"]),
        ([], []),
    ],
)
def test_lines_are_put_together(tmp_path: Path, chunks: list[bytes], lines: list[bytes]) -> None:
    async def test(client: Client) -> None:
        assert await read(client) == lines

    run(tmp_path, sending(*chunks), test)


def test_end_in_the_middle_of_a_line_is_an_error(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(ApiError, match="middle of a line"):
            await read(client)

    run(tmp_path, sending(b'{}\n{"type"'), test)


def test_line_without_end_is_given_up(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(ApiError, match="more than 16 MiB"):
            await read(client)

    run(tmp_path, sending(*[b"x" * (1 << 20)] * ((LONGEST_LINE >> 20) + 1)), test)


def test_silent_stream_is_given_up(tmp_path: Path) -> None:
    async def silence(_request: web.BaseRequest) -> None:
        await asyncio.Event().wait()

    async def test(client: Client) -> None:
        with pytest.raises(ApiError):
            await read(client, idle_seconds=0.1)

    run(tmp_path, sending(b"{}\n", then=silence), test)


def test_stream_that_is_refused_is_an_error(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(ApiError, match="no watch") as caught:
            await read(client)
        assert caught.value.status == 410

    run(tmp_path, answering(410, b'{"message": "no watch"}'), test)


def test_client_that_is_closed_sends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Client(kube.kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", "t")) as client:
            pass
        assert "not open" in str(await refused(client))

    asyncio.run(test())


def test_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with Client(kube.kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", "t")) as client:
            assert (await refused(client)).status == 0

    asyncio.run(test())
