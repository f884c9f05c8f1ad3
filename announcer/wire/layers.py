"""What every frame is made of: Ethernet, IPv4 and IPv6 headers, the Internet checksum (RFC 1071), and MACs.

Readers answer None to whatever is not exactly as the RFC has it, and never raise; frames may be longer than what the
headers say, as Ethernet pads them to 60 bytes.
"""

import struct
from typing import NamedTuple

from announcer.core.model import IPAddress

BROADCAST = b"\xff" * 6
ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
ETHERNET = struct.Struct("!6s6sH")
IPV4 = struct.Struct("!BBHHHBBH4s4s")  # version and IHL, TOS, length, id, fragment, TTL, protocol, checksum, addresses
IPV6 = struct.Struct("!IHBB16s16s")  # version to flow label, payload length, next header, hop limit, addresses
ICMP, ICMPV6 = 1, 58
DONT_FRAGMENT, IS_FRAGMENT = 0x4000, 0x3FFF
UNSPECIFIED_V4, UNSPECIFIED_V6 = bytes(4), bytes(16)
INTERNETWORK_CONTROL = 0xC0  # DSCP CS6, RFC 4594 §3.2: what keeps the network up goes before what uses it


class Shown(NamedTuple):
    """Somebody shows that it holds `address`: an ARP packet with it as spa, a neighbor advertisement, or a neighbor
    solicitation from it.
    """

    address: IPAddress
    lladdr: str


class Asked(NamedTuple):
    """Somebody at `lladdr` asks whether anybody holds `address`, and holds nothing: an ARP probe (RFC 5227 §2.1.1) or
    the solicitation of duplicate address detection (RFC 4862 §5.4.2).
    """

    address: IPAddress
    lladdr: str


class Echoed(NamedTuple):
    """An ICMP or ICMPv6 echo reply."""

    address: IPAddress
    lladdr: str
    identifier: int
    sequence: int
    payload: bytes


Seen = Shown | Asked | Echoed


class Packet(NamedTuple):
    """An IP packet without options before its payload; addresses as bytes, `hops` is TTL or hop limit."""

    source: bytes
    destination: bytes
    hops: int
    body: bytes


def read_ipv4(packet: bytes, protocol: int) -> Packet | None:
    """RFC 791 §3.1, not fragmented. Options are skipped."""
    if len(packet) < IPV4.size:
        return None
    first, _, length, _, fragment, hops, carries, _, source, destination = IPV4.unpack_from(packet)
    header = (first & 0xF) * 4
    if first >> 4 != 4 or carries != protocol or fragment & IS_FRAGMENT or not IPV4.size <= header <= length:
        return None
    if len(packet) < length or checksum(packet[:header]) != 0:
        return None
    return Packet(source, destination, hops, packet[header:length])


def read_ipv6(packet: bytes) -> Packet | None:
    """ICMPv6 right behind the header, with a valid checksum. Extension headers are refused: neighbor discovery may not
    be fragmented (RFC 6980 §5), and nobody has a reason to put others before it.
    """
    if len(packet) < IPV6.size:
        return None
    first, length, following, hops, source, destination = IPV6.unpack_from(packet)
    body = packet[IPV6.size : IPV6.size + length]
    if first >> 28 != 6 or following != ICMPV6 or len(body) != length:
        return None
    return Packet(source, destination, hops, body) if checksum(_pseudo(source, destination, body)) == 0 else None


def ipv4(source: bytes, destination: bytes, body: bytes) -> bytes:
    """TTL 1: what is asked is on this link, and no router that answers ARP for it shall carry the question on."""
    head = IPV4.pack(
        0x45, INTERNETWORK_CONTROL, IPV4.size + len(body), 0, DONT_FRAGMENT, 1, ICMP, 0, source, destination
    )
    return _with_checksum(head, 10, checksum(head)) + body


def icmp(body: bytes) -> bytes:
    """RFC 792; `body` has zeros for the checksum."""
    return _with_checksum(body, 2, checksum(body))


def ipv6(source: bytes, destination: bytes, body: bytes, *, hops: int, traffic_class: int = 0) -> bytes:
    """ICMPv6 (RFC 4443 §2.3); `body` has zeros for the checksum."""
    head = IPV6.pack(6 << 28 | traffic_class << 20, len(body), ICMPV6, hops, source, destination)
    return head + _with_checksum(body, 2, checksum(_pseudo(source, destination, body)))


def checksum(data: bytes) -> int:
    """RFC 1071. Over data that has its checksum in it: 0 where that is right.

    Sums are taken modulo 0xffff, as one's complement addition is, over the whole as one number: ten times faster in
    Python than a loop over words.
    """
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big")
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def mac_bytes(lladdr: str) -> bytes:
    return bytes.fromhex(lladdr.replace(":", ""))


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def is_unicast(mac: bytes) -> bool:
    return not mac[0] & 1 and mac != bytes(6)


def _pseudo(source: bytes, destination: bytes, body: bytes) -> bytes:
    """RFC 8200 §8.1."""
    return source + destination + struct.pack("!II", len(body), ICMPV6) + body


def _with_checksum(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]
