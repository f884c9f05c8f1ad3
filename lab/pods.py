"""The pods of the lab with kubelets: waiting for them, and whether they run as they should."""

import json
from typing import Any, Final

from lab import control_plane
from lab.command import LabError, wait_until
from lab.topology import NODES, Lab

START_SECONDS: Final = 180.0
EXPECTED: Final = {"announcer-agent": len(NODES), "announcer-allocator": 2, "test-nginx": 3}
"""How many there are of each, by the beginning of their names."""


def of(lab: Lab) -> list[Any]:
    found: list[Any] = json.loads(control_plane.kubectl(lab, "get", "pods", "--all-namespaces", "-o", "json"))["items"]
    return found


def wait(lab: Lab) -> None:
    """Until all are ready."""
    try:
        wait_until(lambda: not complaint(lab), START_SECONDS, "the pods")
    except LabError as error:
        raise LabError(f"{error}: {complaint(lab)}") from error


def complaint(lab: Lab) -> str:
    """What is not as it should be; empty where all pods are there and ready."""
    found = of(lab)
    ready = {pod["metadata"]["name"]: is_ready(pod) for pod in found}
    wrong = [name for name, is_so in ready.items() if not is_so]
    for prefix, count in EXPECTED.items():
        there = sum(name.startswith(prefix) for name in ready)
        wrong += [f"{there} of {count} {prefix}"] if there != count else []
    return ", ".join(wrong)


def is_ready(pod: Any) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def restarts(pod: Any) -> int:
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))
