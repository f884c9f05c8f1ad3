"""The agent as people start it, and the port guard of its node: put, mended when it is flushed, and off."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from announcer.kernel.guard import GuardTable
from lab.command import wait_until
from tests.builders import Raw, endpoints, group, node, raw, service
from tests.integration.netns import Namespace, cable, namespace

pytestmark = pytest.mark.netns
VIP = "10.113.113.100"
SECONDS, MENDED_SECONDS = 20.0, 0.1
CLUSTER = [node("n1"), group("subnet-3"), service("web", addresses=[VIP]), endpoints("web", ["n1"])]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Namespace]:
    with namespace() as made, namespace() as other:
        cable(made, "eth0", other, "eth0")
        made.ip("addr", "add", "10.9.0.1/24", "dev", "eth0")
        (tmp_path / "manifests").mkdir()
        write(tmp_path, *CLUSTER)
        yield made


def write(folder: Path, *objects: Raw) -> None:
    text = "---\n".join(json.dumps(one) + "\n" for one in objects)
    (folder / "new").write_text(text, encoding="utf-8")
    (folder / "new").replace(folder / "manifests" / "all.yaml")


@contextmanager
def agent(place: Namespace, folder: Path, *arguments: str) -> Iterator[None]:
    argv = [sys.executable, "-m", "announcer", "agent", "--node", "n1", "--manifests", str(folder / "manifests")]
    argv += ["--exabgp-dir", str(folder), "--metrics-address", "", *arguments]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(["ip", "netns", "exec", place.name, *argv], stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


def ports(place: Namespace) -> set[int] | None:
    """Of VIP; None where there is no table, or none that works."""
    argv = ["ip", "netns", "exec", place.name, "nft", "-j", "list", "table", "inet", "announcer"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout)["nftables"]
    sets = {one["set"]["name"]: one["set"].get("elem", []) for one in found if "set" in one}
    if VIP not in sets["addresses-4"] or not any("rule" in one for one in found):
        return None
    return {port for address, _, port in (e["concat"] for e in sets["ports-4"]) if address == VIP}


async def seconds_until_mended(place: Namespace, harm: str) -> float:
    table = GuardTable(timeout_seconds=SECONDS)
    wanted = await table.read()
    await asyncio.to_thread(place.exec, "nft", harm)
    began = time.monotonic()
    async with asyncio.timeout(SECONDS):
        while True:
            if await table.read() == wanted:
                return time.monotonic() - began
            await asyncio.sleep(0.001)


def test_guard_follows_the_services_and_is_mended_at_once(place: Namespace, tmp_path: Path) -> None:
    with agent(place, tmp_path):
        wait_until(lambda: ports(place) == {80}, SECONDS, "the port of the Service")
        write(tmp_path, *CLUSTER[:2], service("web", addresses=[VIP], ports=[{"port": 443}, {"port": 80}]), CLUSTER[3])
        wait_until(lambda: ports(place) == {80, 443}, SECONDS, "its second port")
        for harm in ("flush ruleset", "flush table inet announcer", "flush set inet announcer ports-4"):
            with place.inside():
                seconds = asyncio.run(seconds_until_mended(place, harm))
            print(f"{harm}: mended after {1000 * seconds:.1f} ms")
            assert seconds < MENDED_SECONDS
    assert ports(place) == {80, 443}, "an agent that ends leaves its node guarded"


def test_off_removes_what_an_agent_before_has_put(place: Namespace, tmp_path: Path) -> None:
    with agent(place, tmp_path):
        wait_until(lambda: ports(place) == {80}, SECONDS, "the guard")
    place.exec("nft", "add table inet theirs")
    with agent(place, tmp_path, "--port-guard", "off"):
        wait_until(lambda: place.exec("nft", "list", "tables") == "table inet theirs\n", SECONDS, "our table gone")
        assert VIP in place.ip("addr", "show", "dev", "kube-lb0")


def test_guard_goes_with_the_last_address(place: Namespace, tmp_path: Path) -> None:
    with agent(place, tmp_path):
        wait_until(lambda: ports(place) == {80}, SECONDS, "the guard")
        write(tmp_path, *CLUSTER[:2], raw("v1", "Namespace", "test"))
        wait_until(
            lambda: "valid_lft forever" not in place.ip("addr", "show", "dev", "kube-lb0"), SECONDS, "the last 30 s"
        )
        assert ports(place) == {80}, "it drains: nothing closes while it is here"
        place.ip("addr", "del", f"{VIP}/32", "dev", "kube-lb0")
        wait_until(lambda: ports(place) is None, SECONDS, "no guard without addresses")
