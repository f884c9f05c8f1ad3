"""One packet socket per link: sends what Actions say, hears who shows to hold an address.

A cBPF filter lets only ARP and neighbor advertisements through, and own frames are not shown, so that the load of the
link never reaches the process. Links are not put into promiscuous mode. Sources: packet(7), linux/filter.h.
"""

import asyncio
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from announcer.core.model import Heard, IfName, Link, SendProbe, WireAction
from announcer.wire import frames

log = logging.getLogger(__name__)
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_ATTACH_FILTER = 26
FRAMES_A_WAKEUP = 256
LARGEST_FRAME = 2048
LDH, LDB, JEQ, RET = 0x28, 0x30, 0x15, 0x06  # BPF_LD|H|ABS, BPF_LD|B|ABS, BPF_JMP|JEQ|K, BPF_RET|K
FILTER = (  # code, jump if true, jump if false, value
    (LDH, 0, 0, 12),  # the ethertype
    (JEQ, 5, 0, frames.ETH_P_ARP),  # ARP: take it
    (JEQ, 0, 5, frames.ETH_P_IPV6),
    (LDB, 0, 0, 20),  # IPv6 next header: no extension headers before neighbor discovery
    (JEQ, 0, 3, frames.ICMPV6),
    (LDB, 0, 0, 54),  # ICMPv6 type
    (JEQ, 0, 1, frames.ADVERTISEMENT),
    (RET, 0, 0, LARGEST_FRAME),
    (RET, 0, 0, 0),
)


class WireError(Exception):
    """A frame could not be sent."""


@dataclass(slots=True)
class Counters:
    """Frames of one link since its socket was opened."""

    sent: int = 0
    send_errors: int = 0
    received: int = 0
    ignored: int = 0
    receive_errors: int = 0


@dataclass(slots=True)
class _Port:
    ifindex: int
    lladdr: str
    socket: socket.socket
    counters: Counters


class Wire:
    """`async with Wire(heard) as wire:`; `heard` gets what one wake-up brought, each holder once."""

    def __init__(self, heard: Callable[[tuple[Heard, ...]], None], *, timeout_seconds: float = 1.0) -> None:
        self._heard, self._timeout = heard, timeout_seconds
        self._ports: dict[IfName, _Port] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.set_links(())

    def set_links(self, links: Iterable[Link]) -> None:
        """Listen on these links and no others. A link that was made again has a new ifindex and gets a new socket."""
        wanted = {link.ifname: link for link in links}
        for ifname in list(self._ports):
            port, link = self._ports[ifname], wanted.get(ifname)
            if link is None or (port.ifindex, port.lladdr) != (link.ifindex, link.lladdr):
                self._close(ifname)
        for ifname in sorted(wanted.keys() - self._ports.keys()):
            self._open(wanted[ifname])

    def counters(self) -> dict[IfName, Counters]:
        return {ifname: port.counters for ifname, port in self._ports.items()}

    async def apply(self, action: WireAction) -> None:
        """One frame per address, in order. Raises WireError at the first that can't be sent."""
        port = self._ports.get(action.ifname)
        if port is None:
            raise WireError(f"{action.ifname}: no such link is open")
        build = frames.probe if isinstance(action, SendProbe) else frames.announcement
        for address in action.addresses:
            await self._send(action.ifname, port, build(port.lladdr, address))

    async def _send(self, ifname: IfName, port: _Port, frame: bytes) -> None:
        """A full queue paces us: wait until the kernel takes the frame."""
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().sock_sendall(port.socket, frame)
            port.counters.sent += 1
        except (TimeoutError, OSError) as error:
            port.counters.send_errors += 1
            raise WireError(f"{ifname}: frame not sent: {error or 'timeout'}") from error

    def _open(self, link: Link) -> None:
        try:
            opened = _packet_socket(link.ifname)
        except OSError as error:  # the link went away in between: the next look at the kernel says so
            log.warning("link not opened: %s: %s", link.ifname, error)
            return
        port = _Port(link.ifindex, link.lladdr, opened, Counters())
        self._ports[link.ifname] = port
        asyncio.get_running_loop().add_reader(opened.fileno(), self._read, link.ifname, port)

    def _close(self, ifname: IfName) -> None:
        port = self._ports.pop(ifname)
        asyncio.get_running_loop().remove_reader(port.socket.fileno())
        port.socket.close()

    def _read(self, ifname: IfName, port: _Port) -> None:
        found: dict[Heard, None] = {}
        for _ in range(FRAMES_A_WAKEUP):
            try:
                frame = port.socket.recv(LARGEST_FRAME)
            except BlockingIOError:
                break
            except OSError as error:
                port.counters.receive_errors += 1
                if error.errno not in {errno.ENETDOWN, errno.ENOBUFS}:
                    log.warning("link closed: %s: %s", ifname, error)
                    self._close(ifname)
                break
            parsed = frames.parse(frame)
            if parsed is None:
                port.counters.ignored += 1
                continue
            port.counters.received += 1
            found[Heard(ifname=ifname, address=parsed[0], lladdr=parsed[1])] = None
        if found:
            self._heard(tuple(found))


def _packet_socket(ifname: IfName) -> socket.socket:
    """Filtered before it is bound, so that no other frame is ever queued."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in FILTER))
        fprog = struct.pack("@HP", len(FILTER), ctypes.addressof(program))  # struct sock_fprog
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        made.bind((ifname, ETH_P_ALL))
    except OSError:
        made.close()
        raise
    return made
