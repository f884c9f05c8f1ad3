"""Waiting for changes in folders: inotify(7) through the C library, as no well-kept dependency of ours offers it.

Events are hints to look again and are never read one by one; a queue that overflows (IN_Q_OVERFLOW) is a hint too.
"""

import asyncio
import ctypes
import os
from pathlib import Path

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_ONLYDIR = 0x400, 0x800, 0x1000000
CHANGES = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
READ_SIZE = 1 << 16


class Watcher:
    """One inotify instance. Watching a folder again costs nothing; folders that are gone need no farewell."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def close(self) -> None:
        os.close(self._fd)

    def watch(self, folder: Path) -> None:
        """Best effort: a folder that is gone, or one too many for the kernel, is still found by the slow look."""
        self._libc.inotify_add_watch(self._fd, os.fsencode(folder), CHANGES | IN_ONLYDIR)

    async def wait(self, seconds: float) -> bool:
        """Until something changed, or the time is over; whether something did."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._fd)
        self._drain()
        return True

    def _drain(self) -> None:
        try:
            while os.read(self._fd, READ_SIZE):
                pass
        except BlockingIOError:
            return
