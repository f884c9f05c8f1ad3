"""The session with ExaBGP: learns what is on the wire, carries out changes, and comes back after each loss.

On connect everything known is forgotten: ExaBGP is asked for its peers, and made to say again what it advertised to
each. Until then `observed` is UNKNOWN. After that only send events change the picture, and an answer proves nothing.
What is advertised is never decided here.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from announcer.core.model import (
    UNKNOWN,
    AdvertiseRoutes,
    BgpAction,
    IPAddress,
    ObservedBgp,
    Route,
    SetPeers,
    TearDown,
    Unknown,
    WithdrawRoutes,
)
from announcer.exabgp import files, lines
from announcer.exabgp.config import blocks_of, configuration, fingerprint
from announcer.exabgp.lines import Change, Event
from announcer.exabgp.link import Link
from announcer.exabgp.picture import Picture
from announcer.exabgp.text import ExabgpError

log = logging.getLogger(__name__)

SOCKET: Final = "bridge.sock"
BRIDGE: Final = "bridge"
QUEUED_MOST: Final = 2000
ROUTES_AT_ONCE: Final = 1000
RELOADS_UNTIL_ERROR: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds.

    `confirm` is what ExaBGP has, after its answer, to send a change, `farewell` what it has for a NOTIFICATION;
    `flush` the least between two flushes of a peer; `rejected` until a configuration that was is tried again; `tick`
    how often deadlines are looked at, `idle` how often where there are none; `wake` the least between two wakes.
    """

    connect: float = 3.0
    answer: float = 30.0
    learn: float = 15.0
    confirm: float = 10.0
    farewell: float = 1.0
    flush: float = 60.0
    tick: float = 0.25
    idle: float = 5.0
    wake: float = 0.05
    retry_first: float = 0.1
    retry_most: float = 2.0
    reload_first: float = 0.25
    reload_most: float = 10.0
    rejected: float = 60.0


