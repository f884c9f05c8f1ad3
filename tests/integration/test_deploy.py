"""deploy/ on a real API server: base and overlays are taken as they are, and an agent speaks for its own node alone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from announcer.store.kubernetes import Resource
from lab.command import LabError, wait_until
from lab.topology import REPOSITORY
from tests.builders import Raw
from tests.cluster import Cluster, cluster
from tests.deploying import DEPLOY, PLACES, chart, chart_text, composed, kustomize, of_kind, pods
from tests.kube import open_kind

pytestmark = pytest.mark.kubernetes
NAMESPACES = {"overlays/metallb": "metallb-system", "overlays/purelb": "purelb-system"}
NAMES = {"overlays/metallb": {"controller", "speaker"}, "overlays/purelb": {"allocator", "lbnodeagent"}}
OPERATOR = [
    Resource(kind=kind, group="monitoring.coreos.com", versions=("v1",), plural=f"{kind.lower()}s")
    for kind in ("PodMonitor", "PrometheusRule")
]
"""Of the Prometheus operator; their fields are not looked at here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One on which announcer was installed by `kubectl apply -k deploy/`."""
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        for kind in OPERATOR:
            made.kubectl("apply", "-f", "-", stdin=json.dumps(open_kind(kind)))
        for name in NAMESPACES.values():
            made.kubectl("create", "namespace", name)
        made.kubectl("apply", "-k", str(DEPLOY))
        made.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        yield made


@pytest.mark.parametrize("place", [*PLACES, "cleanup"])
def test_api_server_takes_all_of_it(server: Cluster, place: str) -> None:
    objects = kustomize(place)
    done = server.kubectl("apply", "-k", str(DEPLOY / place), "--dry-run=server", "--warnings-as-errors")
    assert len(done.splitlines()) == len(objects)
    assert all(line.endswith(("(server dry run)",)) for line in done.splitlines())


def test_api_server_takes_the_components(server: Cluster, tmp_path: Path) -> None:
    composed(tmp_path, "prometheus", "dashboard", "metrics-mtls")
    server.kubectl("apply", "-k", str(tmp_path), "--dry-run=server", "--warnings-as-errors")


@pytest.mark.parametrize("place", NAMESPACES)
def test_components_go_with_overlays_in_their_namespace(server: Cluster, tmp_path: Path, place: str) -> None:
    components = ("prometheus", "dashboard", "bfd", "metrics-mtls")
    objects = kustomize(composed(tmp_path, *components, place=place, namespace=NAMESPACES[place]))
    assert {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]} == {NAMESPACES[place]}
    schemes = [
        one["readinessProbe"]["httpGet"]["scheme"] for pod in pods(objects).values() for one in pod["containers"][:1]
    ]
    assert schemes == ["HTTPS", "HTTPS"]
    server.kubectl("apply", "-k", str(tmp_path), "--dry-run=server", "--warnings-as-errors")


@pytest.mark.parametrize("settings", [(), ("podMonitors=true", "allocator.replicas=3")], ids=["default", "changed"])
def test_api_server_takes_the_chart(server: Cluster, settings: tuple[str, ...]) -> None:
    text = chart_text(*settings, more=("--include-crds",))
    done = server.kubectl("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-", stdin=text)
    assert len(done.splitlines()) > len(chart(*settings))


def test_api_server_takes_what_the_guide_applies(server: Cluster) -> None:
    guide = (REPOSITORY / "docs" / "first-service.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        server.kubectl("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-", stdin=block)


@pytest.mark.parametrize("place", PLACES)
def test_everything_is_in_one_namespace_and_rights_go_to_those_who_run_there(server: Cluster, place: str) -> None:
    objects = kustomize(place)
    namespace = NAMESPACES.get(place, "announcer-system")
    assert {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]} == {namespace}
    accounts = {pod["serviceAccountName"] for pod in pods(objects).values()}
    bindings = of_kind(objects, "RoleBinding", "ClusterRoleBinding")
    assert len(bindings) == 2 * len(accounts)
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert (subject["namespace"], subject["name"] in accounts) == (namespace, True)
    assert {one["metadata"]["name"] for one in of_kind(objects, "ServiceAccount")} == accounts


@pytest.mark.parametrize("place", NAMES)
def test_overlay_has_the_names_of_whom_it_replaces_but_not_its_namespace(server: Cluster, place: str) -> None:
    """Whoever deletes it again keeps the objects that are there."""
    objects = kustomize(place)
    workloads = of_kind(objects, "DaemonSet", "Deployment")
    assert {one["metadata"]["name"] for one in workloads} == NAMES[place]
    for one in workloads:
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert labels["app"] == place.rpartition("/")[2]
        assert labels["component"] == one["metadata"]["name"]
        assert labels.items() >= one["spec"]["selector"]["matchLabels"].items()
    assert not of_kind(objects, "Namespace", "CustomResourceDefinition")


def announcement(node: str) -> str:
    kind = {"apiVersion": "announcer.io/v1alpha1", "kind": "NodeAnnouncement"}
    return json.dumps({**kind, "metadata": {"name": node}, "status": {"errors": ["a"]}})


def token(server: Cluster, node: str, account: str = "announcer-agent") -> str:
    """Of a pod of that service account on that node, as the kubelet asks for it."""
    where = "--namespace=announcer-system"
    pod: Raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{account}-{node}"}}
    pod["spec"] = {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "a", "image": "a"}]}
    server.kubectl("apply", where, "-f", "-", stdin=json.dumps(pod))
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={account}-{node}")
    return server.kubectl("create", "token", account, where, *bound).strip()


def said_by(server: Cluster, bearer: str, node: str, *subresource: str) -> str:
    """What the API server says to an agent that speaks for `node`; empty where it takes it."""
    apply = ("apply", "--server-side", "--field-manager=announcer-agent", "-f", "-", *subresource)
    try:
        server.kubectl(f"--token={bearer}", *apply, stdin=announcement(node))
    except LabError as error:
        return str(error)
    return ""


STATUS = "--subresource=status"


def test_agent_may_write_the_report_of_its_own_node_only(server: Cluster) -> None:
    own, other = token(server, "n1"), token(server, "n2")
    wait_until(lambda: "may not write" in said_by(server, own, "n2"), 30.0, "the policy")
    assert said_by(server, own, "n1") == ""
    assert said_by(server, own, "n1", STATUS) == ""
    refusal = "the agent of node n2 may not write the NodeAnnouncement of n1"
    assert refusal in said_by(server, other, "n1")
    assert refusal in said_by(server, other, "n1", STATUS)


def test_token_without_a_node_writes_no_report(server: Cluster) -> None:
    wait_until(lambda: "may not write" in said_by(server, token(server, "n1"), "n2"), 30.0, "the policy")
    loose = server.kubectl("create", "token", "announcer-agent", "--namespace=announcer-system").strip()
    assert "the token of this agent names no node" in said_by(server, loose, "n1")


def test_person_may_write_and_remove_any_report(server: Cluster) -> None:
    server.kubectl("apply", "--server-side", "-f", "-", stdin=announcement("n9"))
    server.kubectl("delete", "nodeannouncement", "n9")
