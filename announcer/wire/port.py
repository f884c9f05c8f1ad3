"""The packet socket of one link: filtered before it is bound, never promiscuous, never blocking, everything counted.

`read` gives what has arrived, each frame that says something new once, with the time at which the kernel took it. It is
bound by ifindex, so that neither a rename nor a link that was made again under the same name leads elsewhere.
Sources: packet(7), socket(7), linux/filter.h, linux/if_packet.h.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import NamedTuple

from announcer.core.model import IfName
from announcer.wire import frames, nd
from announcer.wire.filters import INSTRUCTION, LONGEST_FRAME
from announcer.wire.layers import UNSPECIFIED_V4, Seen

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 1, 6, 23
PACKET_MR_MULTICAST = 0
SO_ATTACH_FILTER, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 26, 32, 33
SIOCGSTAMPNS = 0x80108907  # time of the frame that was read last, 64 bits on every machine, Linux 5.1
SOCKADDR_LL = struct.Struct("=HHiHBB8s")
MEMBERSHIP = struct.Struct("=iHH8s")  # struct packet_mreq
RECEIVE_BYTES = 8 << 20  # a small frame takes 768: a second of 10,000 frames/s while the process is stalled
SEND_BYTES = 1 << 20
GROUPS_MOST = 64  # cards filter some tens of groups by themselves, and take in all multicast when there are more
ARP_TYPE, ETHERTYPE, ARP_SPA = b"\x08\x06", slice(12, 14), slice(28, 32)
ARP_SHOWS, ARP_ASKS = slice(12, 32), slice(12, 42)
"""What of an ARP frame decides its value: up to the spa, or for a probe up to the tpa."""
NS = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class Counters:
    """Frames of one link since its socket was opened.

    | field | frames |
    |---|---|
    | received | read; `repeated` of them said what another one of the same batch had said |
    | ignored | read and not repeated, and malformed or about nothing that is listened for |
    | dropped | let through by the filter, and lost because the socket was full (tp_drops) |
    | sent, send_waits, send_errors | sent; had to wait for room first; not sent |
    | receive_errors | failures of the socket, not frames |
    """

    received: int = 0
    repeated: int = 0
    ignored: int = 0
    dropped: int = 0
    receive_errors: int = 0
    sent: int = 0
    send_waits: int = 0
    send_errors: int = 0


class Batch(NamedTuple):
    """What one reading brought: values with the monotonic seconds at which the kernel took their frames."""

    seen: list[tuple[Seen, float]]
    taken: int
    is_empty: bool
    fault: OSError | None


class Port:
    def __init__(self, ifname: IfName, ifindex: int, lladdr: str, program: bytes) -> None:
        """Raises OSError where there is no such link (any more)."""
        self.ifname, self.ifindex, self.lladdr = ifname, ifindex, lladdr
        self.counters = Counters()
        self._socket = _open(ifindex, program)
        self._empty_at = time.monotonic()
        self._groups: set[bytes] = set()

    def is_alive(self) -> bool:
        """False once the link is gone from this namespace, for ever: also if one with its ifindex has come back."""
        return bool(self._socket.getsockname()[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def listen_for(self, program: bytes) -> None:
        """Put another filter in the place of the present one; no moment without one."""
        _attach(self._socket, program)

    def send(self, frame: bytes) -> bool:
        """Whether there was room for it. Raises OSError where the link doesn't take frames."""
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.ENOBUFS}:  # the socket's queue, the link's queue
                self.counters.send_waits += 1
                return False
            self.counters.send_errors += 1
            raise
        self.counters.sent += 1
        return True

    def read(self, most: int) -> Batch:
        """Up to `most` frames. A failure of the socket is in the Batch, behind what came before it."""
        known: set[bytes] = set()
        seen: list[tuple[Seen, float]] = []
        began, taken, is_empty, fault = time.monotonic(), 0, False, None
        try:
            while taken < most:
                frame = self._socket.recv(LONGEST_FRAME)
                taken += 1
                key = _decides(frame)
                if key in known:
                    continue
                known.add(key)
                if value := frames.parse(frame):
                    seen.append((value, self._arrived()))
        except BlockingIOError:
            self._empty_at, is_empty = began, True
        except OSError as error:
            fault = error
        counters = self.counters
        counters.received += taken
        counters.repeated += taken - len(known)
        counters.ignored += len(known) - len(seen)
        counters.receive_errors += fault is not None
        return Batch(seen, taken, is_empty, fault)

    def join(self, address: IPv6Address) -> None:
        """Hear what is sent to the solicited-node group of an address before it is here: whoever asks whether anybody
        holds it has to, RFC 4862 §5.4.2. Not beyond GROUPS_MOST, and no failure but a count: what decides, answers and
        announcements, goes to all nodes or to us.
        """
        group = nd.group_mac(nd.group_of(address.packed))
        if group in self._groups or len(self._groups) >= GROUPS_MOST:
            return
        self._groups.add(group)
        try:
            _join(self._socket, self.ifindex, group)
        except OSError:
            self.counters.receive_errors += 1

    def counted(self) -> Counters:
        """A copy of the counters, with what the kernel has dropped since the last look: its own starts again then."""
        data = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self.counters.dropped += struct.unpack("=II", data)[1]
        return replace(self.counters)

    def _arrived(self) -> float:
        """When the kernel took the frame that was read last: an answer that is read late isn't late.

        The kernel says so on the wall clock. Should that have been set in between, the answer is still no later than
        now, and no earlier than when the socket was last seen empty.
        """
        seconds: int
        nanoseconds: int
        seconds, nanoseconds = struct.unpack("=qq", fcntl.ioctl(self._socket, SIOCGSTAMPNS, bytes(16)))
        age = (time.time_ns() - seconds * NS - nanoseconds) / NS
        return max(self._empty_at, time.monotonic() - max(age, 0.0))


