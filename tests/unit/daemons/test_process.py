"""How a daemon ends: what is under way first, then the work, then farewell."""

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable

import pytest

from announcer.daemons import priority, process
from announcer.daemons.priority import go_before_others
from announcer.daemons.process import collect_garbage, run_until_told, use_few_threads
from tests.waiting import until


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


NOBODY = 65534


def priority_of_a_child(*, is_nobody: bool) -> int:
    """What it gets by asking: in a process of its own, as it is for all of its life."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if is_nobody and os.geteuid() == 0:
            os.setuid(NOBODY)
        go_before_others()
        os.write(writer, str(os.getpriority(os.PRIO_PROCESS, 0)).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as told:
        return int(told.read())


def test_priority_that_is_not_granted_changes_nothing() -> None:
    assert priority_of_a_child(is_nobody=True) == os.getpriority(os.PRIO_PROCESS, 0)


def test_priority_is_taken_where_it_may_be() -> None:
    wanted = priority.NICE if os.geteuid() == 0 else os.getpriority(os.PRIO_PROCESS, 0)
    assert priority_of_a_child(is_nobody=False) == wanted


def test_computations_share_two_threads() -> None:
    async def test() -> set[str]:
        use_few_threads()
        names = [asyncio.to_thread(lambda: threading.current_thread().name) for _ in range(20)]
        return set(await asyncio.gather(*names))

    names = asyncio.run(test())
    assert 1 <= len(names) <= process.THREADS
    assert all(name.startswith("computing") for name in names)


def test_garbage_is_collected_while_it_is_new_and_otherwise_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WHOLE_SECONDS", 0.5)
    before = gc.get_threshold()

    async def test() -> None:
        collecting = asyncio.ensure_future(collect_garbage())
        await until(lambda: gc.get_threshold() != before, what="Python's own rhythm is off")
        gc.collect()
        old = [Cycle()]
        lived, new = weakref.ref(old[0]), weakref.ref(Cycle())
        made = [[] for _ in range(2 * process.PORTION)]  # type: ignore[var-annotated]
        old.clear()
        assert new() is None, "what is new is looked at once so much of it is there"
        made += [[] for _ in range(20 * process.PORTION)]
        assert lived() is not None, "what has outlived that is not"
        await until(lambda: lived() is None, what="the whole was looked at")
        collecting.cancel()
        await asyncio.wait({collecting})

    asyncio.run(test())
    assert gc.get_threshold() == before


class Cycle:
    def __init__(self) -> None:
        self.me = self
