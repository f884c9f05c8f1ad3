"""The allocator as a process, asked by curl as the kubelet and Prometheus ask it by TLS."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.command import wait_until
from tests.builders import group
from tests.certificates import Pair, authority, signed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def allocator(folder: Path, port: int, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    (folder / "manifests").mkdir()
    (folder / "manifests" / "group.yaml").write_text(json.dumps(group()))
    argv = [sys.executable, "-m", "announcer", "allocator", "--manifests", str(folder / "manifests")]
    argv += ["--metrics-address", f"127.0.0.1:{port}", *arguments]
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def curl(*arguments: str) -> str:
    """The status, 000 where there was no answer."""
    argv = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout


def shown(own: Pair) -> tuple[str, ...]:
    return ("--cert", str(own.certificate), "--key", str(own.key))


def test_probes_and_prometheus_get_what_is_theirs_before_and_after_a_renewal(tmp_path: Path) -> None:
    ca = authority(tmp_path, "ca")
    server, prometheus = signed(ca, "server"), signed(ca, "prometheus")
    port = free_port()
    home = f"https://127.0.0.1:{port}"
    files = (f"--metrics-cert={server.certificate}", f"--metrics-key={server.key}")
    trust = ("--cacert", str(ca.certificate))
    with allocator(tmp_path, port, *files, f"--metrics-client-ca={ca.certificate}") as process:
        wait_until(lambda: curl("--insecure", f"{home}/readyz") == "200", 30.0, "the probe")
        assert curl("--insecure", f"{home}/healthz") == "200"
        assert curl("--insecure", f"{home}/metrics") == "403"
        assert curl(*trust, *shown(prometheus), f"{home}/metrics") == "200"
        fresh = authority(tmp_path, "fresh")
        for ours, theirs in zip((server.key, server.certificate), (fresh.key, fresh.certificate), strict=True):
            shutil.copy(theirs, ours)
        assert curl(*trust, *shown(prometheus), f"{home}/metrics") == "000"
        assert curl("--insecure", *shown(prometheus), f"{home}/metrics") == "200"
        assert process.poll() is None
    assert "the certificate of metrics was renewed" in (tmp_path / "log").read_text("utf-8")
