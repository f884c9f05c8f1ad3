"""Decisions of one pass over a test's objects, by the Service's name."""

from dataclasses import replace

from announcer.core.allocate import Assignment, Decision, Refusal, allocate
from announcer.core.model import Reason, Snapshot
from tests.builders import Raw, service, snapshot


def decide(*objects: Raw) -> dict[str, Decision]:
    return {key.partition("/")[2]: decision for key, decision in allocate(snapshot(*objects)).items()}


def given(decision: Decision) -> list[str]:
    assert isinstance(decision, Assignment), decision
    return [str(address) for address in decision.addresses]


def pool_given(decision: Decision) -> str:
    assert isinstance(decision, Assignment), decision
    return decision.pool


def why(decision: Decision) -> Reason:
    assert isinstance(decision, Refusal), decision
    return decision.reason


def sharing(name: str, port: int = 80, *, key: str = "k", brand: str = "metallb.io", **rest: object) -> Raw:
    notes = {f"{brand}/allow-shared-ip": key}
    return service(name, **({"annotations": notes, "ports": [{"port": port}]} | rest))  # type: ignore[arg-type]


def fed_back(found: Snapshot) -> Snapshot:
    """The snapshot after its decisions were written to the statuses."""
    decisions = allocate(found)
    given = {key: d.addresses if isinstance(d, Assignment) else () for key, d in decisions.items()}
    return replace(
        found, services=tuple(replace(s, status_addresses=given.get(s.key, s.status_addresses)) for s in found.services)
    )
