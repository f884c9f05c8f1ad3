"""The Secrets that peers name, each read by its own name, now and again: no right to list or to watch any is needed.

| answer | before | in force |
|---|---|---|
| the Secret | | what it says |
| 404 | not known | it is not there |
| | known | what it said; it is not there once answers in a row say so for `Timing.secret`, while lists are believed |
| 403 | | what it said, if that is known; why it can't be read is told |
| another, or none | known | what it said |
| | not known | why it can't be read is told |
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from announcer.core.model import ObjectRef, Parsed, Secret
from announcer.store.kubernetes.client import ApiError, Client
from announcer.store.kubernetes.resources import SECRETS, Decoder
from announcer.store.kubernetes.watching import NOT_FOUND, Timing

FORBIDDEN = 403
NO_RIGHT = "forbidden: a Role in its namespace has to let the agent get it (docs/kubernetes.md)"


class Secrets:
    """`want` says which are named, `known` what of them is; `changed` is called where that is news.

    `is_sure` is whether the server is one that says what is: one from an empty backup has no Secret either.
    """

    def __init__(
        self,
        client: Client,
        parse: Callable[[Mapping[str, Any], str], Parsed],
        changed: Callable[[], None],
        is_sure: Callable[[], bool],
        timing: Timing,
    ) -> None:
        self._client, self._parse, self._changed, self._is_sure, self._timing = client, parse, changed, is_sure, timing
        self._decode = Decoder(SECRETS, "v1")
        self._known: dict[ObjectRef, Secret | None] = {}
        """None is not there."""
        self._wanted: frozenset[ObjectRef] = frozenset()
        self._missed: dict[ObjectRef, float] = {}
        """Since when the answers in a row are 404."""
        self._news = asyncio.Event()

    def want(self, refs: frozenset[ObjectRef]) -> None:
        if refs - self._wanted:
            self._news.set()
        self._wanted = refs
        self._known = {ref: secret for ref, secret in self._known.items() if ref in refs}
        self._missed = {ref: since for ref, since in self._missed.items() if ref in refs}

    def known(self) -> tuple[Secret, ...]:
        """Those that are there, or of which nobody knows, by name."""
        found = {ref: Secret(ref=ref, error="it is being asked for") for ref in self._wanted} | self._known
        return tuple(secret for _, secret in sorted(found.items()) if secret)

    async def run(self) -> None:
        pause = self._timing.retry_first
        while True:
            self._news.clear()
            for ref in sorted(self._wanted):
                await self._look(ref)
            is_whole = all(secret is not None and not secret.error for secret in self._known.values())
            pause = self._timing.secret if is_whole else min(pause * 2, self._timing.secret)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads requests
                    await self._news.wait()
                pause = self._timing.retry_first

    async def _look(self, ref: ObjectRef) -> None:
        old = self._known.get(ref)
        new = await self._get(ref, old)
        if ref not in self._wanted or (ref in self._known and new == old):
            return
        self._known[ref] = new
        self._changed()

    async def _get(self, ref: ObjectRef, old: Secret | None) -> Secret | None:
        try:
            data = await self._client.request("GET", SECRETS.path(ref, "v1"), timeout_seconds=self._timing.page)
            value = self._parse(self._decode(data), "").value
            if not isinstance(value, Secret):
                raise ApiError(f"{ref}: answered by something else")  # noqa: TRY301 - as other wrong answers
        except msgspec.DecodeError:
            error = ApiError(f"{ref}: answered by something else")
        except ApiError as caught:
            error = caught
        else:
            self._missed.pop(ref, None)
            return value
        if error.status == NOT_FOUND:
            now = asyncio.get_running_loop().time()
            is_gone = now - self._missed.setdefault(ref, now) >= self._timing.secret and self._is_sure()
            return None if old is None or is_gone else old
        self._missed.pop(ref, None)
        if error.status == FORBIDDEN:
            return replace(old or Secret(ref=ref), error=NO_RIGHT)
        return old if old is not None and (old.data or not old.error) else Secret(ref=ref, error=str(error))
