"""The cluster process: gives every Service its addresses, and tells every other object what is wrong with it.

One pass = snapshot → allocate → report, and only while this process leads, in one term from beginning to end. The
statuses that it wrote are its only memory, and it reads them back; whoever begins to lead first reads everything that
the last leader wrote.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from announcer.core.allocate import CLASSES, Assignment, Decision, allocate
from announcer.core.model import ObjectRef, Problem, ServiceKey, Snapshot, Unknown
from announcer.core.report import MIRRORS_MOST, Writing, hold_report, mirrors, pool_tally, surplus, writings
from announcer.daemons.edges import Leadership, Store
from announcer.daemons.lasting import all_lasting
from announcer.daemons.loop import Loop, Rhythm
from announcer.log import fields
from announcer.store import StoreError

log = logging.getLogger(__name__)
BATCH = 200


class Alone:
    """Leadership where there is nobody else: a folder of manifests has one allocator."""

    def __init__(self) -> None:
        self.term = 1

    def is_leader(self) -> bool:
        return True

    async def run(self, on_change: Callable[[], None]) -> None:
        on_change()
        await asyncio.Event().wait()

    async def release(self) -> None:
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What one pass decided. `made` are among `wanted`."""

    decisions: Mapping[ServiceKey, Decision]
    wanted: list[Writing]
    made: int
    surplus: list[ObjectRef]
    pools: Mapping[tuple[str, str, str], int]


@dataclass(slots=True)
class Allocator:
    """`mirrors_in` is the namespace for MetalLB's status objects, None where there are to be none."""

    store: Store
    leadership: Leadership
    classes: Set[str] = CLASSES
    rhythm: Rhythm = Rhythm()
    mirrors_in: str | None = None
    loop: Loop = field(init=False)
    _fresh_in: int = 0
    """The term of leadership in which everything has been read again."""
    _is_full: bool = False
    services: Mapping[str, int] = field(default_factory=dict)
    """How many Services have what they ask for and how many don't, and addresses by pool, family and state: of the
    last pass."""
    pools: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    passed_in: int = 0
    """The term in which a pass has come to its end."""
    _known: dict[ServiceKey, Decision] = field(default_factory=dict)
    _problems: frozenset[Problem] = frozenset()

    def __post_init__(self) -> None:
        self.loop = Loop(self.one_pass, (StoreError,), self._not_written, self.rhythm)

    async def run(self) -> None:
        await all_lasting(
            {
                "store": self.store.run(self.loop.wake),
                "leadership": self.leadership.run(self.loop.wake),
                "passes": self.loop.run(),
            }
        )

    async def farewell(self) -> None:
        """Nothing of ours is under way any more (`close` of the store); others need not wait for our lease to end."""
        await self.leadership.release()

    def held(self) -> str:
        """Since when and why the store's lists aren't believed, for its Lease; empty where they are."""
        health = self.store.health()
        if health.held_since is None:
            return ""
        hold = hold_report(health.held_since, health.message)
        return f"{hold.since} {hold.message}"

    async def one_pass(self) -> float | None:
        if not self.leadership.is_leader():
            return None
        term = self.leadership.term
        if term != self._fresh_in:
            await self.store.refresh()
            self._fresh_in = term
        snapshot = await self.store.latest()
        if isinstance(snapshot, Unknown):
            return None
        found = await asyncio.to_thread(self._decide, snapshot)
        if self._leads_in(term):
            given = sum(isinstance(decision, Assignment) for decision in found.decisions.values())
            self.services = {"assigned": given, "refused": len(found.decisions) - given}
            self.pools = found.pools
            await self._write(found, snapshot, term)
            await self._log(found.decisions, snapshot)
            self._log_mirrors(found.made)
            self.passed_in = term
        return None

    async def _write(self, found: _Pass, snapshot: Snapshot, term: int) -> None:
        bases = {service.ref: service for service in snapshot.services}
        for count, one in enumerate(found.wanted, 1):
            await self.store.write_status(
                one.ref,
                one.status,
                annotations=one.annotations,
                labels=one.labels,
                tell=one.tell,
                basis=bases.get(one.ref),
            )
            if count % BATCH == 0:  # the lease is renewed on this loop
                await asyncio.sleep(0)
                if not self._leads_in(term):
                    return
        for ref in found.surplus:
            await self.store.remove(ref)

    def _leads_in(self, term: int) -> bool:
        return self.leadership.is_leader() and self.leadership.term == term

    def _decide(self, snapshot: Snapshot) -> _Pass:
        """In a thread, as ten thousand Services take a while; values only, so nothing is shared."""
        decisions = allocate(snapshot, classes=self.classes)
        wanted = writings(snapshot, decisions, classes=self.classes)
        made = mirrors(snapshot, decisions, self.mirrors_in) if self.mirrors_in is not None else []
        return _Pass(
            decisions=decisions,
            wanted=[*wanted, *made],
            made=len(made),
            surplus=surplus(snapshot, made),
            pools=pool_tally(wanted),
        )

    def _log_mirrors(self, made: int) -> None:
        is_full = made >= MIRRORS_MOST
        if is_full and not self._is_full:
            log.warning(
                "there are too many status objects for MetalLB's tools; some are left out", extra=fields(most=made)
            )
        self._is_full = is_full

    async def _log(self, decisions: Mapping[ServiceKey, Decision], snapshot: Snapshot) -> None:
        """After the writes, which need not wait for it, and in portions: ten thousand lines hold up the lease."""
        known, self._known = self._known, dict(decisions)
        fresh = ((key, decision) for key, decision in decisions.items() if decision != known.get(key))
        for count, (key, decision) in enumerate(fresh, 1):
            if count % BATCH == 0:
                await asyncio.sleep(0)
            if isinstance(decision, Assignment):
                shown = " ".join(map(str, decision.addresses))
                log.info("assigned", extra=fields(service=key, addresses=shown, pool=decision.pool))
            else:
                log.warning("refused", extra=fields(service=key, reason=decision.reason, message=decision.message))
        problems = frozenset(snapshot.problems)
        for problem in sorted(problems - self._problems):
            log.warning("problem", extra=fields(where=problem.ref.source, reason=problem.reason, text=problem))
        self._problems = problems

    def _not_written(self, error: Exception) -> None:
        log.warning("status not written, trying again", extra=fields(error=error))
