"""Netlink requests in bulk over a socket of their own: many messages a send, one acknowledgement each, dumps by struct.

pyroute2 takes 0.4-0.7 ms of CPU for each address and 90 ms for a dump of a thousand; a fence that is refreshed for a
thousand addresses every three seconds can't afford that. A Channel serves one call and shares nothing.
"""

import asyncio
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Self

from announcer.kernel.errors import KernelError, RefusedError

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 0x8000
HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
MESSAGES_A_SEND = 25
"""The kernel carries them out within the call that sends them: 1.5 ms for each on a link with 10,000 addresses."""
READ_SIZE = 1 << 16
"""Twice what the kernel puts into one datagram of a dump (netlink_recvmsg), and little enough to come from the heap."""
SEND_BYTES = 1 << 20
SO_SNDBUFFORCE = 32  # asm-generic/socket.h; more than net.core.wmem_max, with CAP_NET_ADMIN


def attribute(kind: int, data: bytes) -> bytes:
    """struct nlattr with its data, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type (without flags) and data of each attribute; ends at the first one that doesn't fit."""
    while len(data) >= 4:
        length, kind = ATTRIBUTE.unpack_from(data)
        if not 4 <= length <= len(data):
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


class Channel:
    """`with Channel(timeout_seconds=5.0) as channel:` in a running loop."""

    def __init__(self, *, timeout_seconds: float, family: int = socket.NETLINK_ROUTE) -> None:
        self._timeout = timeout_seconds
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._sequence = count(1)

    def __enter__(self) -> Self:
        self._socket.setblocking(False)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    async def dump(self, kind: int, body: bytes) -> list[memoryview]:
        """All answers to one dump request, without their headers. Raises KernelError if it was interrupted."""
        found: list[memoryview] = []
        sequence = await self._send([(kind, NLM_F_DUMP, body)])
        while True:
            await asyncio.sleep(0)  # answers that are there already would keep the loop to themselves
            for number, what, flags, data in await self._receive():
                if number != sequence:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    raise KernelError("the dump was interrupted by a change")
                if what == NLMSG_DONE:
                    return found
                if what == NLMSG_ERROR:
                    raise _refusal(data) or KernelError("a dump was acknowledged but not given")
                found.append(data)

    async def get(self, kind: int, body: bytes) -> memoryview:
        """The one answer to a request that is no dump, without its header."""
        sequence = await self._send([(kind, 0, body)])
        while True:
            for number, what, _, data in await self._receive():
                if number == sequence:
                    if what == NLMSG_ERROR:
                        raise _refusal(data) or KernelError("a request was acknowledged but not answered")
                    return data

    async def transact(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        """All of them or none, the first and the last being those that begin and end a batch (linux/nfnetlink.h).

        They are one datagram, which the kernel works off within the call that sends it; that is made in a thread.
        """
        asked = list(messages)
        asked[-2] = (asked[-2][0], asked[-2][1] | NLM_F_ACK, asked[-2][2])
        packed, end = self._pack(asked)
        first, last = end - len(asked) + 1, end - 1
        refused: RefusedError | None = None
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(packed) + SEND_BYTES)
            async with asyncio.timeout(self._timeout):
                await asyncio.to_thread(self._socket.send, packed)
        except (TimeoutError, OSError) as error:
            raise KernelError(f"netlink took no transaction: {error or 'timeout'}") from error
        while True:
            for number, what, _, data in await self._receive():
                if what == NLMSG_ERROR and first <= number <= last:
                    refused = refused or _refusal(data)
                    if number == last or (number == first and refused):
                        if refused:
                            raise refused
                        return

    async def request(self, messages: Sequence[tuple[int, int, bytes]]) -> dict[int, RefusedError]:
        """Send messages of (type, flags, body), wait until all are carried out; refusals by index of the message.

        The kernel takes them in order, and tells of one that it refuses without being asked: the last one of a send
        is acknowledged for all.
        """
        refused: dict[int, RefusedError] = {}
        for start in range(0, len(messages), MESSAGES_A_SEND):
            some = list(messages[start : start + MESSAGES_A_SEND])
            some[-1] = (some[-1][0], some[-1][1] | NLM_F_ACK, some[-1][2])
            last = await self._send(some)
            first, is_done = last - len(some) + 1, False
            while not is_done:
                for number, what, _, data in await self._receive():
                    if what == NLMSG_ERROR and first <= number <= last:
                        is_done = is_done or number == last
                        if refusal := _refusal(data):
                            refused[start + number - first] = refusal
            await asyncio.sleep(0)
        return refused

    async def _send(self, messages: Sequence[tuple[int, int, bytes]]) -> int:
        """The sequence number of the last message."""
        packed, sequence = self._pack(messages)
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().sock_sendall(self._socket, packed)
        except (TimeoutError, OSError) as error:
            raise KernelError(f"netlink took no request: {error}") from error
        return sequence

    def _pack(self, messages: Sequence[tuple[int, int, bytes]]) -> tuple[bytearray, int]:
        sequence, packed = 0, bytearray()
        for kind, flags, body in messages:
            sequence = next(self._sequence)
            packed += HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, sequence, 0)
            packed += body + b"\0" * (-len(body) % 4)
        return packed, sequence

    async def _receive(self) -> list[tuple[int, int, int, memoryview]]:
        """The messages of one datagram; mostly it is there already, as the kernel answers within the call that asks."""
        try:
            with suppress(BlockingIOError):
                return list(messages(memoryview(self._socket.recv(READ_SIZE))))
            async with asyncio.timeout(self._timeout):
                datagram = memoryview(await asyncio.get_running_loop().sock_recv(self._socket, READ_SIZE))
        except (TimeoutError, OSError) as error:
            raise KernelError(f"netlink gave no answer: {error or 'timeout'}") from error
        return list(messages(datagram))


def messages(datagram: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """(sequence, type, flags, data) of each message of one datagram. Raises KernelError at a truncated one."""
    while len(datagram) >= HEADER.size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(datagram)
        if not HEADER.size <= length <= len(datagram):
            raise KernelError("netlink gave a truncated message")
        yield sequence, kind, flags, datagram[HEADER.size : length]
        datagram = datagram[(length + 3) & ~3 :]


def _refusal(data: memoryview) -> RefusedError | None:
    """NLMSG_ERROR: errno, the header it answers, then extended acknowledgement attributes. None for errno 0."""
    (number,) = struct.unpack_from("=i", data)
    if number == 0:
        return None
    words = [bytes(text) for kind, text in attributes(data[4 + HEADER.size :]) if kind == NLMSGERR_ATTR_MSG]
    return RefusedError(-number, words[0].rstrip(b"\0").decode(errors="replace") if words else "")
