"""The quick step: feeds the ownership protocol with events and time, and carries out what it says, in order.

It runs beside the passes, as a fail-over must not wait for one. All Actions of a step go through one queue and one
task, so that an address is on the link before it is announced.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from announcer.core import own
from announcer.core.model import (
    Action,
    Heard,
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


@dataclass(slots=True)
class Owner:
    """`on_change` is called when an address begins or ceases to be held, or another holder is heard."""

    kernel: Kernel
    wire: Wire
    clock: Callable[[], float]
    timing: own.Timing
    on_change: Callable[[], None]
    state: own.Ownership = own.Ownership()
    _queue: deque[Action] = field(default_factory=lambda: deque(maxlen=QUEUE_MOST))
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, event: own.Event) -> None:
        before = self.state
        self.state, actions = own.step(before, event, self.clock(), self.timing)
        self._queue.extend(actions)
        self._woken.set()
        self._log_changes(before)

    def heard(self, batch: Iterable[WireEvent]) -> None:
        for one in batch:
            if isinstance(one, Heard):  # nodes aren't watched yet, so no echo is sent
                self.tell(one)

    async def run(self) -> None:
        while True:
            while self._queue:
                await self._apply(self._queue.popleft())
            due = own.next_due(self.state, self.timing)
            try:
                async with asyncio.timeout(max(0.0, min(due - self.clock(), LONGEST_SLEEP))):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            if own.next_due(self.state, self.timing) <= self.clock():
                self.tell(own.Tick())

    async def farewell(self) -> None:
        for action in own.farewell(self.state, self.timing):
            await self._apply(action)

    async def _apply(self, action: Action) -> None:
        """A failed step is repaired by the next look at the kernel, so it is only logged here."""
        try:
            match action:
                case PutAddresses() | RemoveAddresses():
                    await self.kernel.apply(action)
                case SendProbe() | SendAnnouncement() | SendRequest() | SendEcho():
                    await self.wire.apply(action)
                case _:
                    raise AssertionError(action)
        except (KernelError, WireError) as error:
            log.warning("ownership step failed", extra=fields(action=type(action).__name__, error=error))

    def _log_changes(self, before: own.Ownership) -> None:
        if before.entries is self.state.entries:
            return
        has_changed = False
        for key in before.entries.keys() | self.state.entries.keys():
            old, new = before.entries.get(key), self.state.entries.get(key)
            was, is_now = (old.phase if old else None), (new.phase if new else None)
            if was is is_now and (old.holder if old else "") == (new.holder if new else ""):
                continue
            has_changed = True
            shown = fields(
                address=key[1],
                link=key[0],
                was=was.value if was else "none",
                now=is_now.value if is_now else "none",
                holder=new.holder if new else "",
            )
            log.info("ownership", extra=shown)
        if has_changed:
            self.on_change()
