"""deploy/crds against the dialects and the reports: what one knows, the other knows.

An object is given nonsense in one field at a time. A dialect that reads the field, or refuses it by name, complains of
that field; one that ignores it is silent, and that is the mistake that is looked for here.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from announcer.core import dialects
from announcer.core.desired import Desired, Mode, Placement
from announcer.core.dialects import metallb, metallb_bgp, purelb, purelb_bgp
from announcer.core.model import (
    HoldReport,
    IfName,
    LinkReport,
    MoveReport,
    ObservedBgp,
    ObservedPeer,
    Reason,
    ServiceKey,
)
from announcer.core.own import Ownership
from announcer.core.report import Past, node_status, object_status, recall, with_holds
from announcer.core.report.cluster import pool_counts
from announcer.store.kubernetes.resources import CONFIGURATION, NODE_ANNOUNCEMENTS
from tests.builders import group, group_v2, ip, net, snapshot
from tests.builders import pool as an_address_pool
from tests.unit.deploy.schemas import Schema, definitions, leaves, part, sample, schemas, strange_to

SCHEMAS = schemas()
CONFIGURED = [(r.api_version(version), r.kind) for r in CONFIGURATION for version in r.versions]
READ = sorted(kind for kind in CONFIGURED if kind in dialects.KINDS)
NOT_READ = sorted(kind for kind in CONFIGURED if kind not in dialects.KINDS)
LISTS_OF_LABELS = ".matchLabels", ".matchExpressions"


class Recorder(dict[str, Any]):
    """A mapping that notes which of its fields are asked for, with their dotted paths."""

    def __init__(self, value: dict[str, Any], path: str, asked: set[str]) -> None:
        super().__init__({k: recorded(v, f"{path}.{k}" if path else k, asked) for k, v in value.items()})
        self._path, self._asked = path, asked

    def get(self, key: str, default: Any = None) -> Any:
        self._asked.add(f"{self._path}.{key}" if self._path else key)
        return super().get(key, default)


def recorded(value: Any, path: str, asked: set[str]) -> Any:
    if isinstance(value, dict):
        return Recorder(value, path, asked)
    return [recorded(item, path, asked) for item in value] if isinstance(value, list) else value


def an_object(api_version: str, kind: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "y"}, "spec": spec}


def with_nonsense(spec: Any, path: str, schema: Schema) -> Any:
    """`spec` whose field at `path` is a mapping where none may be, or else text."""
    name, _, rest = path.partition(".")
    if isinstance(spec, list):
        return [with_nonsense(item, path, schema["items"]) for item in spec]
    if rest:
        return {**spec, name: with_nonsense(spec[name], rest, schema["properties"][name])}
    nonsense = "nonsense" if schema["properties"][name]["type"] == "object" else {"not": "this"}
    return {**spec, name: nonsense}


def is_for_another_version(api_version: str, schema: Schema, path: str) -> bool:
    parents = [path.rsplit(".", n)[0] for n in range(path.count(".") + 1)]
    texts = [str((part(schema, p) or {}).get("description", "")) for p in parents]
    other = {"purelb.io/v1": "v2 only", "purelb.io/v2": "v1 only"}.get(api_version)
    return other is not None and any(text.startswith(other) for text in texts)


def unsupported(module: Any) -> set[str]:
    """Every name that some reader of a dialect gives to `close` as known and not honored."""
    found: set[str] = set()
    for call in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "close" and call.args:
            for table in call.args:
                names = ast.literal_eval(ast.List([k for k in table.keys if k])) if isinstance(table, ast.Dict) else []
                found |= set(names or getattr(module, getattr(table, "id", ""), ()))
    return found


def fields() -> Iterator[Any]:
    """Every field of every spec that a dialect reads, but for the insides of label selectors."""
    for api_version, kind in READ:
        for path, _ in leaves(SCHEMAS[api_version, kind]["properties"]["spec"]):
            if not any(text in path for text in LISTS_OF_LABELS):
                yield pytest.param(api_version, kind, path)


@pytest.mark.parametrize(("api_version", "kind", "path"), list(fields()))
def test_field_of_the_schema_is_honored_or_refused_by_name(api_version: str, kind: str, path: str) -> None:
    schema = SCHEMAS[api_version, kind]["properties"]["spec"]
    spec = with_nonsense(sample(schema), path, schema)
    if path.startswith("remote"):
        del spec["local"]  # one of both is read
    parsed = dialects.parse(an_object(api_version, kind, spec))
    names = {path, *(path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1))}
    about = [p for p in parsed.problems if _plain(p.field) in names]
    assert about, "the dialect ignores it"
    unknown = [p for p in about if p.reason is Reason.UNKNOWN_FIELD]
    assert not unknown or is_for_another_version(api_version, schema, path), "the dialect doesn't know it by name"


def test_every_kind_of_configuration_is_read() -> None:
    assert NOT_READ == []


@pytest.mark.parametrize("kind", READ, ids=str)
def test_field_that_the_dialect_asks_for_is_in_the_schema(kind: tuple[str, str]) -> None:
    schema = SCHEMAS[kind]
    spec = sample(schema["properties"]["spec"])
    asked: set[str] = set()
    for left_out in ("local", "remote"):
        some = {name: value for name, value in spec.items() if name != left_out}
        dialects.parse(Recorder(an_object(*kind, spec=some), "", asked))
    in_spec = {path for path in asked if path.startswith("spec.")}
    assert in_spec
    assert [path for path in sorted(in_spec) if part(schema, path) is None] == []


@pytest.mark.parametrize("module", [purelb, metallb, metallb_bgp, purelb_bgp], ids=lambda m: m.__name__)
def test_field_that_the_dialect_refuses_by_name_is_in_a_schema(module: Any) -> None:
    names = {path.rpartition(".")[2] for kind in module.KINDS for path, _ in leaves(SCHEMAS[kind])}
    assert unsupported(module)
    assert unsupported(module) - names == set()


@pytest.mark.parametrize("resource", [*CONFIGURATION, NODE_ANNOUNCEMENTS], ids=lambda r: r.kind)
def test_resource_has_a_definition_of_its_scope_with_status(resource: Any) -> None:
    crd = definitions()[f"{resource.plural}.{resource.group}.yaml"]
    assert crd["spec"]["names"]["kind"] == resource.kind
    assert crd["spec"]["scope"] == ("Namespaced" if resource.is_namespaced else "Cluster")
    served = {v["name"]: v for v in crd["spec"]["versions"] if v["served"]}
    assert set(served) == set(resource.versions)
    assert all(version["subresources"] == {"status": {}} for version in served.values())


@pytest.mark.parametrize("name", definitions())
def test_file_is_named_after_its_one_definition(name: str) -> None:
    crd = definitions()[name]
    assert f"{crd['metadata']['name']}.yaml" == name
    assert f"{crd['spec']['names']['plural']}.{crd['spec']['group']}" == crd["metadata"]["name"]
    assert [v["storage"] for v in crd["spec"]["versions"]].count(True) == 1
    assert crd["metadata"]["labels"] == {"app.kubernetes.io/part-of": "announcer"}


@pytest.mark.parametrize("kind", [*READ, *NOT_READ], ids=str)
def test_status_schema_has_the_conditions_of_every_object(kind: tuple[str, str]) -> None:
    written: Any = object_status([], is_used=True)["conditions"]
    conditions = [{**c, "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1} for c in written]
    assert strange_to({"conditions": conditions}, SCHEMAS[kind]["properties"]["status"]) == []


@pytest.mark.parametrize("pool", [group(), group_v2("two", ranges=[("10.1.0.0/24", "10.1.0.0/28")])], ids=str)
def test_status_schema_has_the_counts_of_a_group(pool: Any) -> None:
    (counts,) = pool_counts(snapshot(pool), {}).values()
    assert strange_to(counts, SCHEMAS[pool["apiVersion"], pool["kind"]]["properties"]["status"]) == []


def test_status_schema_has_the_counts_of_a_pool() -> None:
    (counts,) = pool_counts(snapshot(an_address_pool("one", "10.1.0.0/28", "fd00::/124")), {}).values()
    assert strange_to(counts, SCHEMAS["metallb.io/v1beta1", "IPAddressPool"]["properties"]["status"]) == []


def test_schema_of_node_announcement_has_what_agents_write() -> None:
    status = SCHEMAS["announcer.io/v1alpha1", "NodeAnnouncement"]["properties"]["status"]
    link = LinkReport(ifname=IfName("eth0"), lladdr="02::1", subnets=(net("10.0.0.0/8"),), default_for=frozenset({4}))
    place = Placement(service=ServiceKey("test/web"), address=ip("10.0.0.1"), mode=Mode.LOCAL, ifname=IfName("eth0"))
    bgp = ObservedBgp(peers=(ObservedPeer(peer_address=ip("10.0.0.2"), is_established=True),))
    move = MoveReport(time="2026-11-25T12:00:00Z", link=IfName("eth0"), old="n2", new="n1", reason="node-dead")
    past = Past(moves=(move,), sessions=recall((), Desired(), bgp, datetime(2026, 11, 26, tzinfo=UTC)))
    written = node_status([link], Desired(placements=(place,)), Ownership(), bgp, ["something"], past)
    written = with_holds(written, [HoldReport(since="2026-01-02T03:04:05Z", message="too few")])
    assert all(written[name] for name in status["properties"] if name != "isDrained")
    assert written["isDrained"] is False
    assert strange_to(written, status) == []


def _plain(field: str) -> str:
    """The path of a Problem as schemas have it: below spec, without indices."""
    return re.sub(r"\[\d+\]", "", field).removeprefix("spec").removeprefix(".")
