"""Looks at the network from inside a namespace, for the checks: run there as a program, writes one JSON value.

    inside.py fetch URL COUNT            how often each body was answered, each time over a new connection
    inside.py arp IFNAME ADDRESS         the MACs that answer an ordinary ARP request within a second (RFC 826)
    inside.py ports ADDRESS,... PORT...  the TCP ports of each that answer within half a second, with a yes or a no
    inside.py watch ADDRESS              first the word `ready`; at the end of stdin the links that IPv4 packets from
                                         ADDRESS left by and packets to it came in by

It needs nothing but the standard library, and shares no code with what it checks.
"""

import errno
import itertools
import json
import select
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from ipaddress import IPv4Address

CONNECT_SECONDS = 3.0
LISTEN_SECONDS = 1.0
ANSWER_SECONDS = 0.5
DRAIN_SECONDS = 0.2
ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806  # linux/if_ether.h
SIOCGIFADDR = 0x8915  # linux/sockios.h
ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826: htype, ptype, hlen, plen, oper, sha, spa, tha, tpa


def fetch(url: str, count: int) -> dict[str, int]:
    """Failures count under what went wrong."""
    answers: Counter[str] = Counter()
    for _ in range(count):
        try:
            with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer:
                answers[answer.read().decode().strip()] += 1
        except (urllib.error.URLError, OSError) as error:
            answers[f"error: {error}"] += 1
            if answers.total() - sum(n for text, n in answers.items() if not text.startswith("error")) >= 3:
                break
    return dict(answers)


def arp(ifname: str, address: IPv4Address) -> list[str]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as link:
        link.bind((ifname, ETH_P_ARP))
        sha = link.getsockname()[4]
        request = ARP.pack(1, ETH_P_IP, 6, 4, 1, sha, _address_of(ifname), bytes(6), address.packed)
        link.send(b"\xff" * 6 + sha + struct.pack("!H", ETH_P_ARP) + request)
        found: set[str] = set()
        deadline = time.monotonic() + LISTEN_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if select.select([link], [], [], left)[0]:
                _, _, _, _, oper, answerer, spa, _, _ = ARP.unpack_from(link.recv(2048), 14)
                if oper == 2 and spa == address.packed:
                    found.add(answerer.hex(":"))
    return sorted(found)


def ports(addresses: list[str], numbers: list[int]) -> dict[str, list[int]]:
    """All are asked at once; a port that is closed answers with a reset, one that is guarded not at all."""
    asked: dict[socket.socket, tuple[str, int]] = {}
    for address, number in itertools.product(addresses, numbers):
        one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        one.setblocking(False)
        one.connect_ex((address, number))
        asked[one] = address, number
    found: dict[str, list[int]] = {address: [] for address in addresses}
    deadline = time.monotonic() + ANSWER_SECONDS
    while asked and (left := deadline - time.monotonic()) > 0:
        for one in select.select([], list(asked), [], left)[1]:
            (address, number), error = asked.pop(one), one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[address] += [number] if error in {0, errno.ECONNREFUSED} else []
            one.close()
    return found


def watch(address: IPv4Address) -> dict[str, list[str]]:
    came_in: set[str] = set()
    left_by: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as links:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        deadline: float | None = None
        while deadline is None or time.monotonic() < deadline:
            ready = select.select([links] if deadline else [links, sys.stdin], [], [], DRAIN_SECONDS)[0]
            if sys.stdin in ready:
                deadline = time.monotonic() + DRAIN_SECONDS
            if links not in ready:
                continue
            packet, (ifname, protocol, packet_type, *_) = links.recvfrom(2048)
            if protocol != ETH_P_IP or len(packet) < 20:
                continue
            if packet[12:16] == address.packed and packet_type == socket.PACKET_OUTGOING:
                left_by.add(ifname)
            if packet[16:20] == address.packed and packet_type == socket.PACKET_HOST:
                came_in.add(ifname)
    return {"in": sorted(came_in), "out": sorted(left_by)}


def _address_of(ifname: str) -> bytes:
    import fcntl  # noqa: PLC0415, only this needs it

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("256s", ifname.encode()))
    return answer[20:24]


def main(verb: str, *arguments: str) -> object:
    match verb:
        case "fetch":
            return fetch(arguments[0], int(arguments[1]))
        case "arp":
            return arp(arguments[0], IPv4Address(arguments[1]))
        case "ports":
            return ports(arguments[0].split(","), [int(text) for text in arguments[1:]])
        case "watch":
            return watch(IPv4Address(arguments[0]))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
