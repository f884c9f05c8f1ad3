"""The port guard in the kernel: read when the ruleset has changed since the last look, changed in one transaction."""

import asyncio
import errno
import struct

from announcer.core.model import Guard, PutGuard, RemoveGuard
from announcer.kernel import nftables
from announcer.kernel.channel import Channel, attributes
from announcer.kernel.errors import KernelError, RefusedError

NO_NFTABLES = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT})
"""What nfnetlink says where nobody has registered the subsystem."""


class GuardTable:
    """Calls may overlap."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._lock = asyncio.Lock()
        self._last: tuple[int, Guard | None] | None = None
        """What was there at which generation of the ruleset, anybody's transactions counted."""

    async def read(self) -> Guard | None:
        """None where there is no table. Raises KernelError when it could not be read whole."""
        async with self._lock:
            with self._channel() as channel:
                return await self._read(channel)

    async def apply(self, action: PutGuard | RemoveGuard) -> None:
        async with self._lock:
            with self._channel() as channel:
                old, new = await self._read(channel), action.guard if isinstance(action, PutGuard) else None
                if new is not None:
                    await self._transact(channel, await asyncio.to_thread(nftables.put, old, new), new)
                elif old is not None:
                    await self._transact(channel, nftables.remove(), None)

    def _channel(self) -> Channel:
        try:
            return Channel(timeout_seconds=self._timeout, family=nftables.NETLINK_NETFILTER)
        except OSError as error:
            raise KernelError(f"the kernel has no netfilter netlink: {error}; see --port-guard") from error

    async def _transact(self, channel: Channel, messages: list[nftables.Message], new: Guard | None) -> None:
        if not messages:
            return
        before, self._last = self._last, None
        try:
            await channel.transact(messages)
        except RefusedError as error:
            words = "the kernel has no nf_tables; --port-guard off does without" if error.errno in NO_NFTABLES else ""
            raise KernelError(f"port guard: {words or error}") from error
        now = await self._generation(channel)
        if before is not None and now == before[0] + 1:
            self._last = now, new

    async def _read(self, channel: Channel) -> Guard | None:
        generation = await self._generation(channel)
        if generation is None:
            return None
        if self._last is None or self._last[0] != generation:
            self._last = generation, await self._dump(channel)
        return self._last[1]

    async def _generation(self, channel: Channel) -> int | None:
        """None where the kernel has no nf_tables."""
        try:
            answer = await channel.get(nftables.GETGEN, nftables.head(0))
        except RefusedError as error:
            if error.errno in NO_NFTABLES:
                return None
            raise
        number: int = struct.unpack("!I", dict(attributes(answer[4:]))[1])[0]
        return number

    async def _dump(self, channel: Channel) -> Guard | None:
        everything = nftables.head()
        has_table = nftables.has_table(await channel.dump(nftables.GETTABLE, everything))
        if has_table is False:
            return None
        chains, rules, sets = [
            await channel.dump(kind, everything) for kind in (nftables.GETCHAIN, nftables.GETRULE, nftables.GETSET)
        ]
        if not has_table or not nftables.is_whole(chains, rules, sets):
            return Guard(is_whole=False)
        found = {name: await self._keys(channel, name) for name in nftables.SETS}
        return await asyncio.to_thread(_guard, found)

    async def _keys(self, channel: Channel, name: bytes) -> list[memoryview]:
        return await channel.dump(nftables.GETSETELEM, nftables.set_request(name))


def _guard(found: dict[bytes, list[memoryview]]) -> Guard:
    keys = {name: list(nftables.keys(messages)) for name, messages in found.items()}
    return Guard(
        addresses=frozenset(nftables.read_address(k) for n in (b"addresses-4\0", b"addresses-6\0") for k in keys[n]),
        ports=frozenset(nftables.read_port(key) for name in (b"ports-4\0", b"ports-6\0") for key in keys[name]),
    )
