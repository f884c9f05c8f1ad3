"""The streams that the e2e tests count lost packets with: an error that a router reports is a loss as well."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.topology import Lab
from tests.e2e.laboratory import stream, until
from tests.integration.netns import Namespace, cable, namespace

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]
TARGET = "198.51.100.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone(Lab):
    """Its one namespace is `prefix`."""

    def namespace(self, host: str) -> str:
        assert host == "host"
        return self.prefix


def interrupt(lab: Lab, router: Namespace) -> None:
    output = lab.run_dir / f"stream-{TARGET}"
    with stream(lab, TARGET):
        until(lambda: output.read_text("ascii").count(" ttl=") > 100, what="answers")
        router.ip("address", "del", f"{TARGET}/32", "dev", "lo")
        router.ip("route", "add", "unreachable", f"{TARGET}/32")
        until(lambda: "nreachable" in output.read_text("ascii"), what="an error")
        router.ip("address", "add", f"{TARGET}/32", "dev", "lo")


def test_stream_counts_what_a_router_calls_unreachable_as_lost(tmp_path: Path) -> None:
    with namespace() as client, namespace() as router:
        cable(client, "eth0", router, "eth0")
        client.ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        router.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        router.exec("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        router.ip("address", "add", f"{TARGET}/32", "dev", "lo")
        client.ip("route", "add", f"{TARGET}/32", "via", "192.0.2.1")
        with pytest.raises(AssertionError, match="no answer to"):
            interrupt(Alone(prefix=client.name, run_dir=tmp_path), router)
