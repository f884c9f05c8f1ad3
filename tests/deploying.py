"""What deploy/ renders to, by kubectl and as values."""

from typing import Any, Final

import yaml

from lab import binaries
from lab.command import run
from lab.topology import REPOSITORY

Raw = dict[str, Any]
DEPLOY: Final = REPOSITORY / "deploy"
PLACES: Final = (".", "base", "overlays/metallb", "overlays/prometheus", "overlays/purelb")
"""All that people apply with -k, below deploy/."""


def kustomize(place: str) -> list[Raw]:
    """The objects, in the order in which they are applied."""
    text = run([str(binaries.provide() / "kubectl"), "kustomize", str(DEPLOY / place)], timeout=60.0)
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(objects: list[Raw], *kinds: str) -> list[Raw]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Raw]) -> dict[str, Raw]:
    """The pod spec of each process, by its component's name."""
    found = of_kind(objects, "DaemonSet", "Deployment")
    label = "app.kubernetes.io/component"
    return {one["metadata"]["labels"][label]: one["spec"]["template"]["spec"] for one in found}
