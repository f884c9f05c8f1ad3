"""What deploy/ renders to, by kubectl and by Helm, as values."""

import json
import os
from pathlib import Path
from typing import Any, Final

import yaml

from lab import binaries
from lab.command import run
from lab.topology import REPOSITORY

Raw = dict[str, Any]
DEPLOY: Final = REPOSITORY / "deploy"
PLACES: Final = (".", "base", "overlays/bfd", "overlays/metallb", "overlays/prometheus", "overlays/purelb")
"""All that people apply with -k, below deploy/."""


def alerts() -> list[Raw]:
    """The alerting rules of the PrometheusRule."""
    file = DEPLOY / "components" / "prometheus" / "prometheusrule.yaml"
    (group,) = yaml.safe_load(file.read_text("utf-8"))["spec"]["groups"]
    rules: list[Raw] = group["rules"]
    return rules


def kustomize(place: str | Path) -> list[Raw]:
    """The objects, in the order in which they are applied; `place` below deploy/, or absolute."""
    text = run([str(binaries.provide() / "kubectl"), "kustomize", str(DEPLOY / place)], timeout=60.0)
    return [one for one in yaml.safe_load_all(text) if one]


def composed(folder: Path, *components: str, place: str = "base", **more: str) -> Path:
    """A kustomization in that folder, of a place and components of deploy/, as people make their own."""
    (folder / "kustomization.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(DEPLOY / place, folder)],
                "components": [os.path.relpath(DEPLOY / "components" / name, folder) for name in components],
                **more,
            }
        )
    )
    return folder


def helm(*arguments: str) -> str:
    """What it wrote; raises LabError with what it complained of."""
    return run([str(binaries.provide_helm()), *arguments], timeout=60.0)


def chart(*settings: str, namespace: str = "announcer-system") -> list[Raw]:
    """The objects of the chart but for its CRDs, by settings such as `podMonitors=true`."""
    return [one for one in yaml.safe_load_all(chart_text(*settings, namespace=namespace)) if one]


def chart_text(*settings: str, namespace: str = "announcer-system", more: tuple[str, ...] = ()) -> str:
    flags = [flag for setting in settings for flag in ("--set-json", setting)]
    return helm("template", "announcer", str(DEPLOY / "chart"), f"--namespace={namespace}", *flags, *more)


def of_kind(objects: list[Raw], *kinds: str) -> list[Raw]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Raw]) -> dict[str, Raw]:
    """The pod spec of each process, by its component's name."""
    found = of_kind(objects, "DaemonSet", "Deployment")
    label = "app.kubernetes.io/component"
    return {one["metadata"]["labels"][label]: one["spec"]["template"]["spec"] for one in found}
