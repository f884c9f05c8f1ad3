"""The Secrets that peers name, against a scripted server: what is asked for, and what an answer counts."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from announcer.core.dialects import parse
from announcer.core.model import ObjectRef, Secret
from announcer.store.kubernetes import ApiError, Client
from announcer.store.kubernetes.secrets import NO_RIGHT, Secrets
from announcer.store.kubernetes.watching import Timing
from tests import kube
from tests.builders import Raw, raw
from tests.waiting import until

REF = ObjectRef(kind="Secret", namespace="ns", name="tor")
OTHER = ObjectRef(kind="Secret", namespace="ns", name="other")
PATH = "/api/v1/namespaces/ns/secrets/tor"
QUICK = replace(kube.QUICK, retry_first=0.005, secret=0.02)
GONE, FORBIDDEN, AWAY = ApiError("404", status=404), ApiError("403", status=403), ApiError("no answer")


def secret(password: str = "hush") -> Raw:
    data = {"password": b64encode(password.encode()).decode("ascii")}
    return raw("v1", "Secret", "tor", namespace="ns", type="kubernetes.io/basic-auth", data=data)


class World:
    """A server whose answer is `answer`, and what is known by it."""

    def __init__(self, timing: Timing) -> None:
        self.answer: Raw | list[object] | ApiError = secret()
        self.asked: list[str] = []
        self.news = 0
        self.is_sure = True
        self.secrets = Secrets(cast("Client", self), parse, self._changed, lambda: self.is_sure, timing)

    def _changed(self) -> None:
        self.news += 1

    async def request(self, method: str, path: str, *, timeout_seconds: float) -> bytes:
        assert (method, timeout_seconds) == ("GET", QUICK.page)
        self.asked.append(path)
        if isinstance(self.answer, ApiError):
            raise self.answer
        return json.dumps(self.answer).encode()

    def known(self) -> Secret | None:
        (found,) = self.secrets.known() or (None,)
        return found

    async def looks(self, count: int = 3) -> None:
        before = len(self.asked)
        await until(lambda: len(self.asked) >= before + count, what="more requests")

    async def says(self, answer: Raw | list[object] | ApiError, *, looks: int = 3) -> Secret | None:
        self.answer = answer
        await self.looks(looks)
        return self.known()


@asynccontextmanager
async def world(*, is_read: bool = True, timing: Timing = QUICK) -> AsyncIterator[World]:
    made = World(timing)
    running = asyncio.ensure_future(made.secrets.run())
    try:
        if is_read:
            made.secrets.want(frozenset({REF}))
            await until(lambda: (found := made.known()) and not found.error, what="the Secret")
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(inside())


def test_only_what_is_named_is_asked_for() -> None:
    async def test() -> None:
        async with world() as it:
            assert set(it.asked) == {PATH}
            it.secrets.want(frozenset())
            assert it.secrets.known() == ()

    run(test)


def test_secret_that_is_named_is_not_known_before_the_answer() -> None:
    async def test() -> None:
        async with world(is_read=False) as it:
            it.secrets.want(frozenset({OTHER, REF}))
            assert [(s.ref.name, bool(s.error)) for s in it.secrets.known()] == [("other", True), ("tor", True)]
            assert it.asked == []

    run(test)


def test_change_is_told_once() -> None:
    async def test() -> None:
        async with world() as it:
            assert it.news == 1
            found = await it.says(secret("new"))
            assert found is not None
            assert found.data == secret("new")["data"]
            assert it.news == 2

    run(test)


@pytest.mark.parametrize("answer", [AWAY, ApiError("500", status=500), [1], {"metadata": {}}])
def test_answer_that_says_nothing_leaves_what_is_known(answer: Raw | list[object] | ApiError) -> None:
    async def test() -> None:
        async with world() as it:
            before = it.known()
            assert await it.says(answer) == before
            assert it.news == 1

    run(test)


def test_right_that_is_taken_is_told_and_the_password_stays() -> None:
    async def test() -> None:
        async with world() as it:
            before = it.known()
            assert before is not None
            assert await it.says(FORBIDDEN) == replace(before, error=NO_RIGHT)
            assert await it.says(AWAY) == replace(before, error=NO_RIGHT)
            assert await it.says(secret()) == before

    run(test)


def test_secret_that_is_gone_counts_when_a_second_answer_agrees() -> None:
    async def test() -> None:
        async with world() as it:
            before = it.known()
            assert await it.says(GONE, looks=1) == before
            await it.says(secret())
            assert await it.says(GONE, looks=1) == before
            assert await it.says(GONE) is None

    run(test)


def test_answers_in_quick_succession_do_not_make_a_secret_gone() -> None:
    """One that is missing has them all asked for again soon."""

    async def test() -> None:
        async with world(timing=replace(QUICK, secret=60.0)) as it:
            it.answer = GONE
            it.secrets.want(frozenset({REF, OTHER}))
            await it.looks(8)
            assert it.asked.count(PATH) >= 4
            (found,) = it.secrets.known()
            assert (found.ref, found.error) == (REF, "")

    run(test)


def test_secret_that_is_gone_where_lists_are_doubted_stays() -> None:
    async def test() -> None:
        async with world() as it:
            it.is_sure = False
            before = it.known()
            assert await it.says(GONE, looks=5) == before
            it.is_sure = True
            await until(lambda: it.known() is None)

    run(test)


@pytest.mark.parametrize(("answer", "error"), [(FORBIDDEN, NO_RIGHT), (AWAY, "no answer"), (GONE, None)])
def test_secret_that_was_never_read_says_why(answer: ApiError, error: str | None) -> None:
    async def test() -> None:
        async with world(is_read=False) as it:
            it.answer = answer
            it.secrets.want(frozenset({REF}))
            await it.looks()
            found = it.known()
            assert (found.error if found else None) == error
            assert await it.says(secret()) == parse(secret()).value

    run(test)