class ExabgpSession:
    """`run` for ever beside the passes, which call `observed` and `apply`; `wake` says that the picture has changed.

    `directory` is shared with ExaBGP, at the same path: its configurations, the bridge's socket, and the bridge itself,
    where `exabgp/run` puts it. `bridge_argv` replaces the latter two as the configuration names them.
    """

    def __init__(
        self,
        directory: Path,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        timing: Timing | None = None,
        bridge_argv: tuple[str, ...] = (),
    ) -> None:
        self._directory = directory.absolute()
        self._wake, self._clock, self._timing = wake, clock, timing or Timing()
        self._bridge_argv = bridge_argv or (str(self._directory / BRIDGE), str(self._directory / SOCKET))
        self._picture = Picture()
        self._queue: deque[Change] = deque()
        self._ending: set[IPAddress] = set()
        self._endings = asyncio.Event()
        self._work = asyncio.Event()
        self._is_learned = self._has_news = False
        self._wanted: frozenset[str] | None = None
        self._descriptions: set[str] = set()
        self._reloads, self._reload_at = 0, 0.0
        self._rejection = ""
        self._looks_again = False
        self._learn_until = 0.0
        self._flushed_at: dict[IPAddress, float] = {}
        self._waking: asyncio.TimerHandle | None = None
        self._woken_at = 0.0
        self._reason = ""

    def observed(self) -> ObservedBgp | Unknown:
        return self._picture.observed() if self._is_learned else UNKNOWN

    async def apply(self, action: BgpAction) -> None:
        """Success is that a change is on its way; whether it arrived is for `observed` to show."""
        match action:
            case SetPeers():
                self._set_peers(action)
            case TearDown():
                self._need_established(action.peer_address)
                self._ending.add(action.peer_address)
                self._endings.set()
                self._work.set()
            case AdvertiseRoutes():
                for some in _parts(action.routes):
                    self._advertise(action.peer_address, some)
                    await asyncio.sleep(0)
            case WithdrawRoutes():
                for some in _parts(action.routes):
                    self._need_established(action.peer_address)
                    idle = self._picture.idle(action.peer_address, some)
                    self._enqueue(lines.withdraw(action.peer_address, idle))
                    await asyncio.sleep(0)
            case _:
                assert_never(action)

    async def run(self) -> None:
        pause = self._timing.retry_first
        reason = ""
        while True:
            try:
                # A task of its own: a TaskGroup that fails leaves its task asked to be cancelled (CPython 3.11), and
                # then the next timeout in it would end it, which nobody would notice.
                await asyncio.create_task(self._converse(), name="exabgp conversation")
            except* (ExabgpError, OSError) as errors:
                reason = _first(errors)
            pause = self._timing.retry_first if self._is_learned else pause
            self._forget(reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._timing.retry_most)

    # -- actions ---------------------------------------------------------------------------------------------------

    def _set_peers(self, action: SetPeers) -> None:
        """Write the file where it differs, and see to it that ExaBGP runs it."""
        path = self._directory / files.CANDIDATE
        try:
            blocks = blocks_of(files.newest(self._directory)) if action.keeps or action.keeps_others else {}
            kept, out = ({str(address) for address in some} for some in (action.keeps, action.left_out))
            others = {n: text for n, text in blocks.items() if n not in out and (action.keeps_others or n in kept)}
            wanted = frozenset({fingerprint(action.peers, others)} - {""})
            files.put(self._directory, configuration(action.peers, self._bridge_argv, others))
        except OSError as error:
            raise ExabgpError(f"configuration not written: {error}") from error
        if wanted != self._wanted:
            self._wanted, self._reloads, self._reload_at, self._rejection = wanted, 0, 0.0, ""
            self._work.set()
        if self._rejection:
            raise ExabgpError(f"ExaBGP goes on with the peers that it has, as it refuses {path}: {self._rejection}")
        if self._is_learned and self._reloads >= RELOADS_UNTIL_ERROR and not self._is_configured():
            raise ExabgpError(f"ExaBGP does not take {path}: its log says why; restart it where that doesn't change")

    def _is_configured(self) -> bool:
        return self._wanted is None or self._descriptions == self._wanted

    def _advertise(self, peer: IPAddress, routes: tuple[Route, ...]) -> None:
        self._need_established(peer)
        refused = self._picture.not_agreed(peer, routes)
        possible = [route for route in routes if lines.family(route.prefix) not in refused]
        self._enqueue(lines.advertise(peer, self._picture.adopt(peer, possible)))
        if refused:
            raise ExabgpError(f"{peer} has not agreed to take {', '.join(sorted(refused))}")

    def _need_established(self, peer: IPAddress) -> None:
        """Nothing is written to a session that is down: ExaBGP would queue it, beside what comes later."""
        if not self._is_learned or not self._picture.is_established(peer):
            raise ExabgpError(f"no established session with {peer}")

    def _enqueue(self, changes: tuple[Change, ...]) -> None:
        if len(self._queue) + len(changes) > QUEUED_MOST:
            raise ExabgpError(f"{len(self._queue)} lines wait for ExaBGP already")
        for change in changes:
            self._picture.begin(change)
        self._queue.extend(changes)
        self._work.set()

    # -- one connection --------------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        timing = self._timing
        path = self._directory / SOCKET
        link = await Link.open(path, self._on_event, seconds=timing.connect, answer_seconds=timing.answer)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(link.read(), name="exabgp events")
                tasks.create_task(self._drive(link), name="exabgp commands")
        finally:
            link.close()

    def _forget(self, reason: str) -> None:
        if reason != self._reason:
            log.warning("not connected to ExaBGP", extra={"fields": {"reason": reason}})
        self._reason = reason
        was_learned, self._is_learned = self._is_learned, False
        self._picture.clear()
        self._queue.clear()
        self._ending.clear()
        self._descriptions.clear()
        if was_learned:
            self._changed()

    async def _drive(self, link: Link) -> None:
        """Everything that is written is written here, one after the other."""
        await self._look(link)
        await self._learn(link)
        self._is_learned, self._reason = True, ""
        self._changed()
        while True:
            if self._has_news:
                await self._look(link)
            await self._tear_down(link)
            await self._learn(link)
            await self._configure(link)
            await self._flush_suspects(link)
            await self._write_queue(link)
            self._meet_deadlines(link)
            await self._pause(self._timing.tick if self._is_busy(link) else self._timing.idle)

    async def _look(self, link: Link) -> None:
        """Which peers there are, in which state, and which configuration that comes from."""
        self._has_news, self._looks_again = self._looks_again, False
        await link.ask(lines.ASK_NEIGHBORS)
        self._descriptions.clear()
        await link.ask(lines.ASK_CONFIGURATION)

    async def _learn(self, link: Link) -> None:
        """Have everything said again that was said before this connection."""
        for peer in self._picture.unlearned():
            self._learn_until = self._clock() + self._timing.learn
            if await link.ask(lines.flush(peer)) and peer in self._picture.unlearned():
                await link.ask(lines.end_of_rib(peer, self._picture.await_end_of_rib(peer)))
            else:
                self._has_news = True

    async def _configure(self, link: Link) -> None:
        """ExaBGP loses a reload while updates wait, so ask until it is seen to run what is wanted."""
        if self._is_configured() or self._clock() < self._reload_at or not files.is_any(self._directory):
            return
        pause = self._timing.reload_first * 2 ** min(self._reloads, 10)
        self._reloads, self._reload_at = self._reloads + 1, self._clock() + min(pause, self._timing.reload_most)
        await link.reload()

    async def _tear_down(self, link: Link) -> None:
        """And wait for the end, `farewell` from the last that was asked: a change of the configuration would close the
        connection without a word.
        """
        asked: set[IPAddress] = set()
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                while self._ending:
                    self._endings.clear()
                    for peer in sorted(self._ending - asked, key=str):
                        asked.add(peer)
                        limit.reschedule(None)
                        await link.ask(lines.tear_down(peer))
                        limit.reschedule(asyncio.get_running_loop().time() + self._timing.farewell)
                    await self._endings.wait()
        self._ending -= asked

    async def _flush_suspects(self, link: Link) -> None:
        """What ExaBGP believes to be advertised it would not send again by itself: make it, and no traffic is lost."""
        for peer in self._picture.suspects():
            if self._clock() - self._flushed_at.get(peer, -self._timing.flush) >= self._timing.flush:
                self._flushed_at[peer] = self._clock()
                self._picture.trust(peer)
                await link.ask(lines.flush(peer))

    async def _write_queue(self, link: Link) -> None:
        while self._queue:
            change = self._queue.popleft()
            await link.send(change.line, partial(self._on_answer, change))

    def _on_answer(self, change: Change, is_done: bool) -> None:
        error = "" if is_done else f"ExaBGP refused: {change.line[:100]}"
        self._picture.answered(change, self._clock() + self._timing.confirm, error)
        if error:
            self._changed()

    def _meet_deadlines(self, link: Link) -> None:
        link.check()
        if self._picture.expire(self._clock()):
            self._changed()
        if self._picture.observed() is UNKNOWN and self._clock() > self._learn_until:
            self._picture.give_up()
            self._changed()

    def _is_busy(self, link: Link) -> bool:
        """Whether there is a deadline to meet, or something to try again. All else comes with an event or an action."""
        is_open = link.is_waiting() or self._picture.is_waiting() or self._picture.observed() is UNKNOWN
        return is_open or self._has_news or not self._is_configured() or bool(self._picture.suspects())

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        match event:
            case lines.Hello():
                log.info("connected to ExaBGP", extra={"fields": {"exabgp_pid": event.exabgp_pid}})
            case lines.Described() | lines.ReloadAsked() | lines.Rejected():
                self._configuration_told(event)
            case lines.NeighborStates():
                self._picture.states(event, datetime.now(UTC))
                self._changed()
            case lines.SessionUp() | lines.SessionDown():
                self._session_changed(event)
            case lines.Notified():
                self._picture.notified(event)
            case lines.RoutesSent():
                self._picture.sent(event, self._clock())
                self._changed()
            case lines.EndOfRib():
                if self._picture.end_of_rib(event):
                    self._changed()
            case lines.Answer() | lines.Refused():
                pass
            case _:
                assert_never(event)

    def _configuration_told(self, event: lines.Described | lines.ReloadAsked | lines.Rejected) -> None:
        if isinstance(event, lines.Described):
            self._descriptions.add(event.description)
        elif isinstance(event, lines.ReloadAsked):
            self._rejection = ""
            self._has_news = self._looks_again = True  # a peer that is gone has a last turn, and is shown until then
            self._work.set()
        elif self._wanted and event.description in (*self._wanted, ""):  # what was wanted before doesn't matter
            self._rejection, self._reload_at = event.error, self._clock() + self._timing.rejected
            self._changed()

    def _session_changed(self, event: lines.SessionUp | lines.SessionDown) -> None:
        """What was queued for the former session is void. ExaBGP sends what it has to a new one by itself."""
        self._queue = deque(change for change in self._queue if change.peer_address != event.peer_address)
        if event.peer_address in self._ending and isinstance(event, lines.SessionDown):
            self._ending.discard(event.peer_address)
            self._endings.set()
        if isinstance(event, lines.SessionUp):
            self._has_news = True  # which families the session carries
            self._work.set()
        if self._picture.session_changed(event, datetime.now(UTC)):
            self._changed()

    def _changed(self) -> None:
        if self._waking is None:
            loop = asyncio.get_running_loop()
            self._waking = loop.call_at(max(loop.time(), self._woken_at + self._timing.wake), self._wake_now)

    def _wake_now(self) -> None:
        self._waking, self._woken_at = None, asyncio.get_running_loop().time()
        self._wake()


def _first(errors: BaseExceptionGroup[Exception]) -> str:
    """What happened first, where the loss of one task has ended the other."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error) or type(error).__name__


def _parts(routes: tuple[Route, ...]) -> Iterator[tuple[Route, ...]]:
    """A few lines at a time, between which the loop may do something else."""
    return (routes[start : start + ROUTES_AT_ONCE] for start in range(0, len(routes), ROUTES_AT_ONCE))
