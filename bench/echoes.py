"""A client outside: ICMP echo requests to addresses at a fixed rate, and for how long nobody answered.

    python bench/echoes.py SECONDS_BETWEEN ADDRESS...

It writes `ready` once every address has answered, asks until its stdin ends, waits for what is on its way, and writes
one JSON object: per address how many were sent, and the outages as [begin, end, lost] in monotonic seconds. An outage
runs from the sending of the last request that was answered to that of the next one, less the usual distance. Standard
library only; it shares no code with what it measures.
"""

import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

HEADER = struct.Struct("!BBHHHIQ")  # RFC 792, RFC 4443 §4.1; then which address, and which request to it
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}
READY_SECONDS, LAST_SECONDS, LEAST_SECONDS = 30.0, 0.5, 0.0002
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
UNANSWERED = b"\0"


@dataclass(slots=True)
class Asked:
    address: IPv4Address | IPv6Address
    sent: "array[float]" = field(default_factory=lambda: array("d"))
    answered: bytearray = field(default_factory=bytearray)
    first: int = 0
    """What was sent before counts for nothing."""


class Client:
    def __init__(self, addresses: list[IPv4Address | IPv6Address]) -> None:
        self.asked = [Asked(address) for address in addresses]
        self._identifier = os.getpid() & 0xFFFF
        kinds = {4: (socket.AF_INET, socket.IPPROTO_ICMP), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6)}
        self._sockets = {v: socket.socket(f, socket.SOCK_RAW, p) for v, (f, p) in kinds.items()}
        for one in self._sockets.values():
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)

    def ask(self, number: int) -> None:
        """A request that can't be sent is one that nobody answers."""
        asked = self.asked[number]
        version = asked.address.version
        fields = (REQUEST[version], 0, 0, self._identifier, len(asked.sent) & 0xFFFF, number, len(asked.sent))
        packet = HEADER.pack(*fields)
        if version == 4:  # the kernel fills in the checksum of ICMPv6 (RFC 3542 §3.1)
            packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
        asked.sent.append(time.monotonic())
        asked.answered += UNANSWERED
        with suppress(OSError):
            self._sockets[version].sendto(packet, (str(asked.address), 0))

    def hear(self, seconds: float) -> None:
        """Wait for as long at most, then take all that has come."""
        for one in select.select(list(self._sockets.values()), [], [], max(0.0, seconds))[0]:
            version = 4 if one.family == socket.AF_INET else 6
            while True:
                try:
                    packet = one.recv(2048)
                except BlockingIOError:
                    break
                self._take(packet[20:] if version == 4 else packet, version)

    def _take(self, packet: bytes, version: int) -> None:
        if len(packet) < HEADER.size:
            return
        kind, _, _, identifier, _, number, index = HEADER.unpack_from(packet)
        if kind == REPLY[version] and identifier == self._identifier and number < len(self.asked):
            self.asked[number].answered[index] = 1

    def has_all(self) -> bool:
        return all(any(asked.answered) for asked in self.asked)


def checksum(packet: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def outages(asked: Asked, between: float) -> list[tuple[float, float, int]]:
    found, lost = [], 0
    counted = list(zip(asked.sent, asked.answered, strict=True))[asked.first :]
    last = counted[0][0] if counted else 0.0
    for sent, answered in counted:
        if not answered:
            lost += 1
            continue
        if lost:
            found.append((last, max(last, sent - between), lost))
        last, lost = sent, 0
    return [*found, (last, asked.sent[-1], lost)] if lost else found


def run(client: Client, between: float) -> None:
    """Addresses one after the other, each once in `between`; a turn that is late is made up for."""
    step = between / len(client.asked)
    deadline = time.monotonic() + READY_SECONDS
    due, turn, is_ready = time.monotonic(), 0, False
    looked = 0.0
    while True:
        now = time.monotonic()
        while due <= now:
            client.ask(turn % len(client.asked))
            turn, due = turn + 1, due + step
        client.hear(max(LEAST_SECONDS, due - time.monotonic()))
        if now - looked < 0.02:
            continue
        looked = now
        if not is_ready and client.has_all():
            is_ready = True
            for asked in client.asked:
                asked.first = len(asked.sent)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        if not is_ready and now > deadline:
            sys.exit("no answer yet from " + " ".join(str(a.address) for a in client.asked if not any(a.answered)))
        if select.select([sys.stdin], [], [], 0)[0]:
            return


def main(between: float, *addresses: str) -> dict[str, object]:
    client = Client([ip_address(address) for address in addresses])
    run(client, between)
    end = time.monotonic() + LAST_SECONDS
    while (left := end - time.monotonic()) > 0:
        client.hear(left)
    return {
        str(asked.address): {"sent": len(asked.sent) - asked.first, "outages": outages(asked, between)}
        for asked in client.asked
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(float(sys.argv[1]), *sys.argv[2:])) + "\n")
