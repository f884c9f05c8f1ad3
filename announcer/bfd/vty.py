"""The vty socket of an FRR daemon, as vtysh speaks to it: a line and a NUL there; text, three NULs and a code back."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from announcer.bfd.messages import BfdError

ANSWER_BYTES: Final = 2**22
END: Final = b"\0\0\0"


class Vty:
    """`seconds` is what an answer may take."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], seconds: float) -> None:
        self._reader, self._writer = streams
        self._seconds = seconds

    @classmethod
    async def open(cls, path: Path, seconds: float) -> Self:
        async with asyncio.timeout(seconds):
            streams = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES)
        vty = cls(streams, seconds)
        try:
            await vty.ask("enable")
        except BaseException:
            vty.close()
            raise
        return vty

    def close(self) -> None:
        self._writer.close()

    async def ask(self, line: str) -> str:
        """Raises BfdError with what the daemon says where it refuses."""
        try:
            async with asyncio.timeout(self._seconds):
                self._writer.write(line.encode("ascii") + b"\0")
                text = (await self._reader.readuntil(END))[: -len(END)].decode("utf-8", "replace")
                code = (await self._reader.readexactly(1))[0]
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("bfdd closed the connection, or says too much") from error
        if code:
            raise BfdError(f"bfdd refused {line!r}: {text.strip() or code}")
        return text

    async def configure(self, lines: Iterable[str]) -> None:
        """Below `bfd` of its configuration. What came before a line that is refused stays."""
        try:
            for line in ("configure terminal", "bfd", *lines):
                await self.ask(line)
        finally:
            await self.ask("end")
