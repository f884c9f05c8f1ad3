"""The quick step: feeds the ownership protocol with events and time, and carries out what it says, in order.

It runs beside the passes, as a fail-over must not wait for one. What changes the kernel or announces goes through one
queue, so that an address is on the link before it is announced; questions have a queue of their own, as a thousand
addresses that are put on a link must not delay one echo. Before silence is judged, the sockets are read empty.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from announcer.core import own
from announcer.core.model import (
    Action,
    PutAddresses,
    RemoveAddresses,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireEvent,
)
from announcer.daemons.edges import Kernel, Wire
from announcer.kernel import KernelError
from announcer.log import fields
from announcer.wire import WireError

log = logging.getLogger(__name__)
QUEUE_MOST = 10_000
LONGEST_SLEEP = 1.0
MOVES_KEPT = 100


@dataclass(slots=True)
class _Queue:
    """Actions with the time at which they were decided. `woken` while there may be some."""

    actions: deque[tuple[Action, float]] = field(default_factory=lambda: deque(maxlen=QUEUE_MOST))
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, action: Action, now: float) -> None:
        self.actions.append((action, now))
        self.woken.set()


@dataclass(slots=True)
class Owner:
    """`on_change` is called when an address begins or ceases to be held, or another holder is heard.

    `moves` are the last ones, oldest first; `changes` counts them all by cause, for
    announcer_ownership_changes_total{reason}.
    """

    kernel: Kernel
    wire: Wire
    clock: Callable[[], float]
    timing: own.Timing
    on_change: Callable[[], None]
    state: own.Ownership = own.Ownership()
    moves: deque[own.Move] = field(default_factory=lambda: deque(maxlen=MOVES_KEPT))
    changes: Counter[own.Cause] = field(default_factory=Counter)
    _changing: _Queue = field(default_factory=_Queue)
    _asking: _Queue = field(default_factory=_Queue)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, event: own.Event) -> None:
        before, now = self.state, self.clock()
        self.state, outcome = own.step(before, event, now, self.timing)
        for one in outcome:
            match one:
                case own.Move():
                    self._record(one)
                case SendProbe() | SendEcho():
                    self._asking.add(one, now)
                case _:
                    self._changing.add(one, now)
        if own.next_due(self.state) < own.next_due(before):
            self._woken.set()
        if isinstance(event, own.May | own.Present):
            self.wire.listen_for(own.interest(self.state))
        if before.changes != self.state.changes:
            self.on_change()

    def heard(self, batch: Iterable[WireEvent]) -> None:
        self.tell(own.Frames(frames=tuple(batch)))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="ticks")
            tasks.create_task(self._work_off(self._changing), name="changes")
            tasks.create_task(self._work_off(self._asking), name="questions")

    async def farewell(self) -> None:
        for action in own.farewell(self.state, self.clock(), self.timing):
            await self._apply(action, self.clock())

    async def _tick(self) -> None:
        while True:
            pause = own.next_due(self.state) - self.clock()
            try:
                async with asyncio.timeout(max(0.0, min(pause, LONGEST_SLEEP))):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            if own.next_due(self.state) <= self.clock():
                self.wire.read_empty()
                self.tell(own.Tick())

    async def _work_off(self, queue: _Queue) -> None:
        while True:
            await queue.woken.wait()
            queue.woken.clear()
            while queue.actions:
                await self._apply(*queue.actions.popleft())

    async def _apply(self, action: Action, decided: float) -> None:
        """A failed step is repaired by the next look at the kernel, so it is only logged here.

        An address is not put on a link so late that the fence could have fallen since it was decided: by then it may be
        another node's. The step finds it missing and asks again.
        """
        try:
            match action:
                case PutAddresses():
                    if self.clock() - decided < self.timing.fence - self.timing.refresh - self.timing.margin:
                        await self.kernel.apply(action)
                        self.tell(own.Refreshed(at=decided))
                case RemoveAddresses():
                    await self.kernel.apply(action)
                case SendProbe() | SendAnnouncement() | SendRequest() | SendEcho():
                    await self.wire.apply(action)
                case _:
                    raise AssertionError(action)
        except (KernelError, WireError) as error:
            log.warning("ownership step failed", extra=fields(action=type(action).__name__, error=error))
            if isinstance(action, SendProbe | SendEcho):
                self.tell(own.Unsent(ifname=action.ifname))

    def _record(self, move: own.Move) -> None:
        self.moves.append(move)
        self.changes[move.cause] += 1
        shown = fields(
            address=move.address,
            link=move.ifname,
            old=move.old or "nobody",
            new=move.new or "nobody",
            reason=move.cause.value,
            silent_seconds=move.silent_seconds,
        )
        log.info("ownership moved", extra=shown)
