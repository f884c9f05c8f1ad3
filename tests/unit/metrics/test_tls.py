"""TLS of the metrics server: who may ask for what, renewed files, and files that can't be used."""

import asyncio
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from announcer.metrics import Address, Server, TlsFiles
from announcer.metrics.server import CONNECTIONS_MOST
from announcer.metrics.tls import Tls, TlsError
from tests.certificates import Pair, authority, signed
from tests.waiting import until

HOME = "127.0.0.1"
GONE = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@pytest.fixture
def ca(tmp_path: Path) -> Pair:
    return authority(tmp_path, "ca")


@pytest.fixture
def files(ca: Pair) -> TlsFiles:
    found = signed(ca, "server")
    return TlsFiles(certificate=found.certificate, key=found.key)


@asynccontextmanager
async def serving(files: TlsFiles, *, request_seconds: float = 5.0) -> AsyncIterator[Server]:
    address = Address(host=HOME, port=0)
    text = (b"some 1\n", "text/plain")
    server = Server(address, lambda: text, lambda: (), files, request_seconds=request_seconds, retry_seconds=0.01)
    running = asyncio.ensure_future(server.run())
    try:
        yield server
    finally:
        running.cancel()
        await asyncio.wait({running})


def client(ca: Pair, own: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca.certificate)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


async def get(server: Server, path: str, context: ssl.SSLContext) -> tuple[int, str]:
    await until(lambda: server.port)
    reader, writer = await asyncio.open_connection(HOME, server.port, ssl=context)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        if not head:
            raise ConnectionResetError("no answer")
        return int(head.split(" ")[1]), body
    finally:
        writer.transport.abort()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_without_a_client_ca_everybody_may_ask_for_everything(ca: Pair, files: TlsFiles) -> None:
    async def test() -> None:
        async with serving(files) as server:
            assert await get(server, "/metrics", client(ca)) == (200, "some 1\n")
            assert await get(server, "/healthz", client(ca)) == (200, "ok\n")

    run(test)


def test_metrics_are_for_clients_that_the_ca_signed_and_health_is_for_all(ca: Pair, files: TlsFiles) -> None:
    async def test() -> None:
        async with serving(replace(files, client_ca=ca.certificate)) as server:
            status, text = await get(server, "/metrics", client(ca))
            assert (status, "--metrics-client-ca" in text) == (403, True)
            assert (await get(server, "/metrics", client(ca, signed(ca, "prometheus"))))[0] == 200
            assert (await get(server, "/healthz", client(ca)))[0] == 200
            assert (await get(server, "/readyz", client(ca)))[0] == 200

    run(test)


def test_certificate_of_another_ca_gets_nothing(ca: Pair, files: TlsFiles, tmp_path: Path) -> None:
    stranger = signed(authority(tmp_path, "other"), "stranger")

    async def test() -> None:
        async with serving(replace(files, client_ca=ca.certificate)) as server:
            for path in ("/metrics", "/healthz"):
                with pytest.raises(GONE):
                    await get(server, path, client(ca, stranger))
            assert (await get(server, "/healthz", client(ca)))[0] == 200

    run(test)


