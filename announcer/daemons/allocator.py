"""The cluster process: gives every Service its addresses, and tells every other object what is wrong with it.

One pass = snapshot → allocate → report. The statuses that it wrote are its only memory, and it reads them back.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from announcer.core.allocate import CLASSES, Assignment, Decision, allocate
from announcer.core.model import ObjectRef, Problem, Service, ServiceKey, Snapshot, Unknown
from announcer.core.report import Status, object_status, service_status
from announcer.daemons.edges import Store
from announcer.daemons.loop import Loop, Rhythm
from announcer.log import fields
from announcer.store import StoreError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Allocator:
    store: Store
    rhythm: Rhythm = Rhythm()
    loop: Loop = field(init=False)
    _known: dict[ServiceKey, Decision] = field(default_factory=dict)
    _problems: frozenset[Problem] = frozenset()

    def __post_init__(self) -> None:
        self.loop = Loop(self.one_pass, (StoreError,), self._not_written, self.rhythm)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.store.run(self.loop.wake), name="store")
            tasks.create_task(self.loop.run(), name="passes")

    async def farewell(self) -> None:
        """Nothing to do: what was decided is written."""

    async def one_pass(self) -> float | None:
        snapshot = self.store.snapshot()
        if isinstance(snapshot, Unknown):
            return None
        decisions = allocate(snapshot)
        self._log(decisions, snapshot)
        for ref, status in statuses(snapshot, decisions):
            await self.store.write_status(ref, status)
        return None

    def _log(self, decisions: Mapping[ServiceKey, Decision], snapshot: Snapshot) -> None:
        for key, decision in decisions.items():
            if decision == self._known.get(key):
                continue
            if isinstance(decision, Assignment):
                shown = " ".join(map(str, decision.addresses))
                log.info("assigned", extra=fields(service=key, addresses=shown, pool=decision.pool))
            else:
                log.warning("refused", extra=fields(service=key, reason=decision.reason, message=decision.message))
        self._known = dict(decisions)
        problems = frozenset(snapshot.problems)
        for problem in sorted(problems - self._problems):
            log.warning("problem", extra=fields(where=problem.ref.source, reason=problem.reason, text=problem))
        self._problems = problems

    def _not_written(self, error: Exception) -> None:
        log.warning("status not written, trying again", extra=fields(error=error))


def statuses(snapshot: Snapshot, decisions: Mapping[ServiceKey, Decision]) -> list[tuple[ObjectRef, Status]]:
    """What to write to which object: Services that are ours, and every object of configuration."""
    problems: dict[ObjectRef, list[Problem]] = {}
    for problem in snapshot.problems:
        problems.setdefault(problem.ref, []).append(problem)
    found = [
        (service.ref, service_status(decisions[service.key], problems.get(service.ref, [])))
        for service in snapshot.services
        if service.key in decisions
    ]
    found += [(s.ref, {"loadBalancer": {}}) for s in snapshot.services if _has_lost_its_type(s)]
    refs = {pool.ref for pool in snapshot.pools} | {agent.ref for agent in snapshot.agents}
    refs |= {ad.ref for ad in snapshot.local_advertisements} | {ad.ref for ad in snapshot.route_advertisements}
    refs |= {peer.ref for peer in snapshot.peers} | {
        ref for ref in snapshot.refused if ref.kind != "Service" and ref.name
    }
    return found + [
        (ref, object_status(problems.get(ref, []), is_used=ref not in snapshot.refused)) for ref in sorted(refs)
    ]


def _has_lost_its_type(service: Service) -> bool:
    return not service.is_load_balancer and service.load_balancer_class in CLASSES and bool(service.status_addresses)
