"""In which version an object was meant: one test per row of the table, and what comes through another version."""

from typing import Any

import pytest

from announcer.store.kubernetes.versions import LAST_APPLIED, original_version

BODY: dict[str, Any] = {"f:local": {"f:v4pools": {}}}
WHOLE: dict[str, Any] = {".": {}, "f:local": {".": {}, "f:v4pools": {}}}
DEFAULTS: dict[str, Any] = {"f:enforceNamespaces": {}, "f:namespaceDefault": {}}
GROUP: dict[str, Any] = {"local": {"v4pools": []}}


def entry(version: str, spec: dict[str, Any], operation: str = "Update") -> dict[str, Any]:
    return {"apiVersion": f"purelb.io/{version}", "operation": operation, "fieldsV1": {"f:spec": spec}}


def last_applied(version: str) -> dict[str, str]:
    return {LAST_APPLIED: f'{{"apiVersion":"purelb.io/{version}"}}'}


def found(*entries: Any, spec: Any = None, annotations: Any = None, announce: str | None = None) -> str | None:
    metadata = {"managedFields": list(entries), "annotations": annotations or {}}
    status = {} if announce is None else {"announce": announce}
    return original_version({"metadata": metadata, "spec": spec or GROUP, "status": status}, ("v2", "v1"))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_row_of_the_table_decides_over_those_below(version: str) -> None:
    other = {"v1": "v2", "v2": "v1"}[version]
    patched, whole = entry(other, BODY), entry(other, WHOLE)
    said, memory = last_applied(other), {"v1": "", "v2": "local"}
    only = {"v1": {"local": {"localint": "eth1"}}, "v2": {"remote": {}}}[version]
    assert found(entry(version, BODY, "Apply"), whole, annotations=said) == version
    assert found(whole, annotations=last_applied(version)) == version
    assert found(entry(version, WHOLE), patched if version == "v1" else entry("v1", DEFAULTS)) == version
    assert found(patched, spec=only, announce=memory[other]) == version
    assert found(patched, announce=memory[version]) == version
    assert found(entry(version, BODY)) == version


def test_defaults_that_come_with_a_label_say_nothing() -> None:
    assert found(entry("v1", BODY, "Apply"), entry("v2", DEFAULTS)) == "v1"
    assert found(entry("v2", DEFAULTS)) is None


def test_of_several_that_say_something_the_oldest_version_is_right() -> None:
    assert found(entry("v2", BODY, "Apply"), entry("v1", BODY, "Apply")) == "v1"
    assert found(entry("v2", WHOLE), entry("v1", WHOLE)) == "v1"


def test_fields_of_both_versions_decide_nothing() -> None:
    assert found(spec={"local": {"localint": "a", "localInterface": "a"}}) is None


@pytest.mark.parametrize("odd", [{}, {"metadata": None}, {"metadata": {"annotations": {LAST_APPLIED: "{"}}}])
def test_nothing_that_says_it_is_no_version(odd: dict[str, Any]) -> None:
    assert original_version(odd, ("v2", "v1")) is None
    assert original_version({"metadata": {"managedFields": [None, {"fieldsV1": 1}]}, "spec": 1}, ("v2", "v1")) is None
