"""A scripted bfdd on Unix sockets, whose notices overtake its lists, or that says nothing for a while."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from announcer.bfd import Bfdd, Timing
from announcer.bfd.messages import HEADER, LIST, NOTIFY, VERSION
from announcer.core.model import UNKNOWN, BfdState
from tests.waiting import until

LISTS, ANSWER = 12, 0.5
SESSION = {"multihop": False, "peer": "10.9.0.1", "local": "10.9.0.2", "vrf": "default", "passive-mode": False}
SESSION |= {"receive-interval": 300, "transmit-interval": 300, "echo-receive-interval": 50, "echo-transmit-interval": 0}
SESSION |= {"detect-multiplier": 3, "status": "up", "diagnostic": "ok", "remote-diagnostic": "ok"}
NOTICE = {"op": "status", "peer-address": "10.9.0.1", "local-address": "10.9.0.2", "multihop": False}


class Scripted:
    """Its lists say Up. But for the first of a connection, they come after notices of what has happened since: Up once
    more, and Down.

    `shown` is what was known when each list was asked for.
    """

    def __init__(self, directory: Path) -> None:
        self.shown: list[BfdState | None] = []
        timing = Timing(answer=ANSWER, resync=0.01, retry_first=0.01, retry_most=0.01)
        self.bfdd = Bfdd(directory, lambda: None, timing=timing)
        self.open, self.is_over, self.is_silent, self.unanswered = 0, False, False, 0
        self._control: asyncio.StreamWriter | None = None

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._control, self.open = writer, self.open + 1
        await reader.read()
        writer.close()
        self.open -= 1

    async def vty(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        while line := (await reader.read(1000)).decode().rstrip("\0"):
            if self.is_silent:
                self.unanswered += 1
                continue
            text = await self._list() if line == LIST else ""
            writer.write(text.encode() + b"\0\0\0\0")
        writer.close()
        self.open -= 1

    async def _list(self) -> str:
        self.shown.append(self._state())
        if self.shown[-1] is not None:
            await self._tell(BfdState.UP)
            await self._tell(BfdState.DOWN)
        return json.dumps([SESSION])

    async def _tell(self, state: BfdState) -> None:
        text = json.dumps(NOTICE | {"state": state.value, "diagnostics": 0, "remote-diagnostics": 0}).encode()
        assert self._control is not None
        self._control.write(HEADER.pack(len(text), 0, NOTIFY, VERSION) + text)
        await until(lambda: self.is_over or self._state() is state, what=f"the notice of {state}")

    def _state(self) -> BfdState | None:
        observed = self.bfdd.observed()
        return None if observed is UNKNOWN else observed[0].state


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Scripted]:
    it = Scripted(directory)
    control = await asyncio.start_unix_server(it.control, directory / "bfdd.sock")
    vty = await asyncio.start_unix_server(it.vty, directory / "bfdd.vty")
    task = asyncio.create_task(it.bfdd.run())
    try:
        yield it
    finally:
        it.is_over = True
        task.cancel()
        await asyncio.wait({task})
        await until(lambda: not it.open, what="the end of all connections")
        for server in (control, vty):
            server.close()
            await server.wait_closed()


def test_list_that_notices_overtake_each_time_hides_none_of_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as it:
            await until(lambda: len(it.shown) >= LISTS, what="more lists")
        assert it.shown[:2] == [None, BfdState.UP]
        assert set(it.shown[2:]) == {BfdState.DOWN}

    asyncio.run(test())


def test_bfdd_that_answers_no_list_and_then_not_even_a_greeting_is_asked_until_it_does(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as it:
            await until(lambda: len(it.shown) >= 2, what="the first lists")
            it.is_silent = True
            await until(lambda: it.unanswered >= 4, what="three greetings after the list")
            assert it.bfdd.observed() is UNKNOWN
            it.is_silent = False
            await until(lambda: it.bfdd.observed() is not UNKNOWN, what="its sessions")

    asyncio.run(test())
