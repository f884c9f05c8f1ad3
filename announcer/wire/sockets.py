"""The wire of a node: one packet socket per link, sends what Actions say, hears who holds what and who is alive.

What the filters let through is read GATHER after the first of it came, all at once, or before that when somebody who
judges silence calls `take`: as ownership does so ten times a second, nearly nothing wakes this process but its
own beat, and a flood costs a bounded share of a core. The kernel has noted when each frame came. Sending is paced, as a
burst of a thousand frames is more than a switch or a client may keep.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import islice
from types import TracebackType
from typing import Self

from announcer.core.model import (
    Echo,
    Heard,
    HeardEcho,
    HeardProbe,
    IfName,
    IPAddress,
    Link,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireAction,
    WireEvent,
)
from announcer.wire import frames
from announcer.wire.filters import program
from announcer.wire.layers import Seen
from announcer.wire.port import Batch, Counters, Port

log = logging.getLogger(__name__)
FRAMES_A_TURN = 512
FRAMES_AT_MOST = 16_384
"""More than a socket's buffer holds: `take` ends also where frames come faster than they are read."""
GATHER = 0.12
"""Seconds; longer than ownership's interval by default, and a tenth of what two holders may take to settle."""
BURST, BURST_PAUSE = 32, 0.001
COOKIE_BYTES = 8


class WireError(Exception):
    """A frame could not be sent."""


@dataclass(slots=True)
class _Listening:
    """A port, and how it is read: `waits` is true from its first frame until a reading that brings none."""

    port: Port
    waits: bool = False


