"""deploy/rbac against the calls that store/kubernetes makes: nothing is missing, and nothing is given away."""

import inspect
import re
from collections.abc import Iterable
from typing import Any

import pytest
import yaml

from announcer.store.kubernetes import lease
from announcer.store.kubernetes.resources import CONFIGURATION, Resource, read_by_agent, read_by_allocator
from lab.apiserver import NAMESPACE, WHO
from lab.topology import REPOSITORY

RBAC = REPOSITORY / "deploy" / "rbac"
Rights = set[tuple[str, str, str]]
"""API group, resource, verb."""
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
MIRRORS = ("servicel2statuses", "servicebgpstatuses")


def manifest(name: str) -> dict[str, Any]:
    (one,) = yaml.safe_load_all((RBAC / f"{name}.yaml").read_text("utf-8"))
    return dict(one)


def granted(name: str) -> Rights:
    rules = manifest(name)["rules"]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def reading(resources: Iterable[Resource]) -> Rights:
    return {(r.group, r.plural, verb) for r in resources for verb in ("list", "watch")}


def test_agent_may_read_what_it_lists_and_write_its_announcement() -> None:
    writing = {("announcer.io", "nodeannouncements", verb) for verb in ("create", "patch")}
    writing |= {("announcer.io", "nodeannouncements/status", "patch"), ("", "events", "create")}
    assert granted("clusterrole-agent") == reading(read_by_agent("n1")) | writing
    assert granted("role-agent") == {("", "secrets", "get")}


def test_allocator_may_read_what_it_lists_and_write_statuses() -> None:
    statuses = {(r.group, f"{r.plural}/status", "patch") for r in CONFIGURATION} | {("", "services/status", "patch")}
    reads = reading(read_by_allocator(has_mirrors=True))
    assert granted("clusterrole-allocator") == reads | statuses | {("", "events", "create")}


def test_allocator_may_lead_and_make_mirrors_in_its_namespace_only() -> None:
    calls = set(re.findall(r'_request\("([A-Z]+)"', inspect.getsource(lease)))
    leading = {("coordination.k8s.io", "leases", VERBS[call]) for call in calls}
    mirrors = {("metallb.io", name, verb) for name in MIRRORS for verb in ("create", "patch", "delete")}
    mirrors |= {("metallb.io", f"{name}/status", "patch") for name in MIRRORS}
    assert leading
    assert granted("role-allocator") == leading | mirrors


@pytest.mark.parametrize("who", ["agent", "allocator"])
def test_rights_are_bound_to_the_service_account_that_the_lab_speaks_as(who: str) -> None:
    account = manifest(f"serviceaccount-{who}")["metadata"]
    assert WHO[who][0] == f"system:serviceaccount:{account['namespace']}:{account['name']}"
    for kind, name in (("ClusterRole", f"clusterrolebinding-{who}"), ("Role", f"rolebinding-{who}")):
        binding = manifest(name)
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": account["name"]}
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]
    assert manifest(f"role-{who}")["metadata"]["namespace"] == NAMESPACE


def test_namespace_is_made_before_what_lives_in_it() -> None:
    """kubectl takes the files of a folder by name."""
    files = [path.stem for path in sorted(RBAC.glob("*.yaml"))]
    inside = [name for name in files if manifest(name)["metadata"].get("namespace")]
    assert inside
    assert all(files.index("namespace") < files.index(name) for name in inside)