def test_plain_http_gets_nothing_and_the_next_is_answered(ca: Pair, files: TlsFiles) -> None:
    async def test() -> None:
        async with serving(files) as server:
            await until(lambda: server.port)
            reader, writer = await asyncio.open_connection(HOME, server.port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert b"some" not in await reader.read()
            writer.close()
            assert (await get(server, "/healthz", client(ca)))[0] == 200

    run(test)


def test_who_shakes_hands_slowly_is_cut_off(ca: Pair, files: TlsFiles) -> None:
    async def test() -> None:
        async with serving(files, request_seconds=0.2) as server:
            await until(lambda: server.port)
            reader, writer = await asyncio.open_connection(HOME, server.port)
            assert await reader.read() == b""
            writer.close()
            assert (await get(server, "/healthz", client(ca)))[0] == 200

    run(test)


def test_more_connections_than_it_takes_get_no_handshake(files: TlsFiles) -> None:
    async def test() -> None:
        async with serving(files, request_seconds=60) as server:
            await until(lambda: server.port)
            opened = [await asyncio.open_connection(HOME, server.port) for _ in range(CONNECTIONS_MOST + 1)]
            assert await opened[-1][0].read() == b""
            for _, writer in opened:
                writer.close()

    run(test)


def put(pair: Pair, files: TlsFiles) -> None:
    shutil.copy(pair.certificate, files.certificate)
    shutil.copy(pair.key, files.key)


def test_renewed_files_serve_the_next_connection(ca: Pair, files: TlsFiles, tmp_path: Path) -> None:
    """Also through links, as the kubelet renews a Secret; a CA that is no more is not trusted any longer."""
    (tmp_path / "later").mkdir()
    later = authority(tmp_path / "later", "later")
    put(signed(later, "server"), TlsFiles(certificate=tmp_path / "later/tls.crt", key=tmp_path / "later/tls.key"))
    (tmp_path / "now").mkdir()
    put(
        Pair(files.certificate, files.key), TlsFiles(certificate=tmp_path / "now/tls.crt", key=tmp_path / "now/tls.key")
    )
    shutil.copy(ca.certificate, tmp_path / "now/ca.crt")
    shutil.copy(later.certificate, tmp_path / "later/ca.crt")
    data = tmp_path / "data"
    data.symlink_to("now")
    linked = TlsFiles(certificate=data / "tls.crt", key=data / "tls.key", client_ca=data / "ca.crt")
    before, after = signed(ca, "a"), signed(later, "b")

    async def test() -> None:
        async with serving(linked) as server:
            assert (await get(server, "/metrics", client(ca, before)))[0] == 200
            (tmp_path / "next").symlink_to("later")
            (tmp_path / "next").replace(data)
            assert (await get(server, "/metrics", client(later, after)))[0] == 200
            with pytest.raises(GONE):
                await get(server, "/metrics", client(later, before))

    run(test)


def test_half_a_renewal_leaves_what_was_before(
    ca: Pair, files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = signed(authority(tmp_path, "other"), "fresh")

    async def test() -> None:
        async with serving(files) as server:
            assert (await get(server, "/healthz", client(ca)))[0] == 200
            shutil.copy(other.certificate, files.certificate)
            for _ in range(2):
                assert (await get(server, "/healthz", client(ca)))[0] == 200
            shutil.copy(other.key, files.key)
            with pytest.raises(ssl.SSLCertVerificationError):
                await get(server, "/healthz", client(ca))
            files.key.unlink()
            with pytest.raises(ssl.SSLCertVerificationError):
                await get(server, "/healthz", client(ca))

    run(test)
    told = [str(vars(record)) for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert "is not the key of" in told[0]
    assert "No such file" in told[1]


def encrypt(file: Path) -> None:
    """In place."""
    argv = ["openssl", "pkcs8", "-topk8", "-in", str(file), "-passout", "pass:secret", "-out", f"{file}.new"]
    subprocess.run(argv, check=True, timeout=20)
    Path(f"{file}.new").replace(file)


def damage(file: Path, how: str) -> None:
    file.unlink()
    match how:
        case "empty":
            file.touch()
        case "garbage":
            file.write_bytes(b"\xff\x00")
        case "folder":
            file.mkdir()


WRONG = [
    ("server.crt", "missing", "--metrics-cert", "No such file"),
    ("server.crt", "empty", "--metrics-cert", "no PEM certificate"),
    ("server.crt", "garbage", "--metrics-cert", "no PEM certificate"),
    ("server.key", "missing", "--metrics-key", "No such file"),
    ("server.key", "garbage", "--metrics-key", "no PEM private key"),
    ("server.key", "folder", "--metrics-key", "Is a directory"),
    ("ca.crt", "missing", "--metrics-client-ca", "No such file"),
    ("ca.crt", "empty", "--metrics-client-ca", "no PEM certificate"),
]


@pytest.mark.parametrize(("name", "how", "option", "told"), WRONG)
def test_file_that_cannot_be_used_is_named(
    ca: Pair, files: TlsFiles, name: str, how: str, option: str, told: str
) -> None:
    file = ca.certificate.parent / name
    damage(file, how)
    with pytest.raises(TlsError) as caught:
        Tls(replace(files, client_ca=ca.certificate)).context()
    assert f"{option} {file}" in str(caught.value)
    assert told in str(caught.value)
    assert ": give" in str(caught.value)


def test_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(files: TlsFiles) -> None:
    encrypt(files.key)
    with pytest.raises(TlsError, match="without a passphrase"):
        Tls(files).context()


def test_key_of_another_certificate_is_refused(ca: Pair, files: TlsFiles) -> None:
    with pytest.raises(TlsError, match="is not the key of"):
        Tls(replace(files, key=signed(ca, "other").key)).context()


def test_nothing_older_than_tls_1_2_is_spoken(files: TlsFiles) -> None:
    assert Tls(files).context().minimum_version is ssl.TLSVersion.TLSv1_2


def test_server_waits_for_files_that_can_be_used(ca: Pair, files: TlsFiles, caplog: pytest.LogCaptureFixture) -> None:
    """And never serves without TLS instead."""
    key = files.key.read_bytes()
    files.key.unlink()

    async def test() -> None:
        async with serving(files) as server:
            await until(lambda: caplog.records)
            assert server.port == 0
            assert f"--metrics-key {files.key}" in str(vars(caplog.records[0]))
            files.key.write_bytes(key)
            assert (await get(server, "/healthz", client(ca)))[0] == 200

    run(test)
