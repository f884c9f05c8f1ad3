"""In which of its versions an object was meant, where the API server serves several and converts nothing.

Which version an object was last changed through says little: kubectl prefers the newest for label, edit and patch, and
defaults of that version then become fields that somebody owns. What counts is who stated the object's body. The first
row that says something decides; where a row finds several versions, the oldest does, as it takes nothing away.

| evidence | version |
|---|---|
| managedFields: somebody applies a part of the body (server-side) | of that manifest |
| the annotation last-applied-configuration (client-side apply) | of that manifest |
| managedFields: somebody wrote the spec as a whole (create, replace) | of that request |
| the body has fields that one version only has | that |
| our own status says how the object was read before | that |
| managedFields: somebody changed a part of the body (patch, edit) | of that request |
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
BODY: Final = ("local", "remote", "external", "netbox")
"""What a spec is about. Everything beside it may be a default that came with somebody's label."""
ONLY_IN: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "v1": (("netbox",), *(("local", n) for n in ("pool", "subnet", "aggregation", "localint", "extlbint", "sendgarp"))),
    "v2": (
        *(("remote",), ("external",)),
        *(("local", n) for n in ("multiPool", "balancePools", "skipIPv6DAD", "localInterface", "dummyInterface")),
    ),
}
"""Paths below spec."""
_Raw = Mapping[str, Any]


def original_version(raw: _Raw, versions: Sequence[str]) -> str | None:
    """`versions` from the newest to the oldest; None where nothing says."""
    entries = [e for e in _mapping(raw.get("metadata")).get("managedFields") or () if isinstance(e, Mapping)]
    for row in (_applied, _last_applied, _written_whole, _only_there, _read_before, _changed):
        found = {text.rpartition("/")[2] for text in row(raw, entries)}
        if known := [version for version in versions if version in found]:
            return known[-1]
    return None


def _applied(_raw: _Raw, entries: Sequence[_Raw]) -> Iterable[str]:
    return _versions(entries, lambda e: e.get("operation") == "Apply" and _has_body(e))


def _last_applied(raw: _Raw, _entries: Sequence[_Raw]) -> Iterable[str]:
    text = _mapping(_mapping(raw.get("metadata")).get("annotations")).get(LAST_APPLIED)
    try:
        return [str(_mapping(msgspec.json.decode(str(text or "{}"))).get("apiVersion"))]
    except msgspec.DecodeError:
        return []


def _written_whole(_raw: _Raw, entries: Sequence[_Raw]) -> Iterable[str]:
    return _versions(entries, lambda e: "." in _owned(e))


def _only_there(raw: _Raw, _entries: Sequence[_Raw]) -> Iterable[str]:
    """Nothing where the body has fields of several versions."""
    found = [version for version, paths in ONLY_IN.items() if any(_is_set(raw.get("spec"), path) for path in paths)]
    return found if len(found) == 1 else []


def _read_before(raw: _Raw, _entries: Sequence[_Raw]) -> Iterable[str]:
    """ServiceGroup.status.announce: empty for v1, which leaves it to the address (core.report)."""
    announce = _mapping(raw.get("status")).get("announce")
    return [] if announce is None else ["v2" if announce else "v1"]


def _changed(_raw: _Raw, entries: Sequence[_Raw]) -> Iterable[str]:
    return _versions(entries, _has_body)


def _versions(entries: Iterable[_Raw], states: Callable[[_Raw], bool]) -> list[str]:
    return [str(entry.get("apiVersion")) for entry in entries if states(entry)]


def _has_body(entry: _Raw) -> bool:
    return any(f"f:{name}" in _owned(entry) for name in BODY)


def _owned(entry: _Raw) -> _Raw:
    """The fields of the spec that the entry's manager owns (meta/v1 FieldsV1); `.` is the spec itself."""
    return _mapping(_mapping(entry.get("fieldsV1")).get("f:spec"))


def _is_set(spec: object, path: tuple[str, ...]) -> bool:
    for name in path:
        spec = _mapping(spec).get(name)
    return spec is not None


def _mapping(value: object) -> _Raw:
    return value if isinstance(value, Mapping) else {}
