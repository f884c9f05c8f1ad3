"""The node process: one pass = snapshot → desired → observed → plan → apply → report.

It keeps nothing that it couldn't read back: what is desired comes from the store, what is there from the kernel and
the sidecar. What an edge could not do is shown in the node's NodeAnnouncement and tried again in the next pass.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from announcer.bfd import BfdError
from announcer.core import own
from announcer.core.allocate import CLASSES
from announcer.core.desired import Desired, describe_links, desired, gateways, is_let_go
from announcer.core.model import (
    UNKNOWN,
    Action,
    AddVirtualLink,
    AdvertiseRoutes,
    HoldReport,
    IPAddress,
    NodeName,
    ObjectRef,
    ObservedKernel,
    Outcome,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveAddresses,
    RemoveGuard,
    RemoveRoute,
    SetBfd,
    SetDevconf,
    SetPeers,
    Snapshot,
    TearDown,
    Unknown,
    WithdrawRoutes,
)
from announcer.core.plan import Pace, is_drastic, plan
from announcer.core.report import (
    Past,
    Tally,
    Tell,
    doubtful_status,
    ended,
    hold_report,
    node_status,
    node_tell,
    recall,
    remember,
    tally,
    tell_nothing,
    with_bfd,
    with_holds,
)
from announcer.daemons.aside import aside, is_little
from announcer.daemons.edges import Bfd, Kernel, Sidecar, Store, Wire
from announcer.daemons.lasting import all_lasting
from announcer.daemons.loop import Loop, Rhythm
from announcer.daemons.owner import Owner
from announcer.exabgp import ExabgpError
from announcer.kernel import KernelError
from announcer.log import fields
from announcer.store import StoreError

log = logging.getLogger(__name__)
NEWS_SECONDS: Final = 1.0
"""What news of a shutdown may take: the kubelet writes it to the Node as it begins to end pods."""
HAND_OVER_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.1
MAKES_READY = (AddVirtualLink, SetDevconf, PutAddresses, PutRoute)


@dataclass(frozen=True, slots=True)
class Passed:
    """What the last whole pass that did all it wanted went by, and when the next is due without news."""

    kernel: ObservedKernel
    wanted: Desired
    holds: list[HoldReport]
    next_at: float


@dataclass(slots=True)
class Agent:
    """`loop.wake` and `owner.heard` are what edges call; everything that changes happens in the tasks of `run`."""

    node: NodeName
    store: Store
    kernel: Kernel
    wire: Wire
    sidecar: Sidecar
    owner: Owner
    clock: Callable[[], float]
    pace: Pace = Pace()
    classes: Set[str] = CLASSES
    bfd: Bfd | None = None
    guards_ports: bool = True
    rhythm: Rhythm = Rhythm()
    loop: Loop = field(init=False)
    tally: Tally | None = None
    """Of the last pass that came to its end."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why Actions of a kind failed in the last pass, and how often below."""
    failures: Counter[str] = field(default_factory=Counter)
    report_failures: int = 0
    sessions_ended: Counter[IPAddress] = field(default_factory=Counter)
    """How often that was seen of an established one, by peer."""
    is_in_service: bool = True
    is_drained: bool = False
    """Both as the last pass found this node, and for `leave`."""
    past: Past | None = None
    """What the last report said, None before the first."""
    doubt_seconds: float = 30.0
    """For how long a first look that would take over half of what this node has down is not believed."""
    _is_synced: bool = False
    _is_trusted: bool = False
    _doubts_since: float | None = None
    _doubt_began: datetime | None = None
    _passed: Passed | None = None

    def __post_init__(self) -> None:
        self.loop = Loop(self.one_pass, (KernelError, StoreError), self._no_pass, self.rhythm)

    async def run(self) -> None:
        parts = {
            "store": self.store.run(self._store_told),
            "kernel": self.kernel.watch(self.loop.wake),
            "sidecar": self.sidecar.run(),
            "owner": self.owner.run(),
            "passes": self.loop.run(),
        }
        if self.bfd is not None:
            parts["bfdd"] = self.bfd.run()
        await all_lasting(parts)

    async def farewell(self) -> None:
        """SIGTERM with the node in service: addresses, routes and sessions stay; the fence is widened for the next."""
        await self.owner.farewell()

    async def leave(self) -> str:
        """For who is about to end this process: returns when a node that goes out of service is drained, or takes
        longer than it may. On one that stays in service nothing changes, and only news of it are waited for.
        """
        began = self.clock()
        while (spent := self.clock() - began) < self.pace.drain + HAND_OVER_SECONDS:
            if self.is_drained:
                return "drained"
            if self.is_in_service and spent >= NEWS_SECONDS:
                return "in service: nothing is given up"
            await asyncio.sleep(LOOK_SECONDS)
        log.warning("this node is not drained yet", extra=fields(seconds=self.pace.drain + HAND_OVER_SECONDS))
        return "not drained yet"

    def _store_told(self) -> None:
        """Unlike all other news, what is of no concern here may turn out to need no pass."""
        self.loop.wake(is_minor=True)

    async def one_pass(self) -> float | None:
        began = self.clock()
        if self.loop.is_minor and (pause := await self._rest_of_pause()) is not None:
            return pause
        self._passed = None
        kernel = await self.kernel.read()
        self._look(kernel, began)
        snapshot = await self.store.latest()
        wanted = await self._decide(snapshot, kernel)
        if isinstance(snapshot, Unknown) or isinstance(wanted, Unknown):
            if not isinstance(snapshot, Unknown) and is_let_go(snapshot, self.node):
                self._let_go(snapshot)
            log.debug("nothing is changed, nothing is reported: what this node should have is not known")
            return None
        if not self._is_trusted and (pause := await self._doubt(wanted, kernel)) is not None:
            await self._report_doubt(kernel, snapshot)
            return pause
        self._judge(wanted)
        bgp, bfd = self.sidecar.observed(), self.bfd.observed() if self.bfd else None
        todo = await aside(snapshot, plan, wanted, kernel, bgp, self.clock(), self.pace, bfd)
        self._note(await self._apply(todo.actions))
        holds = self.holds()
        is_reported = await self._report(wanted, kernel, snapshot, holds)
        if self.failed:
            return min(todo.again_in or 1.0, 1.0)
        if is_little(snapshot) and is_reported:
            pause = self.rhythm.resync if todo.again_in is None else todo.again_in
            self._passed = Passed(kernel, wanted, holds, self.clock() + pause)
        return todo.again_in

    async def _rest_of_pause(self) -> float | None:
        """Seconds until a pass is due, where what the store has now asks for the same as in the last one; None where
        there has to be one.
        """
        passed, snapshot = self._passed, await self.store.latest()
        if passed is None or isinstance(snapshot, Unknown) or not is_little(snapshot):
            return None
        is_reported = any(report.node == self.node for report in snapshot.reports)  # nobody has taken it away
        if not is_reported or self.holds() != passed.holds:
            return None
        is_same = await self._decide(snapshot, passed.kernel) == passed.wanted
        return max(0.0, passed.next_at - self.clock()) or None if is_same else None

    async def _decide(self, snapshot: Snapshot | Unknown, kernel: ObservedKernel) -> Desired | Unknown:
        if isinstance(snapshot, Unknown):
            return UNKNOWN
        if not self._is_synced:
            log.info("the store is known", extra=fields(services=len(snapshot.services)))
        self._is_synced = True
        return await aside(
            snapshot,
            desired,
            snapshot,
            self.node,
            kernel,
            classes=self.classes,
            has_bfd=self.bfd is not None,
            guards_ports=self.guards_ports,
        )

    async def _doubt(self, wanted: Desired, kernel: ObservedKernel) -> float | None:
        """Seconds until the first look after a start is believed, None once it is; before, all is read again."""
        now = self.clock()
        if not is_drastic(wanted, kernel):
            self._is_trusted = True
            return None
        if self._doubts_since is None:
            self._doubts_since, self._doubt_began = now, datetime.now(UTC)
            log.error(
                "over half of this node's addresses would go: not before a second look agrees",
                extra=fields(seconds=self.doubt_seconds),
            )
        left = self._doubts_since + self.doubt_seconds - now
        if left > 0:
            return left
        await self.store.refresh()
        self._is_trusted = True
        self.loop.wake()
        return self.rhythm.retry_first

    def doubts(self) -> list[HoldReport]:
        """That this agent doesn't believe its own first look."""
        if self._doubt_began is None or self._is_trusted:
            return []
        text = "over half of this node's addresses would go; they stay as they are until a second look agrees"
        return [hold_report(self._doubt_began, text)]

    def holds(self) -> list[HoldReport]:
        """What isn't believed now, the store's doubts among it."""
        health = self.store.health()
        if health.held_since is not None:
            return [*self.doubts(), hold_report(health.held_since, f"store: {health.message}")]
        return self.doubts()

    def release(self) -> None:
        """SIGHUP: a person knows that what is gone is really gone."""
        self._is_trusted = True
        self.store.release()
        self.loop.wake()

    def _look(self, kernel: ObservedKernel, began: float) -> None:
        links = describe_links(kernel)
        real = {link.ifname for link in links}
        self.wire.set_links(link for link in kernel.links if link.ifname in real and link.has_carrier)
        keys = frozenset((a.ifname, a.address) for a in kernel.addresses if a.is_ours and a.ifname in real)
        found = {
            link.ifname: own.OwnLink(
                lladdr=link.lladdr,
                has_carrier=link.has_carrier,
                sources=link.addresses,
                gateways=gateways(kernel, link.ifname),
            )
            for link in links
        }
        self.owner.tell(own.Present(keys=keys, links=found, at=began))

    def _judge(self, wanted: Desired) -> None:
        found = {(c.ifname, c.address): c.candidates for c in wanted.candidacies}
        self.owner.tell(own.May(node=self.node, candidacies=found, neighbors=wanted.neighbors, keep=wanted.keep))

    def _let_go(self, snapshot: Snapshot) -> None:
        """Local addresses go to those who still are candidates, as in any planned move; nothing else is touched."""
        if any(entry.is_held for entry in self.owner.state.entries.values()):
            log.warning("this node's object is gone: its local addresses move", extra=fields(node=self.node))
        self.owner.tell(own.May(node=self.node, candidacies={}, keep=snapshot.in_use))

    async def _apply(self, actions: tuple[Action, ...]) -> list[Outcome]:
        """Carry out in order. Once something that makes ready has failed, nothing more is attracted in this pass."""
        outcomes: list[Outcome] = []
        for action in actions:
            is_unready = any(o.error and isinstance(o.action, MAKES_READY) for o in outcomes)
            if is_unready and isinstance(action, AdvertiseRoutes):
                outcomes.append(Outcome(action=action, error="waits for what failed before it"))
                continue
            try:
                await self._apply_one(action)
                outcomes.append(Outcome(action=action))
            except (KernelError, ExabgpError, BfdError) as error:
                outcomes.append(Outcome(action=action, error=str(error)))
        return outcomes

    async def _apply_one(self, action: Action) -> None:
        match action:
            case SetPeers() | TearDown() | AdvertiseRoutes() | WithdrawRoutes():
                await self.sidecar.apply(action)
            case SetBfd() if self.bfd is not None:
                await self.bfd.apply(action)
            case AddVirtualLink() | SetDevconf() | PutAddresses() | RemoveAddresses() | PutRoute() | RemoveRoute():
                await self.kernel.apply(action)
            case PutGuard() | RemoveGuard():
                await self.kernel.apply(action)
            case _:
                raise AssertionError(f"a pass never plans {action}")

    def _note(self, outcomes: list[Outcome]) -> None:
        """Log what was done and every failure once, when it begins and when it ends."""
        failed = {type(o.action).__name__: o.error for o in outcomes if o.error}
        self.failures = Counter(type(o.action).__name__ for o in outcomes if o.error)
        for name in failed.keys() | self.failed.keys():
            if failed.get(name) and failed.get(name) != self.failed.get(name):
                log.warning("action failed", extra=fields(action=name, error=failed[name]))
            elif name not in failed:
                log.info("action works again", extra=fields(action=name))
        self.failed = failed
        done = [o.action for o in outcomes if not o.error and not isinstance(o.action, SetPeers | SetBfd)]
        if done:
            log.info("pass", extra=fields(did=" ".join(_brief(action) for action in done)))

    async def _report(
        self, wanted: Desired, kernel: ObservedKernel, snapshot: Snapshot, holds: list[HoldReport]
    ) -> bool:
        """Whether the store took it."""
        errors = [f"{name}: {error}" for name, error in self.failed.items()] + list(wanted.notes)
        links = describe_links(kernel)
        observed, bfd = self.sidecar.observed(), self.bfd.observed() if self.bfd else None
        peers = (*wanted.peers, *wanted.unready)
        if isinstance(bfd, Unknown) and self.bfd is not None and any(peer.bfd for peer in peers):
            errors.append(f"BFD is not known, so sessions go by their hold times: {self.bfd.problem}")
        ownership, moves = self.owner.state, self.owner.take_moves()  # of one moment
        then, now = self._history(snapshot), datetime.now(UTC)
        sessions = await aside(snapshot, recall, then.sessions, wanted, observed, now)
        self.past = Past(
            moves=await aside(snapshot, remember, then.moves, moves, wanted.placements),
            sessions=with_bfd(sessions, peers, bfd),
        )
        self.sessions_ended.update(ended(then.sessions, self.past.sessions))
        status = await aside(snapshot, node_status, links, wanted, ownership, observed, errors, self.past)
        self.is_in_service, self.is_drained = wanted.is_in_service, bool(status["isDrained"])
        self.tally = await aside(snapshot, tally, status)
        tell = node_tell(self.node, status, snapshot.pools, snapshot.peers)
        return await self._write(with_holds(status, holds), tell)

    async def _report_doubt(self, kernel: ObservedKernel, snapshot: Snapshot) -> None:
        self.past = self._history(snapshot)
        for hold in self.doubts():
            await self._write(doubtful_status(describe_links(kernel), hold, self.past), tell_nothing)

    async def _write(self, status: Mapping[str, object], tell: Tell) -> bool:
        try:
            await self.store.write_status(ObjectRef(kind="NodeAnnouncement", name=self.node), status, tell=tell)
        except StoreError as error:
            self.report_failures += 1
            log.warning("status not written", extra=fields(error=error))
            return False
        return True

    def _history(self, snapshot: Snapshot) -> Past:
        """What the report says of what was, also before this agent."""
        if self.past is not None:
            return self.past
        report = next((report for report in snapshot.reports if report.node == self.node), None)
        return Past(moves=report.moves, sessions=report.sessions) if report else Past()

    def _no_pass(self, error: Exception) -> None:
        log.warning("no pass: what it needs could not be read", extra=fields(error=error))


def _brief(action: Action) -> str:
    """An Action in a few words for the log: its kind, and what or how many."""
    match action:
        case AdvertiseRoutes() | WithdrawRoutes():
            return f"{type(action).__name__}({action.peer_address},{len(action.routes)})"
        case PutAddresses() | RemoveAddresses():
            return f"{type(action).__name__}({action.ifname},{len(action.addresses)})"
        case AddVirtualLink() | SetDevconf():
            return f"{type(action).__name__}({action.ifname})"
        case TearDown():
            return f"{type(action).__name__}({action.peer_address})"
        case PutGuard():
            return f"{type(action).__name__}({len(action.guard.ports)})"
        case PutRoute() | RemoveRoute():
            return f"{type(action).__name__}({action.route.destination})"
        case _:
            return type(action).__name__
