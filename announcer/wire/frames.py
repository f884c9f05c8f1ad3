"""Frames to bytes and back, both families behind one set of names; no socket here.

`lladdr` is a MAC in lower case with colons. What comes from the wire is anybody's bytes: `parse` answers None to
whatever is not exactly as the RFCs have it, and never raises.

| from the wire | value |
|---|---|
| ARP with a sender protocol address; neighbor advertisement; neighbor solicitation from an address | Shown |
| ARP probe; solicitation of duplicate address detection | Asked |
| ICMP or ICMPv6 echo reply | Echoed |
| everything else, tagged frames among it (their VLAN has a link of its own) | None |
"""

from ipaddress import IPv4Address

from announcer.core.model import IPAddress
from announcer.wire import arp, echo, nd
from announcer.wire.layers import (
    BROADCAST,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    ETHERNET,
    ICMP,
    mac_bytes,
    read_ipv4,
    read_ipv6,
)
from announcer.wire.layers import Asked as Asked
from announcer.wire.layers import Echoed as Echoed
from announcer.wire.layers import Seen as Seen
from announcer.wire.layers import Shown as Shown


def probe(lladdr: str, address: IPAddress) -> bytes:
    """Does anybody hold it?"""
    build = arp.probe if isinstance(address, IPv4Address) else nd.probe
    return build(mac_bytes(lladdr), address.packed)


def announcement(lladdr: str, address: IPAddress) -> bytes:
    """It is here now."""
    build = arp.announcement if isinstance(address, IPv4Address) else nd.announcement
    return build(mac_bytes(lladdr), address.packed)


def request(lladdr: str, address: IPAddress, *, asks: IPAddress, to: str | None = None) -> bytes:
    """`address`, which is here, asks for another: whoever is asked learns it, even one that ignores announcements.

    `to` is the MAC that alone shall get it; None is everybody, or the solicited-node group.
    """
    mac, only = mac_bytes(lladdr), mac_bytes(to) if to else None
    if isinstance(address, IPv4Address):
        return arp.request(mac, spa=address.packed, tpa=asks.packed, to=only or BROADCAST)
    return nd.request(mac, source=address.packed, target=asks.packed, to=only)


def echo_request(lladdr: str, to: str, *, source: IPAddress, target: IPAddress, said: tuple[int, int, bytes]) -> bytes:
    """`said` is identifier, sequence number and payload, which a reply repeats. TTL or hop limit is 1."""
    return echo.request(mac_bytes(lladdr), mac_bytes(to), source=source, target=target, said=said)


def echo_reply(lladdr: str, to: str, *, source: IPAddress, target: IPAddress, said: tuple[int, int, bytes]) -> bytes:
    return echo.reply(mac_bytes(lladdr), mac_bytes(to), source=source, target=target, said=said)


def parse(frame: bytes) -> Seen | None:
    if len(frame) < ETHERNET.size:
        return None
    _, source, ethertype = ETHERNET.unpack_from(frame)
    packet = frame[ETHERNET.size :]
    if ethertype == ETH_P_ARP:
        return arp.read(packet)
    if ethertype == ETH_P_IPV6:
        return _parse_icmpv6(packet, source)
    if ethertype == ETH_P_IP:
        inside = read_ipv4(packet, ICMP)
        return echo.read_v4(inside, source) if inside else None
    return None


def _parse_icmpv6(packet: bytes, source: bytes) -> Seen | None:
    inside = read_ipv6(packet)
    if inside is None or not inside.body:
        return None
    return echo.read_v6(inside, source) if inside.body[0] == echo.REPLY_V6 else nd.read(inside, source)