def _decides(frame: bytes) -> bytes:
    """The part that the frame's value depends on."""
    if frame[ETHERTYPE] != ARP_TYPE or len(frame) < ARP_ASKS.stop:  # one cut short is malformed, its like is not
        return frame
    return frame[ARP_ASKS] if frame[ARP_SPA] == UNSPECIFIED_V4 else frame[ARP_SHOWS]


def _open(ifindex: int, program: bytes) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        _attach(made, program)
        _enlarge(made, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BYTES)
        _enlarge(made, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BYTES)
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        with suppress(FileNotFoundError):  # no frame yet; the first call turns the time stamps on
            fcntl.ioctl(made, SIOCGSTAMPNS, bytes(16))
        _join(made, ifindex, nd.ALL_NODES_MAC)
        _bind(made, ifindex)
    except OSError:
        made.close()
        raise
    return made


def _attach(made: socket.socket, program: bytes) -> None:
    held = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // INSTRUCTION.size, ctypes.addressof(held))  # struct sock_fprog
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def _enlarge(made: socket.socket, forced: int, plain: int, size: int) -> None:
    """Beyond net.core.rmem_max and wmem_max with CAP_NET_ADMIN, else up to them."""
    try:
        made.setsockopt(socket.SOL_SOCKET, forced, size // 2)  # the kernel doubles it, socket(7)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, plain, size // 2)


def _join(made: socket.socket, ifindex: int, group: bytes) -> None:
    """Let the link's own filter pass a multicast MAC. The kernel has joined all nodes wherever IPv6 is on; it may be
    off, and the groups of addresses that aren't here nobody has joined. No allmulti: the rest is not for this host.
    """
    request = MEMBERSHIP.pack(ifindex, PACKET_MR_MULTICAST, len(group), group)
    made.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)


def _bind(made: socket.socket, ifindex: int) -> None:
    """By ifindex; Python's own bind takes a name, which may be another link's by now."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = SOCKADDR_LL.pack(socket.AF_PACKET, socket.htons(ETH_P_ALL), ifindex, 0, 0, 0, b"")
    if libc.bind(made.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
