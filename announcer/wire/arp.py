"""ARP (RFC 826) and address conflict detection (RFC 5227): packets to bytes and back."""

import struct
from ipaddress import IPv4Address

from announcer.wire.layers import (
    BROADCAST,
    ETH_P_ARP,
    ETH_P_IP,
    ETHERNET,
    UNSPECIFIED_V4,
    Asked,
    Shown,
    is_unicast,
    mac_text,
)

ARP = struct.Struct("!HHBBH6s4s6s4s")  # hardware and protocol type, their lengths, operation, sha, spa, tha, tpa
HEAD = (1, ETH_P_IP, 6, 4)  # Ethernet and IPv4
REQUEST, REPLY = 1, 2


def probe(mac: bytes, address: bytes) -> bytes:
    """RFC 5227 §2.1.1."""
    return request(mac, spa=UNSPECIFIED_V4, tpa=address)


def announcement(mac: bytes, address: bytes) -> bytes:
    """RFC 5227 §3: a request, which clients take within a second of a change, as they don't every reply."""
    return request(mac, spa=address, tpa=address)


def request(mac: bytes, *, spa: bytes, tpa: bytes, to: bytes = BROADCAST) -> bytes:
    """tha is zero, as RFC 5227 §2.1.1 and §3 have it."""
    return ETHERNET.pack(to, mac, ETH_P_ARP) + ARP.pack(*HEAD, REQUEST, mac, spa, bytes(6), tpa)


def read(packet: bytes) -> Shown | Asked | None:
    if len(packet) < ARP.size:
        return None
    *head, operation, sha, spa, _, tpa = ARP.unpack_from(packet)
    if tuple(head) != HEAD or operation not in {REQUEST, REPLY} or not is_unicast(sha):
        return None
    if spa == UNSPECIFIED_V4:
        return Asked(IPv4Address(tpa), mac_text(sha)) if operation == REQUEST and _is_host(tpa) else None
    return Shown(IPv4Address(spa), mac_text(sha)) if _is_host(spa) else None


def _is_host(address: bytes) -> bool:
    """No address of "this network", loopback, multicast or reserved (RFC 1122 §3.2.1.3)."""
    return address[0] not in {0, 127} and address[0] < 224
