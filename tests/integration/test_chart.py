"""deploy/chart: the objects of deploy/, changed by values, and values that can't be meant refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from announcer.cli import _parser, _tls
from lab.command import LabError
from tests.deploying import DEPLOY, Raw, chart, chart_text, composed, helm, kustomize, of_kind, pods

pytestmark = pytest.mark.kubernetes


def by_name(objects: list[Raw]) -> dict[tuple[str, str], Raw]:
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects)
    return found


def without(objects: list[Raw], *kinds: str) -> list[Raw]:
    return [one for one in objects if one["kind"] not in kinds]


@pytest.mark.parametrize(
    ("place", "setting"),
    [
        ("base", "podMonitors=false"),
        ("overlays/prometheus", "podMonitors=true prometheusRules=true"),
        ("overlays/bfd", "bfdd.enabled=true"),
    ],
)
def test_chart_has_the_objects_of_kustomize(place: str, setting: str) -> None:
    """Helm makes the namespace by --create-namespace, and CRDs in a step of its own."""
    expected = without(kustomize(place), "Namespace", "CustomResourceDefinition")
    assert by_name(chart(*setting.split())) == by_name(expected)


def test_chart_has_the_dashboard_of_kustomize(tmp_path: Path) -> None:
    expected = kustomize(composed(tmp_path, "dashboard"))
    assert by_name(chart("dashboard=true")) == by_name(without(expected, "Namespace"))


@pytest.mark.parametrize(("component", "client_ca"), [("metrics-tls", "false"), ("metrics-mtls", "true")])
def test_chart_has_the_tls_of_kustomize(tmp_path: Path, component: str, client_ca: str) -> None:
    expected = kustomize(composed(tmp_path, "prometheus", "bfd", component))
    settings = ('metricsTLS.secret="announcer-metrics"', f"metricsTLS.clientCA={client_ca}", "bfdd.enabled=true")
    assert by_name(chart("podMonitors=true", "prometheusRules=true", *settings)) == by_name(
        without(expected, "Namespace")
    )
    for name, pod in pods(expected).items():
        first = pod["containers"][0]
        found = _parser().parse_args([*first["args"], *(["--node=n1"] if name == "agent" else [])])
        assert _tls(found) is not None
        assert (found.metrics_client_ca is not None) is (client_ca == "true")
        (mount,) = (one for one in first["volumeMounts"] if one["name"] == "metrics-tls")
        assert found.metrics_cert.parent == found.metrics_key.parent == Path(mount["mountPath"])
        hooks = [one["lifecycle"]["preStop"]["httpGet"] for one in pod["containers"] if "lifecycle" in one]
        assert [one["scheme"] for one in hooks] == ["HTTPS"] * (3 if name == "agent" else 0)
        assert {first[f"{kind}Probe"]["httpGet"]["scheme"] for kind in ("startup", "liveness", "readiness")} == {
            "HTTPS"
        }


def test_chart_has_the_definitions_of_deploy() -> None:
    expected = by_name(of_kind(kustomize("."), "CustomResourceDefinition"))
    shown = helm("show", "crds", str(DEPLOY / "chart"))
    assert shown.count("kind: CustomResourceDefinition") == len(expected)
    assert all(f"  name: {name}" in shown for _, name in expected)


def test_objects_are_in_the_namespace_of_the_release() -> None:
    objects = chart(namespace="lb")
    assert {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]} == {"lb"}
    subjects = [one["subjects"] for one in of_kind(objects, "RoleBinding", "ClusterRoleBinding")]
    assert {subject["namespace"] for found in subjects for subject in found} == {"lb"}


RESOURCES = {"limits": {"memory": "1Gi"}}
TOLERATIONS = [{"key": "a", "operator": "Exists"}]
VALUES: list[tuple[str, Any, str, Any]] = [
    ("images.announcer.repository", "r/a", "agent.containers.0.image", "r/a:0.1.0"),
    ("images.announcer.tag", "2", "allocator.containers.0.image", "announcer:2"),
    ("images.exabgp.tag", "2", "agent.containers.1.image", "announcer-exabgp:2"),
    ("images.pullPolicy", "Always", "agent.containers.1.imagePullPolicy", "Always"),
    ("images.pullSecrets", [{"name": "s"}], "allocator.imagePullSecrets", [{"name": "s"}]),
    ("loadBalancerClasses", ["x/y"], "agent.containers.0.args.2", "--load-balancer-class=x/y"),
    ("loadBalancerClasses", ["x/y"], "allocator.containers.0.args.2", "--load-balancer-class=x/y"),
    ("agent.args", ["--ownership=interval=0.2"], "agent.containers.0.args.2", "--ownership=interval=0.2"),
    ("agent.drainSeconds", 3, "agent.containers.0.args.2", "--drain-seconds=3"),
    ("agent.drainSeconds", 3, "agent.terminationGracePeriodSeconds", 18),
    ("agent.resources", RESOURCES, "agent.containers.0.resources", RESOURCES),
    ("agent.nodeSelector", {"a": "b"}, "agent.nodeSelector", {"a": "b", "kubernetes.io/os": "linux"}),
    ("agent.tolerations", TOLERATIONS, "agent.tolerations", TOLERATIONS),
    ("agent.priorityClassName", "p", "agent.priorityClassName", "p"),
    ("exabgp.resources", RESOURCES, "agent.containers.1.resources", RESOURCES),
    ("allocator.args", ["--no-metallb-status"], "allocator.containers.0.args.2", "--no-metallb-status"),
    ("allocator.resources", RESOURCES, "allocator.containers.0.resources", RESOURCES),
    ("allocator.nodeSelector", {"a": "b"}, "allocator.nodeSelector.a", "b"),
    ("allocator.tolerations", TOLERATIONS, "allocator.tolerations", TOLERATIONS),
    ("allocator.priorityClassName", "p", "allocator.priorityClassName", "p"),
]


def at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


@pytest.mark.parametrize(("name", "value", "path", "expected"), VALUES, ids=[f"{v[0]} {v[2]}" for v in VALUES])
def test_value_changes_what_it_says(name: str, value: Any, path: str, expected: Any) -> None:
    assert at(pods(chart(f"{name}={json.dumps(value)}")), path) == expected


def test_bfdd_has_its_image_and_resources() -> None:
    settings = ("bfdd.enabled=true", 'images.bfdd.tag="2"', f"bfdd.resources={json.dumps(RESOURCES)}")
    *_, found = pods(chart(*settings))["agent"]["containers"]
    assert (found["name"], found["image"], found["resources"]) == ("bfdd", "announcer-bfd:2", RESOURCES)


def test_values_of_workloads_change_what_they_say() -> None:
    note = json.dumps({"a": "b"})
    settings = ("allocator.replicas=3", 'agent.maxUnavailable="10%"', f"agent.podAnnotations={note}")
    found = by_name(chart(*settings, f"allocator.podAnnotations={note}"))
    agent, allocator = found["DaemonSet", "announcer-agent"], found["Deployment", "announcer-allocator"]
    assert allocator["spec"]["replicas"] == 3
    assert agent["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%", "maxSurge": 0}
    assert all(one["spec"]["template"]["metadata"]["annotations"] == {"a": "b"} for one in (agent, allocator))


def test_what_is_turned_off_is_not_there() -> None:
    left = {kind for kind, _ in by_name(chart("admissionPolicy=false", "networkPolicy=false"))}
    gone = {"NetworkPolicy", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert {kind for kind, _ in by_name(chart())} - left == gone


WRONG = [
    ("agents={}", "agents"),
    ("agent.replicas=2", "replicas"),
    ("allocator.replicas=0", "/allocator/replicas"),
    ('images.announcer.tag="a b"', "/images/announcer/tag"),
    ('images.pullPolicy="Sometimes"', "/images/pullPolicy"),
    ('agent.maxUnavailable="0%"', "/agent/maxUnavailable"),
    ("agent.drainSeconds=301", "/agent/drainSeconds"),
    ('agent.args=["ownership"]', "/agent/args/0"),
    ('allocator.args=["--metrics-address=:1"]', "/allocator/args/0"),
    ('agent.args=["--metrics-cert=/a"]', "/agent/args/0"),
    ('agent.args=["--drain-seconds=60"]', "/agent/args/0"),
    ('agent.args=["--drain=60"]', "/agent/args/0"),
    ('podMonitors="yes"', "/podMonitors"),
    ("metricsTLS.clientCA=true", "/metricsTLS/secret"),
]


@pytest.mark.parametrize(("setting", "told"), WRONG, ids=[one for one, _ in WRONG])
def test_value_that_cannot_be_meant_is_refused_by_name(setting: str, told: str) -> None:
    with pytest.raises(LabError) as caught:
        chart_text(setting)
    assert told in str(caught.value)


def test_helm_has_nothing_to_complain_of() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(DEPLOY / "chart"))
