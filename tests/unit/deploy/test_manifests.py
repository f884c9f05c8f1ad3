"""deploy/base: what its pods may do and are asked, against what the processes are; no file of deploy/ is left out."""

import tomllib
from typing import Any

import pytest
import yaml

from announcer.cli import _parser
from announcer.core.plan import Pace
from announcer.daemons.agent import HAND_OVER_SECONDS
from announcer.daemons.process import CLOSING_SECONDS
from lab.processes import AGENT_PORT
from lab.topology import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
KUSTOMIZATIONS = sorted([*DEPLOY.rglob("kustomization.yaml"), *DEPLOY.rglob("Kustomization")])
Raw = dict[str, Any]


def pod(name: str, folder: str = "base") -> Raw:
    found: Raw = yaml.safe_load((DEPLOY / folder / f"{name}.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
    return found


AGENT, ALLOCATOR = pod("daemonset-agent"), pod("deployment-allocator")
CLEANUP = pod("daemonset-cleanup", "cleanup")
PROCESSES = (*AGENT["containers"], *ALLOCATOR["containers"])
BFDD = yaml.safe_load((DEPLOY / "components" / "bfd" / "patch-agent.yaml").read_text("utf-8"))[3]["value"]
CONTAINERS = {one["name"]: one for one in (*PROCESSES, *CLEANUP["initContainers"], *CLEANUP["containers"], BFDD)}
CAPABILITIES = {
    "agent": ["NET_ADMIN", "NET_RAW", "SYS_NICE"],
    "exabgp": [],
    "bfdd": ["NET_BIND_SERVICE", "NET_RAW", "SYS_ADMIN"],
    "allocator": [],
    "cleanup": ["NET_ADMIN"],
    "clean": [],
}


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=lambda file: file.parent.name)
def test_kustomization_lists_every_file_beside_it(file: Any) -> None:
    found = yaml.safe_load(file.read_text("utf-8"))
    patches = [one["path"] for one in found.get("patches", []) if "path" in one]
    listed = {name for name in [*found.get("resources", []), *patches] if name.endswith(".yaml")}
    assert listed == {one.name for one in file.parent.glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_may_do_what_it_needs_and_no_more(name: str) -> None:
    context = CONTAINERS[name]["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context["capabilities"].get("add", []) == CAPABILITIES[name]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert not context.get("privileged")


@pytest.mark.parametrize(("name", "milli"), [("agent", 200), ("bfdd", 100)])
def test_container_that_must_run_in_time_has_the_weight_for_it(name: str, milli: int) -> None:
    """Nice counts within a cgroup alone; between pods the weight that the kubelet makes of the request does."""
    resources = CONTAINERS[name]["resources"]
    assert int(resources["requests"]["cpu"].removesuffix("m")) >= milli
    assert "cpu" not in resources["limits"]


def test_only_the_agents_pod_is_root_and_on_the_nodes_network() -> None:
    assert AGENT["hostNetwork"] is True
    assert {one["securityContext"]["runAsUser"] for one in AGENT["containers"]} == {0}
    assert CLEANUP["automountServiceAccountToken"] is False
    assert "hostNetwork" not in ALLOCATOR
    assert ALLOCATOR["securityContext"]["runAsNonRoot"] is True


def test_agent_and_exabgp_share_one_directory_at_one_path() -> None:
    (volume,) = AGENT["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    mounts = [one["volumeMounts"] for one in AGENT["containers"]]
    assert mounts == [[{"name": volume["name"], "mountPath": "/run/announcer"}]] * 2


def test_pod_of_the_agent_ends_when_the_agent_says_that_it_may() -> None:
    """All of it together, or sessions would end before their routes have drained; and before the kubelet's patience. A
    kubelet knows no address of a pod with hostNetwork for its hooks (seen with 1.34: FailedPreStopHook without `host`).
    """
    asked = {name: one["lifecycle"]["preStop"]["httpGet"] for name, one in CONTAINERS.items() if "lifecycle" in one}
    here = {"host": "127.0.0.1", "path": "/leave", "port": AGENT_PORT}
    assert asked == {"agent": here | {"port": "metrics"}, "exabgp": here, "bfdd": here}
    assert AGENT["terminationGracePeriodSeconds"] >= Pace().drain + HAND_OVER_SECONDS + CLOSING_SECONDS


@pytest.mark.parametrize("name", ["agent", "allocator"])
def test_arguments_are_the_programs_and_probes_ask_where_it_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    container = CONTAINERS[name]
    monkeypatch.setenv("NODE_NAME", "n1")
    found = _parser().parse_args(container["args"])
    assert found.command == name
    assert container["ports"] == [{"name": "metrics", "containerPort": found.metrics_address.port}]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {one["port"] for one in probes.values()} == {"metrics"}
    assert [one["path"] for one in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    assert {one["name"] for one in container["env"]} >= {"POD_NAMESPACE"}


def test_cleanup_runs_to_its_end_before_its_pod_is_ready() -> None:
    (cleanup,) = CLEANUP["initContainers"]
    assert _parser().parse_args(cleanup["args"]).command == "cleanup"


def test_images_are_of_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    chart = yaml.safe_load((DEPLOY / "chart" / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert {one["image"].rpartition(":")[2] for one in CONTAINERS.values()} == {version}