class Wire:
    """`async with Wire(heard) as wire:`; `heard` gets what one reading brought, in order; of frames that say the
    same, the first.
    """

    def __init__(self, heard: Callable[[tuple[WireEvent, ...]], None], *, timeout_seconds: float = 1.0) -> None:
        self._heard, self._timeout = heard, timeout_seconds
        self._links: dict[int, _Listening] = {}
        self._identifier, self._cookie = int.from_bytes(os.urandom(2), "big"), os.urandom(COOKIE_BYTES)
        self._addresses: frozenset[IPAddress] | None = None
        self._hears_probes = True
        self._program = program(self._identifier)
        self._timer: asyncio.TimerHandle | None = None
        """For all links together, set while one of them waits to be read."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.set_links(())
        if self._timer:
            self._timer.cancel()

    def set_links(self, links: Iterable[Link]) -> None:
        """Listen on these links and no others. One that was renamed or got another MAC keeps its socket and what is in
        it; one that was made again has a new ifindex, and one that has been in another namespace a dead socket.
        """
        wanted = {link.ifindex: link for link in links}
        for ifindex, listening in list(self._links.items()):
            if ifindex not in wanted or not listening.port.is_alive():
                self._close(listening)
        for ifindex, link in sorted(wanted.items()):
            if ifindex in self._links:
                port = self._links[ifindex].port
                port.ifname, port.lladdr = link.ifname, link.lladdr
            else:
                self._open(link)

    def listen_for(self, addresses: Iterable[IPAddress] | None) -> None:
        """Hear ARP and neighbor discovery of these addresses only, on all links; None is of all. The kernel drops most
        of the rest, so that a flood about others' addresses costs nothing.
        """
        wanted = None if addresses is None else frozenset(addresses)
        if wanted != self._addresses:
            self._addresses = wanted
            self._filter()

    def hear_probes(self, *, wanted: bool) -> None:
        """Whether HeardProbe is told of at all; it is from the beginning."""
        if wanted != self._hears_probes:
            self._hears_probes = wanted
            self._filter()

    def _filter(self) -> None:
        self._program = program(self._identifier, self._addresses, probes=self._hears_probes)
        for listening in self._links.values():
            listening.port.listen_for(self._program)

    def counters(self) -> dict[IfName, Counters]:
        return {listening.port.ifname: listening.port.counted() for listening in self._links.values()}

    def take(self) -> tuple[WireEvent, ...]:
        """Everything that has arrived by now and wasn't told of: only then is silence silence."""
        found: list[WireEvent] = []
        for listening in list(self._links.values()):
            taken = 0
            while taken < FRAMES_AT_MOST:
                batch = self._read(listening, found)
                taken += batch.taken
                if batch.is_empty or batch.fault:
                    break
        if self._timer:
            self._look_later()
        return tuple(found)

    def send_now(self, action: WireAction) -> bool:
        """Send a few frames without waiting. False where they are more than that, or there was no room for one of them:
        then all are still to be sent. Raises WireError where the link doesn't take them.
        """
        port = self._port(action.ifname)
        built = list(islice(self._build(port, action), BURST + 1))
        try:
            return len(built) <= BURST and all(port.send(frame) for frame in built)
        except OSError as error:
            raise WireError(f"{action.ifname}: frame not sent: {error}") from error

    async def apply(self, action: WireAction) -> None:
        """Send one frame per address, in order, paced. Raises WireError at the first that can't be sent."""
        port = self._port(action.ifname)
        try:
            for number, frame in enumerate(self._build(port, action), 1):
                if not port.send(frame):
                    await self._send_when_possible(port, frame)
                if number % BURST == 0:
                    await asyncio.sleep(BURST_PAUSE)
        except (TimeoutError, OSError) as error:
            raise WireError(f"{action.ifname}: frame not sent: {error or 'timeout'}") from error

    # -- sending -------------------------------------------------------------------------------------------------

    def _build(self, port: Port, action: WireAction) -> Iterator[bytes]:
        match action:
            case SendProbe():
                for address in action.addresses:
                    if isinstance(address, IPv6Address):
                        port.join(address)
                    yield frames.probe(port.lladdr, address)
            case SendAnnouncement():
                yield from (frames.announcement(port.lladdr, address) for address in action.addresses)
            case SendRequest():
                pairs = ((a, asked) for a in action.addresses for asked in action.asks if a.version == asked.version)
                yield from (frames.request(port.lladdr, address, asks=asked) for address, asked in pairs)
            case SendEcho():
                yield from (self._echo(port, echo) for echo in action.echoes)

    def _echo(self, port: Port, echo: Echo) -> bytes:
        said = (self._identifier, echo.sequence, self._cookie)
        return frames.echo_request(port.lladdr, echo.lladdr, source=echo.source, target=echo.target, said=said)

    async def _send_when_possible(self, port: Port, frame: bytes) -> None:
        """The socket's queue or the link's is full: both empty by themselves, and of the second nobody tells."""
        try:
            async with asyncio.timeout(self._timeout):
                while not port.send(frame):  # noqa: ASYNC110 - the kernel has no event for it
                    await asyncio.sleep(BURST_PAUSE)
        except TimeoutError:
            port.counters.send_errors += 1
            raise

    def _port(self, ifname: IfName) -> Port:
        for listening in self._links.values():
            if listening.port.ifname == ifname:
                return listening.port
        raise WireError(f"{ifname}: no such link is open")

    # -- hearing -------------------------------------------------------------------------------------------------

    def _open(self, link: Link) -> None:
        try:
            port = Port(link.ifname, link.ifindex, link.lladdr, self._program)
        except OSError as error:  # the link went away in between: the next look at the kernel says so
            log.warning("link not opened: %s: %s", link.ifname, error)
            return
        listening = self._links[link.ifindex] = _Listening(port)
        asyncio.get_running_loop().add_reader(port.fileno(), self._arrives, listening)

    def _close(self, listening: _Listening) -> None:
        del self._links[listening.port.ifindex]
        asyncio.get_running_loop().remove_reader(listening.port.fileno())
        listening.port.close()

    def _arrives(self, listening: _Listening) -> None:
        asyncio.get_running_loop().remove_reader(listening.port.fileno())
        listening.waits = True
        if not self._timer:
            self._look_later()

    def _look_later(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(GATHER, self._look)

    def _look(self) -> None:
        self._timer = None
        found: list[WireEvent] = []
        waiting = [listening for listening in self._links.values() if listening.waits]
        batches: list[tuple[_Listening, Batch]] = []
        try:
            batches += ((listening, self._read(listening, found)) for listening in waiting)
            self._tell(found)
        finally:
            for listening, batch in batches:
                if self._links.get(listening.port.ifindex) is listening and not batch.taken:
                    listening.waits = False
                    asyncio.get_running_loop().add_reader(listening.port.fileno(), self._arrives, listening)
            if not self._timer and any(listening.waits for listening in self._links.values()):
                self._look_later()

    def _read(self, listening: _Listening, found: list[WireEvent]) -> Batch:
        """What a reading brings is put into `found`."""
        port = listening.port
        batch = port.read(FRAMES_A_TURN)
        for seen, arrived in batch.seen:
            if (value := self._value(port.ifname, seen, arrived)) is None:
                port.counters.ignored += 1
            else:
                found.append(value)
        if batch.fault and batch.fault.errno not in {errno.ENETDOWN, errno.ENOBUFS}:
            log.warning("link closed: %s: %s", port.ifname, batch.fault)
            self._close(listening)
        return batch

    def _tell(self, found: list[WireEvent]) -> None:
        if found:
            self._heard(tuple(found))

    def _value(self, ifname: IfName, seen: Seen, at: float) -> WireEvent | None:
        match seen:
            case frames.Echoed(address, lladdr, identifier, sequence, payload):
                if (identifier, payload) != (self._identifier, self._cookie):
                    return None
                return HeardEcho(ifname=ifname, address=address, lladdr=lladdr, sequence=sequence, at=at)
            case frames.Shown(address, lladdr) | frames.Asked(address, lladdr):
                if self._addresses is not None and address not in self._addresses:
                    return None
                kind = Heard if isinstance(seen, frames.Shown) else HeardProbe
                return kind(ifname=ifname, address=address, lladdr=lladdr, at=at)
