"""The quick step: feeds the ownership protocol with events and time, and carries out what it says, in order.

It runs beside the passes, as a fail-over must not wait for one. What changes the kernel or announces goes through one
`Backlog`, so that an address is on the link before it is announced; questions leave at once, or wait in a queue of
their own, as a thousand addresses that are put on a link must not delay one echo. Before silence is judged, the sockets
are read empty. A beat is one turn of the loop: ten of them a second are most of what an idle agent costs.

A question counts once it has left (`own.Asked`), so one that fails or is dropped makes nobody seem silent.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

from announcer.core import own
from announcer.core.model import (
    PutAddresses,
    RemoveAddresses,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireEvent,
)
from announcer.core.report import TimedMove
from announcer.daemons.backlog import Backlog, Change
from announcer.daemons.edges import Kernel, Wire
from announcer.kernel import KernelError
from announcer.log import fields
from announcer.wire import WireError

log = logging.getLogger(__name__)
QUESTIONS_MOST = 1024
LONGEST_SLEEP = 1.0
MOVES_KEPT = 10_000
"""Until the next report takes them; of more, the oldest are only in the log."""


Question = SendProbe | SendEcho


@dataclass(slots=True)
class Owner:
    """`on_change` is called when an address begins or ceases to be held, or another holder is heard.

    `moves` are those that no report has taken yet, oldest first; `changes` counts them all by cause, for
    announcer_ownership_changes_total{reason}. `late_beats` came more than half an interval after they were due: what
    was silent since then isn't judged in them.
    """

    kernel: Kernel
    wire: Wire
    clock: Callable[[], float]
    timing: own.Timing
    on_change: Callable[[], None]
    state: own.Ownership = own.Ownership()
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    moves: deque[TimedMove] = field(default_factory=lambda: deque(maxlen=MOVES_KEPT))
    changes: Counter[own.Cause] = field(default_factory=Counter)
    late_beats: int = 0
    _changes: Backlog = field(default_factory=Backlog)
    _has_changes: asyncio.Event = field(default_factory=asyncio.Event)
    _questions: deque[tuple[Question, float]] = field(default_factory=lambda: deque(maxlen=QUESTIONS_MOST))
    _has_questions: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None
    _broken: asyncio.Future[None] | None = None

    def tell(self, *events: own.Event) -> None:
        before, now = self.state, self.clock()
        self.state, outcome = own.steps(before, events, now, self.timing)
        moves: list[own.Move] = []
        questions: list[Question] = []
        for one in outcome:
            match one:
                case own.Move():
                    moves.append(one)
                case SendEcho() | SendProbe():
                    questions.append(one)
                case PutAddresses() | RemoveAddresses() | SendAnnouncement() | SendRequest():
                    self._changes.add(one, now)
                    self._has_changes.set()
                case _:
                    raise AssertionError(one)
        if moves:
            self._record(moves)
        if own.next_due(self.state) < own.next_due(before):
            self._arm()
        if any(isinstance(event, own.May | own.Present) for event in events):
            self.wire.listen_for(own.interest(self.state))
        if before.changes != self.state.changes:
            self.wire.hear_probes(wanted=own.minds_probes(self.state))
            self.on_change()
        if questions:
            self._ask(questions, now)

    def heard(self, batch: Iterable[WireEvent]) -> None:
        """Called from the wire's own timer, where nobody would hear of what goes wrong."""
        try:
            self.tell(own.Frames(frames=tuple(batch)))
        except Exception as error:
            if self._broken is None:
                raise
            self._end(error)

    def take_moves(self) -> tuple[TimedMove, ...]:
        """What moved since the last call, oldest first."""
        taken = tuple(self.moves)
        self.moves.clear()
        return taken

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="ticks")
            tasks.create_task(self._change(), name="changes")
            tasks.create_task(self._ask_later(), name="questions")

    async def farewell(self) -> None:
        for action in own.farewell(self.state, self.clock(), self.timing):
            await self._put(action, self.clock())

    async def _tick(self) -> None:
        """For ever; what goes wrong in a beat, or with what is heard, ends it."""
        self._broken = asyncio.get_running_loop().create_future()
        self._arm()
        try:
            await self._broken
        finally:
            self._broken = None
            self._arm()

    def _arm(self) -> None:
        """Have `_beat` called when something is due, as long as `_tick` runs."""
        if self._timer:
            self._timer.cancel()
        if self._broken and not self._broken.done():
            pause = max(0.0, min(own.next_due(self.state) - self.clock(), LONGEST_SLEEP))
            self._timer = asyncio.get_running_loop().call_later(pause, self._beat)

    def _beat(self) -> None:
        try:
            late = self.clock() - own.next_due(self.state)
            if late >= 0:
                self.late_beats += late > self.timing.interval / 2
                heard = self.wire.take()
                self.tell(*([own.Frames(frames=heard)] if heard else []), own.Tick())
        except Exception as error:  # noqa: BLE001 - handed to the task whose turn this is
            self._end(error)
        self._arm()

    def _end(self, error: Exception) -> None:
        if self._broken and not self._broken.done():
            self._broken.set_exception(error)

    async def _change(self) -> None:
        while True:
            await self._has_changes.wait()
            self._has_changes.clear()
            while self._changes:
                await self._carry_out(*self._changes.take())

    async def _carry_out(self, action: Change, decided: float) -> None:
        """A failed step is repaired by the next look at the kernel, so it is only logged here.

        Nothing is put on a link or announced so late that the fence could have fallen since it was decided: by then it
        may be another node's. The step finds it missing and asks again.
        """
        is_late = self.clock() - decided >= self.timing.fence - self.timing.refresh - self.timing.margin
        match action:
            case PutAddresses():
                if is_late or not await self._put(action, decided):
                    self._changes.unsay(action.ifname, action.addresses)
            case RemoveAddresses():
                await self._apply(action)
            case SendAnnouncement() | SendRequest():
                if not is_late:
                    await self._apply(action)
            case _:
                assert_never(action)

    async def _put(self, action: PutAddresses, decided: float) -> bool:
        is_done = await self._apply(action)
        if is_done:
            self.tell(own.Refreshed(at=decided))
        return is_done

    def _ask(self, questions: list[Question], decided: float) -> None:
        """Nodes before addresses that wait already: a life depends on it."""
        asked: list[own.Asked] = []
        for question in questions:
            try:
                if (isinstance(question, SendEcho) or not self._questions) and self.wire.send_now(question):
                    asked.append(_asked(question, decided))
                    continue
            except WireError as error:
                _log_failure(question, error)
                continue
            add = self._questions.appendleft if isinstance(question, SendEcho) else self._questions.append
            add((question, decided))
            self._has_questions.set()
        if asked:
            self.tell(*asked)

    async def _ask_later(self) -> None:
        while True:
            await self._has_questions.wait()
            self._has_questions.clear()
            while self._questions:
                action, decided = self._questions.popleft()
                if await self._apply(action):
                    self.tell(_asked(action, decided))

    async def _apply(self, action: Change | Question) -> bool:
        """Whether it was done."""
        try:
            if isinstance(action, PutAddresses | RemoveAddresses):
                await self.kernel.apply(action)
            else:
                await self.wire.apply(action)
        except (KernelError, WireError) as error:
            _log_failure(action, error)
            return False
        return True

    def _record(self, moves: list[own.Move]) -> None:
        """What a step moves is of one moment; what moved alike is one line: a thousand would make a takeover late."""
        now = self.wall()
        alike: dict[tuple[object, ...], list[str]] = {}
        for move in moves:
            self.moves.append(TimedMove(move=move, time=now))
            self.changes[move.cause] += 1
            what = (move.ifname, move.old or "nobody", move.new or "nobody", move.cause.value, move.silent_seconds)
            alike.setdefault(what, []).append(str(move.address))
        for (link, old, new, reason, seconds), addresses in alike.items():
            shown = fields(
                addresses=",".join(addresses),
                count=len(addresses),
                link=link,
                old=old,
                new=new,
                reason=reason,
                silent_seconds=seconds,
            )
            log.info("ownership moved", extra=shown)


def _log_failure(action: Change | Question, error: Exception) -> None:
    log.warning("ownership step failed", extra=fields(action=type(action).__name__, error=error))


def _asked(question: Question, decided: float) -> own.Asked:
    if isinstance(question, SendProbe):
        return own.Asked(ifname=question.ifname, at=decided, addresses=question.addresses)
    return own.Asked(ifname=question.ifname, at=decided, lladdrs=tuple(echo.lladdr for echo in question.echoes))
