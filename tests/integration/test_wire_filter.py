"""What the filter lets through, in the kernel: frames of every kind go over a cable, and what arrives is counted."""

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether

from announcer.core.model import IfName, IPAddress
from announcer.wire import frames
from announcer.wire.filters import program
from announcer.wire.port import SOL_PACKET, Port
from tests.builders import ip
from tests.integration.netns import Namespace, cable, namespace
from tests.waiting import until

pytestmark = pytest.mark.netns
MAC, OTHER, ALL = "02:00:00:00:00:02", "02:00:00:00:00:03", "ff:ff:ff:ff:ff:ff"
V4, V6, HERE4, HERE6 = "10.111.111.100", "fd00:111::100", "10.111.111.2", "fd00:111::2"
OURS, THEIRS = 0x1234, 0x4321
MARKER = frames.announcement(OTHER, ip("10.111.111.200"))
IFF_PROMISC, IFF_ALLMULTI = 0x100, 0x200
PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 8, 0x10


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces without IPv6, so that no kernel speaks by itself; the first has the MAC that frames go to."""
    with namespace() as here, namespace() as there:
        for end in (here, there):
            end.exec("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        cable(here, "eth0", there, "eth0")
        here.ip("link", "set", "eth0", "address", MAC)
        yield here, there


def open_port(node: Namespace, addresses: Iterable[IPAddress] | None = None, *, ifname: str = "eth0") -> Port:
    with node.inside():
        return Port(IfName(ifname), socket.if_nametoindex(ifname), MAC, program(OURS, addresses))


def open_sender(node: Namespace) -> socket.socket:
    with node.inside():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind(("eth0", 0))
        return sender


def passed(port: Port, sender: socket.socket, frame: bytes) -> int:
    """How many frames arrive of this one; a marker behind it shows that it would be there."""
    before = port.counters.received
    sender.send(frame)
    sender.send(MARKER)

    async def arrives() -> None:
        seen: list[object] = []

        def is_there() -> bool:
            seen.extend(value for value, _ in port.read(100).seen)
            return frames.parse(MARKER) in seen

        await until(is_there, what="the marker")

    asyncio.run(arrives())
    return port.counters.received - before - 1


def to_us(payload: object, dst: str = MAC) -> bytes:
    return bytes(Ether(src=OTHER, dst=dst) / payload)


def arp(dst: str = ALL, **fields: object) -> bytes:
    return to_us(ARP(**({"op": 1, "hwsrc": OTHER, "psrc": V4, "pdst": HERE4} | fields)), dst)


def v6(payload: object, *, hlim: int = 255, src: str = V6, dst: str = MAC) -> bytes:
    return to_us(IPv6(src=src, dst=HERE6, hlim=hlim) / payload, dst)


ROWS: dict[str, tuple[bytes, int]] = {
    "ARP request": (arp(), 1),
    "ARP reply to us": (arp(MAC, op=2), 1),
    "ARP probe": (arp(psrc="0.0.0.0", pdst=V4), 1),
    "ARP in VLAN 0, which is a priority": (to_us(Dot1Q(vlan=0, prio=5) / ARP(op=1, hwsrc=OTHER, psrc=V4), ALL), 1),
    "advertisement": (v6(ICMPv6ND_NA(tgt=V6)), 1),
    "advertisement to all nodes": (v6(ICMPv6ND_NA(tgt=V6), dst="33:33:00:00:00:01"), 1),
    "solicitation": (v6(ICMPv6ND_NS(tgt=HERE6) / ICMPv6NDOptSrcLLAddr(lladdr=OTHER)), 1),
    "echo reply of ours": (to_us(IP(src=V4, dst=HERE4) / ICMP(type=0, id=OURS)), 1),
    "the same with IP options": (to_us(IP(src=V4, dst=HERE4, options=[IPOption_NOP()] * 4) / ICMP(type=0, id=OURS)), 1),
    "ICMPv6 echo reply of ours": (v6(ICMPv6EchoReply(id=OURS), hlim=64), 1),
    "ARP to another host": (arp(OTHER, op=2), 0),
    "ARP in VLAN 10": (to_us(Dot1Q(vlan=10) / ARP(op=1, hwsrc=OTHER, psrc=V4), ALL), 0),
    "reverse ARP": (arp(op=3), 0),
    "ARP of other lengths": (arp(hwlen=8), 0),
    "ARP of another protocol": (arp(ptype=0x86DD), 0),
    "ARP cut short": (arp()[:20], 0),
    "advertisement over a router": (v6(ICMPv6ND_NA(tgt=V6), hlim=64), 0),
    "router advertisement": (v6(ICMPv6ND_RA()), 0),
    "behind hop-by-hop options": (v6(IPv6ExtHdrHopByHop() / ICMPv6ND_NA(tgt=V6)), 0),
    "ICMPv6 unreachable": (v6(ICMPv6DestUnreach()), 0),
    "echo reply of another process": (to_us(IP(src=V4, dst=HERE4) / ICMP(type=0, id=THEIRS)), 0),
    "ICMPv6 echo reply of another": (v6(ICMPv6EchoReply(id=THEIRS)), 0),
    "echo request": (to_us(IP(src=V4, dst=HERE4) / ICMP(type=8, id=OURS)), 0),
    "fragment": (to_us(IP(src=V4, dst=HERE4, frag=2) / ICMP(type=0, id=OURS)), 0),
    "TCP": (to_us(IP(src=V4, dst=HERE4) / TCP(dport=80)), 0),
    "LLDP": (bytes(Ether(src=OTHER, dst="01:80:c2:00:00:0e", type=0x88CC) / b"lldp"), 0),
}


def test_kernel_lets_through_what_the_table_says(ends: tuple[Namespace, Namespace]) -> None:
    port, sender = open_port(ends[0]), open_sender(ends[1])
    with sender:
        assert {name: passed(port, sender, frame) for name, (frame, _) in ROWS.items()} == {
            name: count for name, (_, count) in ROWS.items()
        }
    assert port.counted().dropped == 0
    port.close()


def test_frame_of_another_vlan_looks_like_any_to_a_socket_without_the_filter(
    ends: tuple[Namespace, Namespace],
) -> None:
    """Why the filter looks at the tag: the kernel takes it out of the frame before sockets get it."""
    with ends[0].inside():
        plain = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    plain.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    plain.settimeout(2)
    with plain, open_sender(ends[1]) as sender:
        sender.send(ROWS["ARP in VLAN 10"][0])
        frame, ((_, _, auxdata),), _, _ = plain.recvmsg(100, 100)
    status, *_, tci, _ = struct.unpack("=IIIHHHH", auxdata)
    assert (bool(status & TP_STATUS_VLAN_VALID), tci) == (True, 10)
    assert frames.parse(frame) == frames.Shown(ip(V4), OTHER)


ADDRESSES = [ip(V4), ip("10.111.111.102"), ip("10.9.9.9"), ip(V6), ip("fd00:111::300")]
MARKED = ip("10.111.111.200")


def test_kernel_lets_through_the_addresses_that_are_listened_for(ends: tuple[Namespace, Namespace]) -> None:
    port, sender = open_port(ends[0], [*ADDRESSES, MARKED]), open_sender(ends[1])
    others = [ip(t) for t in ("10.111.111.99", "10.111.111.101", "1.1.1.1", "223.1.1.1", "fd00:111::101", "fd00::ff:1")]
    with sender:
        for build in (frames.announcement, frames.probe):
            assert [passed(port, sender, build(OTHER, a)) for a in ADDRESSES] == [1] * len(ADDRESSES)
            assert [passed(port, sender, build(OTHER, a)) for a in others] == [0] * len(others)
        port.listen_for(program(OURS, [*ADDRESSES, MARKED], probes=False))
        assert [passed(port, sender, frames.probe(OTHER, a)) for a in ADDRESSES] == [0] * len(ADDRESSES)
        assert [passed(port, sender, frames.announcement(OTHER, a)) for a in ADDRESSES] == [1] * len(ADDRESSES)
        port.listen_for(program(OURS))
        assert [passed(port, sender, frames.probe(OTHER, a)) for a in others] == [1] * len(others)
    port.close()


def test_none_of_more_addresses_than_ranges_is_missed(ends: tuple[Namespace, Namespace]) -> None:
    many = [ip(f"10.50.{n // 100}.{2 * (n % 100)}") for n in range(1000)] + [ip(f"fd01::{n}:1") for n in range(1000)]
    port, sender = open_port(ends[0], [*many, MARKED]), open_sender(ends[1])
    with sender:
        assert {passed(port, sender, frames.announcement(OTHER, a)) for a in many[::7]} == {1}
        assert passed(port, sender, frames.announcement(OTHER, ip("11.0.0.1"))) == 0
    port.close()


@pytest.mark.parametrize("address", ["all nodes", "a probed address"])
def test_groups_are_heard_on_a_link_that_filters_them(ends: tuple[Namespace, Namespace], address: str) -> None:
    """A macvlan link passes the groups only that somebody has joined, as a network card does; IPv6 is off on it."""
    here, there = ends
    here.ip("link", "add", "mac0", "link", "eth0", "type", "macvlan")
    here.ip("link", "set", "mac0", "up")
    port, sender = open_port(here, ifname="mac0"), open_sender(there)
    with sender:
        if address == "all nodes":
            assert passed(port, sender, frames.announcement(OTHER, ip(V6))) == 1
        else:
            assert passed(port, sender, frames.probe(OTHER, ip(V6))) == 0
            for _ in range(2):  # again is nothing
                port.join(IPv6Address(V6))
            assert passed(port, sender, frames.probe(OTHER, ip(V6))) == 1
    port.close()


def test_link_is_neither_promiscuous_nor_allmulti(ends: tuple[Namespace, Namespace]) -> None:
    port = open_port(ends[0])
    flags = int(ends[0].exec("cat", "/sys/class/net/eth0/flags"), 16)
    assert flags & (IFF_PROMISC | IFF_ALLMULTI) == 0
    port.close()
