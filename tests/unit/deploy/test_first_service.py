"""docs/first-service.md: its manifests mean what the text beside them says."""

import re
from dataclasses import replace
from typing import Any

import yaml

from announcer.core.allocate import Assignment, allocate
from announcer.core.desired import Desired, Mode, desired
from announcer.core.model import NodeName, Snapshot
from lab.topology import REPOSITORY
from tests.builders import endpoints, ip, kernel, pool, snapshot

TEXT = (REPOSITORY / "docs" / "first-service.md").read_text("utf-8")
FIRST, ROUTED = (list(yaml.safe_load_all(text)) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
WEB = endpoints("web") | {"metadata": endpoints("web")["metadata"] | {"namespace": "default"}}


def with_address(address: str, *objects: Any) -> Snapshot:
    """As the allocator leaves it, once it has given the address that is expected of it."""
    before = snapshot(*objects, WEB)
    assert before.problems == ()
    (decision,) = allocate(before).values()
    assert isinstance(decision, Assignment)
    assert decision.addresses == (ip(address),)
    (service,) = before.services
    return replace(before, services=(replace(service, status_addresses=(ip(address),)),))


def placed(found: Snapshot) -> set[Mode | None]:
    wanted = desired(found, NodeName("n1"), kernel("n1"))
    assert isinstance(wanted, Desired)
    return {one.mode for one in wanted.placements}


def test_first_service_gets_an_address_of_the_subnet_and_is_local() -> None:
    assert placed(with_address("10.111.111.240", *FIRST)) == {Mode.LOCAL}


def test_with_a_peer_and_another_network_it_is_virtual() -> None:
    kept = [one for one in FIRST if one["kind"] == "Service"]
    assert placed(with_address("10.113.113.0", *kept, *ROUTED, pool("first", "10.113.113.0/24"))) == {Mode.VIRTUAL}
