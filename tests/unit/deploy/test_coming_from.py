"""docs/from-purelb.md and docs/from-metallb.md: their tables against what the dialects make of each field."""

import re
from copy import deepcopy
from typing import Any

import pytest

from announcer.core.dialects import kubernetes, parse
from announcer.core.model import Reason
from lab.topology import REPOSITORY
from tests.builders import Raw, raw, service
from tests.unit.deploy.schemas import Schema, leaves, part, sample, schemas

PAGES = {name: (REPOSITORY / "docs" / f"from-{name}.md").read_text("utf-8") for name in ("purelb", "metallb")}
SECTION = re.compile(r"^### (\w+) \((\S+)\)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (`.+?`) \|(.*)\| (.*) \|$", re.MULTILINE)
SCHEMAS = schemas()
RANGE = {"pool": "10.0.0.1-10.0.0.9", "subnet": "10.0.0.0/24"}
RANGE6 = {"pool": "fd00::1-fd00::9", "subnet": "fd00::/64"}
VALUES: dict[str, Any] = {
    "v4pools": [RANGE],
    "v6pools": [RANGE6],
    "v4pool": RANGE,
    "v6pool": RANGE6,
    "pool": RANGE["pool"],
    "subnet": RANGE["subnet"],
    "aggregation": "/24",
    "addresses": ["10.0.0.0/28"],
    "aggregationLength": 32,
    "namespaces": ["a"],
    "extlbint": "eth1",
    "dummyInterface": "kube-lb0",
}
LEAST: dict[str, Raw] = {
    "ServiceGroup": {"local": {"v4pools": [RANGE]}},
    "LBNodeAgent": {"local": {}},
    "IPAddressPool": {"addresses": ["10.0.0.0/28"]},
    "L2Advertisement": {},
    "BGPAdvertisement": {},
}
STRANGE = {Reason.UNSUPPORTED_FIELD, Reason.UNKNOWN_FIELD}
Field = tuple[str, str, str, bool]


def fields(text: str) -> list[Field]:
    """Of each section: kind, apiVersion, a field, and whether the page says that it is refused."""
    return [
        (kind, version, field, here.startswith("refused"))
        for kind, version, body in SECTION.findall(text)
        for names, _, here in ROW.findall(body)
        for field in re.findall(r"`(.+?)`", names)
    ]


def with_field(kind: str, version: str, path: str) -> Raw:
    spec = deepcopy(LEAST[kind])
    schema = part(SCHEMAS[version, kind]["properties"]["spec"], path)
    assert schema is not None, f"{kind} has no field {path}"
    *parents, last = path.split(".")
    if parents == ["remote"]:
        del spec["local"]
        spec["remote"] = {"v4pools": [RANGE]}
    if path in {"local.subnet", "local.pool", "local.aggregation"}:
        spec["local"] = dict(RANGE)
    if path in {"enforceNamespaces", "namespaceDefault"}:
        spec["namespaces"] = ["a"]
    here = spec
    for name in parents:
        here = here.setdefault(name, {})
    here[last] = VALUES.get(last, sample(schema))
    return raw(version, kind, "x", spec=spec)


ALL = [field for page in PAGES.values() for field in fields(page)]


@pytest.mark.parametrize(("kind", "version", "path", "is_refused"), ALL, ids=[".".join(f[:3]) for f in ALL])
def test_field_is_honored_or_refused_as_the_page_says(kind: str, version: str, path: str, is_refused: bool) -> None:
    problems = parse(with_field(kind, version, path)).problems
    named = [p for p in problems if p.reason in STRANGE and p.field.startswith(f"spec.{path}")]
    assert bool(named) is is_refused, problems
    assert is_refused or problems == (), problems


def test_refusals_give_the_reason_that_the_page_gives() -> None:
    told = [
        (names.strip("`"), kind, version, here.removeprefix("refused: ").partition(". ")[0])
        for page in PAGES.values()
        for kind, version, body in SECTION.findall(page)
        for names, _, here in ROW.findall(body)
        if here.startswith("refused")
    ]
    assert told
    for path, kind, version, why in told:
        messages = [p.message for p in parse(with_field(kind, version, path)).problems]
        assert any(why in message for message in messages), (path, why, messages)


def plain(schema: Schema) -> set[str]:
    return {path for path, _ in leaves(schema) if ".match" not in path and not path.endswith("Labels")}


@pytest.mark.parametrize("kind", LEAST)
def test_every_field_has_a_row(kind: str) -> None:
    """The schemas have the fields of all versions together."""
    listed = {path for found, _, path, _ in ALL if found == kind}
    for (_, found), schema in SCHEMAS.items():
        if found != kind:
            continue
        for path in plain(schema["properties"]["spec"]):
            parents = {path.rsplit(".", n)[0] for n in range(path.count(".") + 1)}
            is_part_of_a_row = any(row.startswith(f"{path}.") for row in listed)
            assert parents & listed or is_part_of_a_row or path in OF_ANOTHER_VERSION, path


OF_ANOTHER_VERSION = {f"remote.{name}" for name in ("subnet", "pool", "aggregation")}
"""In the schema of ServiceGroups, which has one body for `local` and `remote`."""


def test_every_annotation_of_the_peers_has_a_row() -> None:
    read = {*kubernetes.POOL_ANNOTATIONS, *kubernetes.ADDRESS_ANNOTATIONS, *kubernetes.SHARING_ANNOTATIONS}
    read |= {kubernetes.MULTI_POOL_ANNOTATION, kubernetes.ALLOW_LOCAL_ANNOTATION, *kubernetes.WRITTEN_BY_PEERS}
    text = "".join(PAGES.values())
    assert all(f"`{name.replace('metallb.universe.tf/', 'metallb.io/')}`" in text for name in read)


def test_annotations_that_have_no_effect_are_told_so() -> None:
    names = ("purelb.io/re-evaluate", "purelb.io/node-affinity")
    problems = parse(service("a", annotations=dict.fromkeys(names, "x"))).problems
    assert {p.field.rpartition("annotations.")[2] for p in problems} == set(names)
