"""ICMP (RFC 792) and ICMPv6 (RFC 4443 §4) echo: packets to bytes and back."""

import struct
from ipaddress import ip_address

from announcer.core.model import IPAddress
from announcer.wire.layers import (
    ETH_P_IP,
    ETH_P_IPV6,
    ETHERNET,
    INTERNETWORK_CONTROL,
    Echoed,
    Packet,
    checksum,
    icmp,
    ipv4,
    ipv6,
    is_unicast,
    mac_text,
)

MESSAGE = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
REQUEST_V4, REPLY_V4 = 8, 0
REQUEST_V6, REPLY_V6 = 128, 129


def request(mac: bytes, to: bytes, *, source: IPAddress, target: IPAddress, said: tuple[int, int, bytes]) -> bytes:
    """`said` is identifier, sequence number and payload."""
    kind = REQUEST_V4 if target.version == 4 else REQUEST_V6
    return _frame(mac, to, kind, source, target, said)


def reply(mac: bytes, to: bytes, *, source: IPAddress, target: IPAddress, said: tuple[int, int, bytes]) -> bytes:
    """What a kernel answers; the tests need it."""
    kind = REPLY_V4 if target.version == 4 else REPLY_V6
    return _frame(mac, to, kind, source, target, said)


def read_v4(packet: Packet, ethernet_source: bytes) -> Echoed | None:
    return _read(packet, REPLY_V4, ethernet_source) if checksum(packet.body) == 0 else None


def read_v6(packet: Packet, ethernet_source: bytes) -> Echoed | None:
    return _read(packet, REPLY_V6, ethernet_source)


def _read(packet: Packet, reply_type: int, ethernet_source: bytes) -> Echoed | None:
    if len(packet.body) < MESSAGE.size or not is_unicast(ethernet_source):
        return None
    kind, code, _, identifier, sequence = MESSAGE.unpack_from(packet.body)
    source = ip_address(packet.source)
    if kind != reply_type or code != 0 or source.is_multicast or source.is_unspecified:
        return None
    return Echoed(source, mac_text(ethernet_source), identifier, sequence, packet.body[MESSAGE.size :])


def _frame(
    mac: bytes, to: bytes, kind: int, source: IPAddress, target: IPAddress, said: tuple[int, int, bytes]
) -> bytes:
    identifier, sequence, payload = said
    body = MESSAGE.pack(kind, 0, 0, identifier, sequence) + payload
    if target.version == 4:
        return ETHERNET.pack(to, mac, ETH_P_IP) + ipv4(source.packed, target.packed, icmp(body))
    head = ETHERNET.pack(to, mac, ETH_P_IPV6)
    return head + ipv6(source.packed, target.packed, body, hops=1, traffic_class=INTERNETWORK_CONTROL)
