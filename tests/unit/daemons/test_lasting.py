"""Parts of a daemon that end, and what becomes of the rest."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from announcer.daemons.lasting import all_lasting


async def lasts(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("rest")


async def returns() -> None:
    await asyncio.sleep(0)


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("no")


async def is_cancelled_from_within() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("part", "error"), [(returns, RuntimeError), (fails, ValueError), (is_cancelled_from_within, RuntimeError)]
)
def test_part_that_ends_however_ends_all(part: Callable[[], Coroutine[Any, Any, None]], error: type[Exception]) -> None:
    ended: list[str] = []

    async def test() -> None:
        async with asyncio.timeout(5):
            await all_lasting({"rest": lasts(ended), "part": part()})

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(test())
    assert [type(one) for one in caught.value.exceptions] == [error]
    assert ended == ["rest"]


def test_parts_end_when_they_are_told_to() -> None:
    ended: list[str] = []

    async def test() -> None:
        running = asyncio.create_task(all_lasting({"rest": lasts(ended)}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(test())
    assert ended == ["rest"]
