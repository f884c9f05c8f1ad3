"""Neighbor discovery (RFC 4861) and duplicate address detection (RFC 4862 §5.4): packets to bytes and back."""

import struct
from ipaddress import IPv6Address

from announcer.wire.layers import (
    ETH_P_IPV6,
    ETHERNET,
    UNSPECIFIED_V6,
    Asked,
    Packet,
    Shown,
    ipv6,
    is_unicast,
    mac_text,
)

MESSAGE = struct.Struct("!BBHI16s")  # type, code, checksum, flags, target
SOLICITATION, ADVERTISEMENT = 135, 136
SOURCE_LLADDR, TARGET_LLADDR = 1, 2  # options, RFC 4861 §4.6.1
SOLICITED, OVERRIDE = 0x40000000, 0x20000000
HOP_LIMIT = 255  # RFC 4861 §7.1: anything else came from another link
MULTICAST = 0xFF  # the first byte of a group
ALL_NODES, ALL_NODES_MAC = IPv6Address("ff02::1").packed, bytes.fromhex("333300000001")
SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]  # RFC 4291 §2.7.1


def probe(mac: bytes, address: bytes) -> bytes:
    """RFC 4862 §5.4.2: nobody's address asks, so that nobody learns anything from it."""
    return _to_group(mac, UNSPECIFIED_V6, address, MESSAGE.pack(SOLICITATION, 0, 0, 0, address))


def announcement(mac: bytes, address: bytes) -> bytes:
    """RFC 4861 §7.2.6: unsolicited, to all nodes, and overrides what they knew."""
    body = MESSAGE.pack(ADVERTISEMENT, 0, 0, OVERRIDE, address) + _option(TARGET_LLADDR, mac)
    head = ETHERNET.pack(ALL_NODES_MAC, mac, ETH_P_IPV6)
    return head + ipv6(address, ALL_NODES, body, hops=HOP_LIMIT)


def request(mac: bytes, *, source: bytes, target: bytes, to: bytes | None = None) -> bytes:
    """RFC 4861 §4.3: whoever gets it learns that `source` is at `mac`. `to` None asks the solicited-node group."""
    body = MESSAGE.pack(SOLICITATION, 0, 0, 0, target) + _option(SOURCE_LLADDR, mac)
    if to is None:
        return _to_group(mac, source, target, body)
    return ETHERNET.pack(to, mac, ETH_P_IPV6) + ipv6(source, target, body, hops=HOP_LIMIT)


def group_of(address: bytes) -> bytes:
    """The solicited-node group, RFC 4291 §2.7.1."""
    return SOLICITED_NODE + address[13:]


def group_mac(group: bytes) -> bytes:
    """RFC 2464 §7."""
    return b"\x33\x33" + group[12:]


def read(packet: Packet, ethernet_source: bytes) -> Shown | Asked | None:
    """The checks of RFC 4861 §7.1.1 and §7.1.2; the checksum has been checked."""
    body = packet.body
    if len(body) < MESSAGE.size or packet.hops != HOP_LIMIT or body[1] != 0 or body[8] == MULTICAST:
        return None
    options = _options(body[MESSAGE.size :])
    if options is None or body[8:24] == UNSPECIFIED_V6:
        return None
    if body[0] == ADVERTISEMENT:
        return _advertisement(packet, options.get(TARGET_LLADDR, ethernet_source))
    if body[0] == SOLICITATION:
        return _solicitation(packet, options.get(SOURCE_LLADDR), ethernet_source)
    return None


def _advertisement(packet: Packet, lladdr: bytes) -> Shown | None:
    is_solicited = bool(packet.body[4] & SOLICITED >> 24)
    if (packet.destination[0] == MULTICAST and is_solicited) or not is_unicast(lladdr):
        return None
    return Shown(IPv6Address(packet.body[8:24]), mac_text(lladdr))


def _solicitation(packet: Packet, lladdr: bytes | None, ethernet_source: bytes) -> Shown | Asked | None:
    if packet.source == UNSPECIFIED_V6:
        target = packet.body[8:24]
        if packet.destination != group_of(target) or lladdr is not None or not is_unicast(ethernet_source):
            return None
        return Asked(IPv6Address(target), mac_text(ethernet_source))
    if lladdr is None or not is_unicast(lladdr) or packet.source[0] == MULTICAST:
        return None
    return Shown(IPv6Address(packet.source), mac_text(lladdr))


def _options(data: bytes) -> dict[int, bytes] | None:
    """Link-layer address options by type, the last of each; None where an option has length 0 or is cut off."""
    found: dict[int, bytes] = {}
    while data:
        if len(data) < 2 or data[1] == 0 or len(data) < data[1] * 8:
            return None
        if data[0] in {SOURCE_LLADDR, TARGET_LLADDR} and data[1] == 1:
            found[data[0]] = data[2:8]
        data = data[data[1] * 8 :]
    return found


def _option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac


def _to_group(mac: bytes, source: bytes, target: bytes, body: bytes) -> bytes:
    group = group_of(target)
    return ETHERNET.pack(group_mac(group), mac, ETH_P_IPV6) + ipv6(source, group, body, hops=HOP_LIMIT)
