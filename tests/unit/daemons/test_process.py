"""How a daemon ends: what is under way first, then the work, then farewell."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from announcer.daemons import process
from announcer.daemons.process import go_before_others, run_until_told


def order(before_end: Callable[[], Awaitable[None]] | None) -> list[str]:
    """What happens after SIGTERM, in order."""
    found: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            found.append("work ends")

    async def farewell() -> None:
        found.append("farewell")

    async def closing() -> None:
        assert before_end is not None
        await before_end()
        found.append("closed")

    asyncio.run(
        asyncio.wait_for(run_until_told(work, farewell, before_end=closing if before_end is not None else None), 5)
    )
    return found


def test_what_is_under_way_ends_before_the_work_and_that_before_the_farewell() -> None:
    async def soon() -> None:
        await asyncio.sleep(0)

    assert order(None) == ["work ends", "farewell"]
    assert order(soon) == ["closed", "work ends", "farewell"]


def test_what_never_ends_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(process, "CLOSING_SECONDS", 0.05)
    assert order(never) == ["work ends", "farewell"]


def test_priority_that_is_not_granted_changes_nothing() -> None:
    """In a process of its own: what is lowered for all its life must not be this one."""
    nobody = 65534
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.geteuid() == 0:
            os.setuid(nobody)
        go_before_others()
        os.write(writer, str(os.getpriority(os.PRIO_PROCESS, 0)).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert int(os.read(reader, 10)) == os.getpriority(os.PRIO_PROCESS, 0)


def test_priority_is_taken_where_it_may_be() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        go_before_others()
        os.write(writer, str(os.getpriority(os.PRIO_PROCESS, 0)).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    taken = int(os.read(reader, 10))
    assert taken == (process.NICE if os.geteuid() == 0 else os.getpriority(os.PRIO_PROCESS, 0))
