"""One connection to ExaBGP's bridge: lines out, events in, answers matched to lines in their order.

Answers carry no id. Nothing may hang on whose answer one is beyond pacing: ExaBGP answers some errors at once, before
earlier lines. A line that isn't answered in time ends the connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from announcer.exabgp.lines import RELOAD, Answer, Event, Refused, parse
from announcer.exabgp.text import ExabgpError

LINE_BYTES: Final = 8 * 2**20  # an extended UPDATE (RFC 8654) full of host routes makes an event of 0.4 MB
UNANSWERED_MOST: Final = 200


class Link:
    """`answer_seconds` is what ExaBGP has for a line, `write_seconds` what the bridge has for taking it."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_event: Callable[[Event], None],
        answer_seconds: float,
        write_seconds: float,
    ) -> None:
        self._reader, self._writer = streams
        self._on_event = on_event
        self._answer_seconds, self._write_seconds = answer_seconds, write_seconds
        self._unanswered: deque[tuple[float, Callable[[bool], None]]] = deque()
        self._has_room = asyncio.Event()
        self._has_room.set()

    @classmethod
    async def open(
        cls, path: Path, on_event: Callable[[Event], None], *, seconds: float, answer_seconds: float
    ) -> Self:
        async with asyncio.timeout(seconds):
            streams = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
        return cls(streams, on_event, answer_seconds, seconds)

    def close(self) -> None:
        self._writer.close()

    async def read(self) -> None:
        """Hand over events until the bridge closes, which is an error like any other."""
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise ExabgpError("the bridge closed the connection") from error
            event = parse(line[:-1].decode("ascii", "replace"))
            if isinstance(event, Answer):
                self._answered(event)
            elif isinstance(event, Refused):
                raise ExabgpError(f"the bridge refused {event.line!r}")
            elif event is not None:
                self._on_event(event)
            await asyncio.sleep(0)  # buffered lines must not keep everything else waiting

    async def ask(self, line: str) -> bool:
        """Whether ExaBGP did it. Events of the answer have been handed over by then."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self.send(line, lambda is_done: None if answer.done() else answer.set_result(is_done))
        async with asyncio.timeout(self._answer_seconds):
            return await answer

    async def send(self, line: str, on_answer: Callable[[bool], None]) -> None:
        """Waits for its turn while too many are unanswered."""
        async with asyncio.timeout(self._answer_seconds):
            await self._has_room.wait()
        self._unanswered.append((asyncio.get_running_loop().time() + self._answer_seconds, on_answer))
        if len(self._unanswered) >= UNANSWERED_MOST:
            self._has_room.clear()
        await self._write(line)

    async def reload(self) -> None:
        """Ask for the configuration to be read again. Whether that happened has to be seen."""
        await self._write(RELOAD)

    def is_waiting(self) -> bool:
        """For an answer."""
        return bool(self._unanswered)

    def check(self) -> None:
        """Raise where ExaBGP owes an answer for too long."""
        if self._unanswered and self._unanswered[0][0] < asyncio.get_running_loop().time():
            raise ExabgpError(f"ExaBGP has not answered for {self._answer_seconds:.0f} s")

    async def _write(self, line: str) -> None:
        self._writer.write(line.encode("ascii") + b"\n")
        async with asyncio.timeout(self._write_seconds):
            await self._writer.drain()

    def _answered(self, answer: Answer) -> None:
        if not self._unanswered:
            raise ExabgpError("an answer to nothing")
        _, on_answer = self._unanswered.popleft()
        self._has_room.set()
        on_answer(answer.is_done)
