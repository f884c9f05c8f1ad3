"""ARP (RFC 826, RFC 5227) and neighbor discovery (RFC 4861, RFC 4862) frames to bytes and back; no socket here.

`lladdr` is a MAC in lower case with colons. What comes from the wire is anybody's bytes: `parse` answers None to
whatever is not exactly as the RFC has it, and never raises.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

from announcer.core.model import IPAddress

BROADCAST, ALL_NODES_MAC = b"\xff" * 6, bytes.fromhex("333300000001")
ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
ETHERNET = struct.Struct("!6s6sH")
ARP = struct.Struct("!HHBBH6s4s6s4s")  # hardware and protocol type, their lengths, operation, sha, spa, tha, tpa
ARP_HEAD = (1, 0x0800, 6, 4)  # Ethernet and IPv4, RFC 826
REQUEST, REPLY = 1, 2
IPV6 = struct.Struct("!IHBB16s16s")  # version to flow label, payload length, next header, hop limit, addresses
ICMPV6 = 58
HOP_LIMIT = 255  # RFC 4861 §7.1.2: anything else came from another link
SOLICITATION, ADVERTISEMENT = 135, 136
TARGET_LLADDR = 2  # option: target link-layer address, RFC 4861 §4.6.1
OVERRIDE = 0x20000000
ALL_NODES = IPv6Address("ff02::1").packed
SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed  # RFC 4291 §2.7.1
UNSPECIFIED_V4, UNSPECIFIED_V6 = bytes(4), bytes(16)


def probe(lladdr: str, address: IPAddress) -> bytes:
    """Does anybody hold it? RFC 5227 §2.1.1, or the neighbor solicitation of RFC 4862 §5.4.2."""
    mac = _mac(lladdr)
    if isinstance(address, IPv4Address):
        return _arp(mac, spa=UNSPECIFIED_V4, tpa=address.packed)
    group = SOLICITED_NODE[:13] + address.packed[13:]
    body = struct.pack("!BBHI16s", SOLICITATION, 0, 0, 0, address.packed)
    return _icmpv6(mac, b"\x33\x33" + group[12:], source=UNSPECIFIED_V6, destination=group, body=body)


def announcement(lladdr: str, address: IPAddress) -> bytes:
    """It is here now. RFC 5227 §3 (a request, which clients take within a second of a change, as they don't every
    reply), or an unsolicited neighbor advertisement that overrides (RFC 4861 §7.2.6).
    """
    mac = _mac(lladdr)
    if isinstance(address, IPv4Address):
        return _arp(mac, spa=address.packed, tpa=address.packed)
    option = struct.pack("!BB6s", TARGET_LLADDR, 1, mac)
    body = struct.pack("!BBHI16s", ADVERTISEMENT, 0, 0, OVERRIDE, address.packed) + option
    return _icmpv6(mac, ALL_NODES_MAC, source=address.packed, destination=ALL_NODES, body=body)


def parse(frame: bytes) -> tuple[IPAddress, str] | None:
    """The address that the sender shows to hold, and its MAC: an ARP packet with a sender protocol address, or a
    neighbor advertisement. None for everything else, probes among it: they ask, and hold nothing.
    """
    if len(frame) < ETHERNET.size:
        return None
    _, source, ethertype = ETHERNET.unpack_from(frame)
    if ethertype == ETH_P_ARP:
        return _parse_arp(frame[ETHERNET.size :])
    if ethertype == ETH_P_IPV6:
        return _parse_advertisement(frame[ETHERNET.size :], source)
    return None


def _parse_arp(packet: bytes) -> tuple[IPAddress, str] | None:
    if len(packet) < ARP.size:
        return None
    *head, operation, sha, spa, _, _ = ARP.unpack_from(packet)
    if tuple(head) != ARP_HEAD or operation not in {REQUEST, REPLY} or spa == UNSPECIFIED_V4 or not _is_unicast(sha):
        return None
    return IPv4Address(spa), _text(sha)


def _parse_advertisement(packet: bytes, source: bytes) -> tuple[IPAddress, str] | None:
    """RFC 4861 §7.1.2: hop limit 255, code 0, a valid checksum, no multicast target, options that fill it exactly."""
    if len(packet) < IPV6.size + 24:
        return None
    version, length, following, hops, sender, receiver = IPV6.unpack_from(packet)
    body = packet[IPV6.size : IPV6.size + length]
    if version >> 28 != 6 or following != ICMPV6 or hops != HOP_LIMIT or len(body) != length or length < 24:
        return None
    target = IPv6Address(body[8:24])
    if body[0] != ADVERTISEMENT or body[1] != 0 or target.is_multicast or target.is_unspecified:
        return None
    if _checksum(sender, receiver, body) != 0:
        return None
    lladdr = _target_lladdr(body[24:], source)
    return (target, _text(lladdr)) if lladdr and _is_unicast(lladdr) else None


def _target_lladdr(options: bytes, source: bytes) -> bytes | None:
    """The option's MAC, else the frame's source; None where the options are malformed."""
    found = source
    while options:
        if len(options) < 2 or options[1] == 0 or len(options) < options[1] * 8:
            return None
        if options[0] == TARGET_LLADDR and options[1] == 1:
            found = options[2:8]
        options = options[options[1] * 8 :]
    return found


def _arp(mac: bytes, *, spa: bytes, tpa: bytes) -> bytes:
    """A broadcast request; tha is zero, as RFC 5227 §2.1.1 and §3 have it."""
    return ETHERNET.pack(BROADCAST, mac, ETH_P_ARP) + ARP.pack(*ARP_HEAD, REQUEST, mac, spa, bytes(6), tpa)


def _icmpv6(mac: bytes, to: bytes, *, source: bytes, destination: bytes, body: bytes) -> bytes:
    summed = body[:2] + struct.pack("!H", _checksum(source, destination, body)) + body[4:]
    head = IPV6.pack(6 << 28, len(body), ICMPV6, HOP_LIMIT, source, destination)
    return ETHERNET.pack(to, mac, ETH_P_IPV6) + head + summed


def _checksum(source: bytes, destination: bytes, body: bytes) -> int:
    """RFC 4443 §2.3 over the pseudo-header; 0 for a body whose checksum is right."""
    data = source + destination + struct.pack("!II", len(body), ICMPV6) + body + b"\0" * (len(body) % 2)
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(lladdr: str) -> bytes:
    return bytes.fromhex(lladdr.replace(":", ""))


def _text(mac: bytes) -> str:
    return mac.hex(":")


def _is_unicast(mac: bytes) -> bool:
    return not mac[0] & 1 and mac != bytes(6)
