"""The conversation with bfdd: keeps its sessions as they are wanted, knows their states, comes back after each loss.

After each connect all is read anew, and what is missing is put again, so that a restart of either end mends itself.
Until then, and while bfdd is away, `observed` is UNKNOWN. What a state means is not decided here.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from announcer.bfd import messages
from announcer.bfd.messages import BfdError, Key, Listed, canonical, key_of
from announcer.bfd.vty import Vty
from announcer.core.model import UNKNOWN, BfdSession, BfdState, ObservedBfd, SetBfd, Unknown

log = logging.getLogger(__name__)
CONTROL: Final = "bfdd.sock"
VTY: Final = "bfdd.vty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. `answer` is what bfdd has for one, `resync` how often everything is read again although nothing was
    heard.
    """

    answer: float = 3.0
    resync: float = 10.0
    retry_first: float = 0.1
    retry_most: float = 2.0


class Bfdd:
    """`run` for ever beside the passes, which call `observed` and `apply`; `wake` says that something has changed.

    `directory` holds bfdd's two sockets. `problem` is why nothing is known, empty where it is.
    """

    def __init__(
        self,
        directory: Path,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        timing: Timing | None = None,
    ) -> None:
        self._directory, self._wake, self._clock, self._timing = directory, wake, clock, timing or Timing()
        self._seen: dict[Key, ObservedBfd] | None = None
        self._wanted: SetBfd | None = None
        self._work = asyncio.Event()
        self._refused = ""
        self._heard: dict[Key, ObservedBfd] = {}
        """Notices since the last list was asked for: they come by another socket, and may overtake it. Where the list
        is newer than one, another is on its way.
        """
        self.problem = "not asked yet"

    def observed(self) -> tuple[ObservedBfd, ...] | Unknown:
        """Sorted by address."""
        if self._seen is None:
            return UNKNOWN
        return tuple(self._seen[key] for key in sorted(self._seen, key=lambda k: (k[0].version, *k)))

    async def apply(self, action: SetBfd) -> None:
        """Success is that it is on its way. Raises BfdError with what bfdd refused of it the last time."""
        if action != self._wanted:
            self._wanted = action
            self._work.set()
        elif self._refused:
            raise BfdError(self._refused)

    async def run(self) -> None:
        pause = self._timing.retry_first
        while True:
            problem = ""
            try:
                # A task of its own: a TaskGroup that fails leaves its task asked to be cancelled (CPython 3.11), and
                # then the next timeout in it would end it, which nobody would notice.
                await asyncio.create_task(self._converse(), name="bfdd conversation")
            except* (BfdError, OSError) as errors:
                problem = _first(errors)
            pause = pause if self._seen is None else self._timing.retry_first
            self._forget(problem)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._timing.retry_most)

    def _forget(self, problem: str) -> None:
        text = f"bfdd at {self._directory} does not answer: {problem}"
        if text != self.problem:
            log.warning("not connected to bfdd", extra={"fields": {"reason": problem}})
        self.problem, self._refused = text, ""
        if self._seen is not None:
            self._seen = None
            self._wake()

    async def _converse(self) -> None:
        async with asyncio.timeout(self._timing.answer):
            reader, writer = await asyncio.open_unix_connection(self._directory / CONTROL)
        try:
            writer.write(messages.SUBSCRIBE)
            vty = await Vty.open(self._directory / VTY, self._timing.answer)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(reader), name="bfdd notices")
                    tasks.create_task(self._drive(vty), name="bfdd sessions")
            finally:
                vty.close()
        finally:
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                size, _, kind, version = messages.HEADER.unpack(await reader.readexactly(messages.HEADER.size))
                if version != messages.VERSION or size > messages.PAYLOAD_BYTES:
                    raise BfdError(f"version {version} of its protocol, {size} bytes: not known here")
                payload = await reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                raise BfdError("it closed the connection") from error
            notice = messages.parse_notice(payload, self._clock()) if kind == messages.NOTIFY else None
            if notice is not None:
                self._heard[key_of(notice)] = notice
                if self._seen is not None and key_of(notice) in self._seen:
                    self._take(self._seen, notice)

    def _take(self, seen: dict[Key, ObservedBfd], found: ObservedBfd) -> None:
        key = key_of(found)
        before = seen.get(key)
        seen[key] = after = _after(before, found)
        if before is None or (before.state, before.diagnostic) != (after.state, after.diagnostic):
            fields = {"peer": found.peer_address, "state": found.state.value, "diagnostic": str(found.diagnostic)}
            log.info("BFD session", extra={"fields": fields})
        if after != before:
            self._wake()

    async def _drive(self, vty: Vty) -> None:
        while True:
            self._work.clear()
            listed = await self._look(vty)
            if self._wanted is not None:
                await self._settle(vty, self._wanted, listed)
            await self._pause()

    async def _look(self, vty: Vty) -> dict[Key, Listed]:
        self._heard.clear()
        text = await vty.ask(messages.LIST)
        found = {key_of(one.seen): one for one in messages.parse_list(text, self._clock())}
        seen = {} if self._seen is None else {key: one for key, one in self._seen.items() if key in found}
        for key, one in found.items():
            self._take(seen, self._heard.get(key, one.seen))
        if self._seen is None:
            log.info("connected to bfdd", extra={"fields": {"sessions": len(seen)}})
            self._wake()
        self._seen, self.problem = seen, ""
        return found

    async def _settle(self, vty: Vty, wanted: SetBfd, listed: dict[Key, Listed]) -> None:
        """What is refused keeps nothing else from being done."""
        gone, fresh = _differences(wanted, listed)
        refused: dict[Key, str] = {}
        for session, lines in (*((s, messages.remove(s)) for s in gone), *((s, messages.put(s)) for s in fresh)):
            try:
                await vty.configure(lines)
            except BfdError as error:
                refused[key_of(session)] = str(error)
        if gone or fresh:
            for some in _differences(wanted, await self._look(vty)):
                refused = dict.fromkeys(map(key_of, some), "bfdd shows another session than it was asked for") | refused
        text = "; ".join(f"{key[0]}: {why}" for key, why in refused.items())
        if text != self._refused:
            self._refused = text
            self._wake()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._timing.resync):
                await self._work.wait()
        except TimeoutError:
            return


def _differences(wanted: SetBfd, listed: dict[Key, Listed]) -> tuple[list[BfdSession], list[BfdSession]]:
    """Sessions to be removed, and those to be put."""
    sessions = {key_of(session): canonical(session) for session in wanted.sessions}
    there = {key: one.session for key, one in listed.items()}
    others = [session for key, session in there.items() if key not in sessions and not wanted.keeps_others]
    gone = [session for session in others if session.peer_address not in wanted.keeps]
    return gone, [session for key, session in sessions.items() if there.get(key) != session]


def _after(before: ObservedBfd | None, found: ObservedBfd) -> ObservedBfd:
    """What is known now. bfdd's own times are whole seconds, and Init and Down are one stretch of not being Up."""
    if before is None:
        return found
    was_up, is_up = before.state is BfdState.UP, found.state is BfdState.UP
    if was_up == is_up and (is_up or before.diagnostic is found.diagnostic):
        return replace(found, since=before.since, outage=before.outage)
    return replace(found, outage=found.since - before.since if is_up and before.has_failed else 0.0)


def _first(errors: BaseExceptionGroup[Exception]) -> str:
    """What happened first, where the loss of one task has ended the other."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error) or type(error).__name__
