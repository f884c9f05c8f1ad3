"""What is sent to write a status, and whether an object says it already: JSON values in, JSON values out.

Everything is written by server-side apply under our own field manager. What an earlier write of ours said and this one
doesn't, the API server takes away, unless somebody else has said it too: so no annotation of a user or of a peer is
removed. Status.conditions are a map by type, status.loadBalancer.ingress is one value: an empty list takes it back.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from announcer.core.model import ObjectRef
from announcer.store.kubernetes.client import JSON
from announcer.store.kubernetes.resources import Resource

UNDECLARED: Final = re.compile(r"\.status(?:\.(\w+))?[^:\s]*: field not declared in schema")
OURS: Final = "announcer.io/"
"""Prefix of the condition types that are ours."""


class Api(Protocol):
    """What writing needs of the Client."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
        timeout_seconds: float,
    ) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an object is written: `raw` is what stands there, None where there is no such object yet.

    `meaning` is what the object says to us: while it is equal, a decision made on an older version still holds.
    """

    resource: Resource
    version: str
    raw: Mapping[str, Any] | None
    resource_version: str = ""
    uid: str = ""
    owner: Mapping[str, Any] | None = None
    """An ownerReference for an object that has to be created."""
    meaning: object = None


def head(ref: ObjectRef, target: Target) -> dict[str, Any]:
    metadata = {"name": ref.name} | ({"namespace": ref.namespace} if ref.namespace else {})
    return {"apiVersion": target.resource.api_version(target.version), "kind": ref.kind, "metadata": metadata}


def status_of(raw: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return (raw or {}).get("status") or {}


def is_written(
    raw: Mapping[str, Any], status: Mapping[str, Any], annotations: Mapping[str, str], written: Set[str] = frozenset()
) -> bool:
    """Whether the object says all of this, and beyond it no condition of ours and none of the annotations `written`.

    Times are not compared.
    """
    have, known = status_of(raw), (raw.get("metadata") or {}).get("annotations") or {}
    mine = {c.get("type"): _judgment(c) for c in have.get("conditions") or () if _is_ours(c)}
    wanted = {c.get("type"): _judgment(c) for c in status.get("conditions") or ()}
    return (
        mine == wanted
        and all(_is_same(have.get(name), value) for name, value in status.items() if name != "conditions")
        and all(known.get(name) == value for name, value in annotations.items())
        and not (written & known.keys()) - annotations.keys()
    )


def undeclared(message: str) -> frozenset[str]:
    """Fields of a status that a kind's schema doesn't have, as the API server refuses an apply (with a 500).

    That is how a cluster with a peer's own, older definitions answers to our conditions; an update would drop them
    without a word. `*` is the status as a whole.
    """
    return frozenset(found or "*" for found in UNDECLARED.findall(message))


def declared(status: Mapping[str, Any], missing: Set[str]) -> dict[str, Any]:
    return {} if "*" in missing else {name: value for name, value in status.items() if name not in missing}


def stamp(status: Mapping[str, Any], raw: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The status with what meta/v1 Condition asks for: when each began to be so, and for which generation."""
    have = {c.get("type"): c for c in status_of(raw).get("conditions") or ()}
    generation = (raw.get("metadata") or {}).get("generation")
    stamped = []
    for condition in status.get("conditions") or ():
        old = have.get(condition["type"], {})
        is_same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        since = old["lastTransitionTime"] if is_same else now
        extra = {"observedGeneration": generation} if generation is not None else {}
        stamped.append({**condition, "lastTransitionTime": since, **extra})
    return {**status, "conditions": stamped} if "conditions" in status else dict(status)


def text_of(time: datetime) -> str:
    """RFC 3339 in whole seconds, as meta/v1 Time has it."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _is_ours(condition: Mapping[str, Any]) -> bool:
    return str(condition.get("type", "")).startswith(OURS)


def _judgment(condition: Mapping[str, Any]) -> tuple[object, object, object]:
    return condition.get("status"), condition.get("reason"), condition.get("message") or ""


def _is_same(have: object, wanted: object) -> bool:
    """Empty and missing are the same: the API server leaves empty things out."""
    if isinstance(wanted, Mapping):
        known = have if isinstance(have, Mapping) else {}
        return all(_is_same(known.get(name), value) for name, value in wanted.items()) and bool(wanted or not have)
    if isinstance(wanted, list) and isinstance(have, list):
        return len(have) == len(wanted) and all(map(_is_same, have, wanted))
    return have == wanted or (not isinstance(wanted, (int, float)) and not have and not wanted)
