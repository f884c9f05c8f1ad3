"""Frames byte for byte against scapy, and everything that is no such frame."""

from collections.abc import Callable

import pytest
from scapy.layers.inet import ICMP, IP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether

from announcer.wire import frames
from announcer.wire.frames import Asked, Echoed, Seen, Shown
from tests.builders import ip

MAC, OTHER = "02:00:00:00:00:02", "02:00:00:00:00:03"
V4, V6 = "10.111.111.100", "fd00:113::a1b2:c3d4"
HOST4, HOST6 = "10.111.111.1", "fd00:113::1"
BROADCAST, ZERO = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"
GROUP_MAC, GROUP = "33:33:ff:b2:c3:d4", "ff02::1:ffb2:c3d4"
SAID = (0x1234, 0xFFFE, b"odd payload")
Build = Callable[..., bytes]
SHOWN4, SHOWN6 = Shown(ip(V4), OTHER), Shown(ip(V6), OTHER)


def test_arp_probe_is_scapys() -> None:
    wanted = Ether(src=MAC, dst=BROADCAST) / ARP(op=1, hwsrc=MAC, psrc="0.0.0.0", hwdst=ZERO, pdst=V4)
    assert frames.probe(MAC, ip(V4)) == bytes(wanted)


def test_arp_announcement_is_scapys() -> None:
    wanted = Ether(src=MAC, dst=BROADCAST) / ARP(op=1, hwsrc=MAC, psrc=V4, hwdst=ZERO, pdst=V4)
    assert frames.announcement(MAC, ip(V4)) == bytes(wanted)


@pytest.mark.parametrize(("to", "dst"), [(None, BROADCAST), (OTHER, OTHER)])
def test_arp_request_is_scapys(to: str | None, dst: str) -> None:
    wanted = Ether(src=MAC, dst=dst) / ARP(op=1, hwsrc=MAC, psrc=V4, hwdst=ZERO, pdst=HOST4)
    assert frames.request(MAC, ip(V4), asks=ip(HOST4), to=to) == bytes(wanted)


def test_dad_solicitation_is_scapys() -> None:
    head = Ether(src=MAC, dst=GROUP_MAC) / IPv6(src="::", dst=GROUP, hlim=255)
    assert frames.probe(MAC, ip(V6)) == bytes(head / ICMPv6ND_NS(tgt=V6))


def test_unsolicited_advertisement_is_scapys() -> None:
    head = Ether(src=MAC, dst="33:33:00:00:00:01") / IPv6(src=V6, dst="ff02::1", hlim=255)
    wanted = head / ICMPv6ND_NA(R=0, S=0, O=1, tgt=V6) / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    assert frames.announcement(MAC, ip(V6)) == bytes(wanted)


@pytest.mark.parametrize(
    ("to", "mac", "dst"), [(None, "33:33:ff:00:00:01", "ff02::1:ff00:1"), (OTHER, OTHER, HOST6)], ids=["group", "one"]
)
def test_solicitation_is_scapys(to: str | None, mac: str, dst: str) -> None:
    head = Ether(src=MAC, dst=mac) / IPv6(src=V6, dst=dst, hlim=255)
    wanted = head / ICMPv6ND_NS(tgt=HOST6) / ICMPv6NDOptSrcLLAddr(lladdr=MAC)
    assert frames.request(MAC, ip(V6), asks=ip(HOST6), to=to) == bytes(wanted)


@pytest.mark.parametrize(("build", "kind"), [(frames.echo_request, 8), (frames.echo_reply, 0)])
@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
def test_icmp_echo_is_scapys(build: Build, kind: int, payload: bytes) -> None:
    head = Ether(src=MAC, dst=OTHER) / IP(src=V4, dst=HOST4, ttl=1, tos=0xC0, id=0, flags="DF")
    wanted = head / ICMP(type=kind, id=1, seq=65535) / payload
    assert build(MAC, OTHER, source=ip(V4), target=ip(HOST4), said=(1, 65535, payload)) == bytes(wanted)


@pytest.mark.parametrize(
    ("build", "kind"), [(frames.echo_request, ICMPv6EchoRequest), (frames.echo_reply, ICMPv6EchoReply)]
)
@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
def test_icmpv6_echo_is_scapys(build: Build, kind: type, payload: bytes) -> None:
    head = Ether(src=MAC, dst=OTHER) / IPv6(src=V6, dst=HOST6, hlim=1, tc=0xC0)
    wanted = head / kind(id=1, seq=65535, data=payload)
    assert build(MAC, OTHER, source=ip(V6), target=ip(HOST6), said=(1, 65535, payload)) == bytes(wanted)


def arp(**fields: object) -> Ether:
    return Ether(src=OTHER, dst=MAC) / ARP(
        **({"op": 2, "hwsrc": OTHER, "psrc": V4, "hwdst": MAC, "pdst": HOST4} | fields)
    )


ARP_ROWS: dict[str, tuple[Ether, Seen | None]] = {
    "reply": (arp(), SHOWN4),
    "request": (arp(op=1), SHOWN4),
    "padded to 60 bytes": (arp() / (b"\xaa" * 18), SHOWN4),
    "oversized": (arp() / (b"\xaa" * 9000), SHOWN4),
    "probe": (arp(op=1, psrc="0.0.0.0", pdst=V4), Asked(ip(V4), OTHER)),
    "probe of nothing": (arp(op=1, psrc="0.0.0.0", pdst="0.0.0.0"), None),
    "reply from nobody": (arp(psrc="0.0.0.0"), None),
    "reverse ARP": (arp(op=3), None),
    "sha broadcast": (arp(hwsrc=BROADCAST), None),
    "sha a group": (arp(hwsrc="01:00:5e:00:00:01"), None),
    "sha zero": (arp(hwsrc=ZERO), None),
    "htype of IEEE 802": (arp(hwtype=6), None),
    "ptype of IPv6": (arp(ptype=0x86DD), None),
    "hlen 8": (arp(hwlen=8), None),
    "hlen 0": (arp(hwlen=0), None),
    "plen 16": (arp(plen=16), None),
    "spa loopback": (arp(psrc="127.0.0.1"), None),
    "spa multicast": (arp(psrc="224.0.0.1"), None),
    "spa broadcast": (arp(psrc="255.255.255.255"), None),
    "a tag of another VLAN in it": (Ether(src=OTHER, dst=MAC) / Dot1Q(vlan=10) / arp().payload, None),
    "two tags in it": (Ether(src=OTHER, dst=MAC, type=0x88A8) / Dot1Q(vlan=1) / Dot1Q(vlan=10) / arp().payload, None),
}


def na(*, hlim: int = 255, dst: str = "ff02::1", **fields: object) -> Ether:
    return (
        Ether(src=OTHER, dst=MAC)
        / IPv6(src=V6, dst=dst, hlim=hlim)
        / ICMPv6ND_NA(**({"tgt": V6, "S": 0, "R": 0} | fields))
    )


def ns(src: str, *, dst: str = GROUP, **fields: object) -> Ether:
    return Ether(src=OTHER, dst=MAC) / IPv6(src=src, dst=dst, hlim=255) / ICMPv6ND_NS(**({"tgt": V6} | fields))


FROM6 = ICMPv6NDOptSrcLLAddr(lladdr=OTHER)
ND_ROWS: dict[str, tuple[Ether, Seen | None]] = {
    "advertisement without an option": (na(), SHOWN6),
    "advertisement with the option": (na() / ICMPv6NDOptDstLLAddr(lladdr=MAC), Shown(ip(V6), MAC)),
    "another option before it": (na() / FROM6 / ICMPv6NDOptDstLLAddr(lladdr=MAC), Shown(ip(V6), MAC)),
    "solicited, to one": (na(dst=HOST6, S=1), SHOWN6),
    "solicited, to a group": (na(S=1), None),
    "hop limit 64": (na(hlim=64), None),
    "code 1": (na(code=1), None),
    "target a group": (na(tgt="ff02::1"), None),
    "target unspecified": (na(tgt="::"), None),
    "wrong checksum": (na(cksum=1), None),
    "option's MAC a group": (na() / ICMPv6NDOptDstLLAddr(lladdr="33:33:00:00:00:01"), None),
    "option of length 0": (na() / ICMPv6NDOptDstLLAddr(len=0), None),
    "option longer than the message": (na() / ICMPv6NDOptDstLLAddr(len=2), None),
    "one byte of an option": (na() / b"\x02", None),
    "solicitation from an address": (ns(V6) / FROM6, SHOWN6),
    "solicitation without an option": (ns(V6), None),
    "solicitation of length 0 options": (ns(V6) / ICMPv6NDOptSrcLLAddr(len=0), None),
    "duplicate address detection": (ns("::"), Asked(ip(V6), OTHER)),
    "the same with an option": (ns("::") / FROM6, None),
    "the same to another group": (ns("::", dst="ff02::1"), None),
    "router advertisement": (Ether(src=OTHER, dst=MAC) / IPv6(src=V6, hlim=255) / ICMPv6ND_NA(type=134, tgt=V6), None),
    "behind hop-by-hop options": (
        Ether(src=OTHER, dst=MAC)
        / IPv6(src=V6, dst="ff02::1", hlim=255)
        / IPv6ExtHdrHopByHop()
        / ICMPv6ND_NA(tgt=V6, S=0),
        None,
    ),
    "a fragment": (
        Ether(src=OTHER, dst=MAC)
        / IPv6(src=V6, dst="ff02::1", hlim=255)
        / IPv6ExtHdrFragment()
        / ICMPv6ND_NA(tgt=V6, S=0),
        None,
    ),
    "IPv6 with nothing in it": (Ether(src=OTHER, dst=MAC) / IPv6(src=V6, nh=58, plen=0), None),
    "payload length beyond the frame": (
        Ether(src=OTHER, dst=MAC) / IPv6(src=V6, hlim=255, plen=99) / ICMPv6ND_NA(tgt=V6),
        None,
    ),
    "IP version 5": (Ether(src=OTHER, dst=MAC) / IPv6(version=5, src=V6, hlim=255) / ICMPv6ND_NA(tgt=V6), None),
}


def icmp(*, ip_fields: dict[str, object] | None = None, **fields: object) -> Ether:
    head = Ether(src=OTHER, dst=MAC) / IP(**({"src": V4, "dst": HOST4} | (ip_fields or {})))
    return head / ICMP(**({"type": 0, "id": SAID[0], "seq": SAID[1]} | fields)) / SAID[2]


ECHO4, ECHO6 = Echoed(ip(V4), OTHER, *SAID), Echoed(ip(V6), OTHER, *SAID)
ECHO_ROWS: dict[str, tuple[Ether, Seen | None]] = {
    "reply": (icmp(), ECHO4),
    "padded": (icmp(ip_fields={"len": 28 + len(SAID[2])}) / (b"\0" * 7), ECHO4),
    "IP options": (icmp(ip_fields={"options": [IPOption_NOP()] * 8}), ECHO4),
    "request": (icmp(type=8), None),
    "unreachable": (icmp(type=3), None),
    "code 1": (icmp(code=1), None),
    "wrong ICMP checksum": (icmp(chksum=1), None),
    "wrong IP checksum": (icmp(ip_fields={"chksum": 1}), None),
    "first fragment": (icmp(ip_fields={"flags": "MF"}), None),
    "later fragment": (icmp(ip_fields={"frag": 5}), None),
    "IHL 4": (icmp(ip_fields={"ihl": 4}), None),
    "IHL beyond the packet": (icmp(ip_fields={"ihl": 15, "len": 40}), None),
    "length beyond the frame": (icmp(ip_fields={"len": 1400}), None),
    "version 6": (icmp(ip_fields={"version": 6}), None),
    "UDP": (icmp(ip_fields={"proto": 17}), None),
    "from a group": (icmp(ip_fields={"src": "224.0.0.1"}), None),
    "IP alone": (Ether(src=OTHER, dst=MAC) / IP(src=V4, dst=HOST4, proto=1), None),
    "reply v6": (
        Ether(src=OTHER, dst=MAC) / IPv6(src=V6, dst=HOST6) / ICMPv6EchoReply(id=SAID[0], seq=SAID[1], data=SAID[2]),
        ECHO6,
    ),
    "request v6": (Ether(src=OTHER, dst=MAC) / IPv6(src=V6, dst=HOST6) / ICMPv6EchoRequest(), None),
    "reply v6, code 1": (Ether(src=OTHER, dst=MAC) / IPv6(src=V6, dst=HOST6) / ICMPv6EchoReply(code=1), None),
    "reply v6 from a group": (Ether(src="33:33:00:00:00:01") / IPv6(src=V6) / ICMPv6EchoReply(), None),
    "other ethertype": (Ether(src=OTHER, dst=MAC, type=0x88CC) / b"lldp", None),
}


def rows(table: dict[str, tuple[Ether, Seen | None]]) -> list[object]:
    return [pytest.param(bytes(frame), value, id=name) for name, (frame, value) in table.items()]


@pytest.mark.parametrize(("frame", "value"), rows(ARP_ROWS))
def test_arp_gives(frame: bytes, value: Seen | None) -> None:
    assert frames.parse(frame) == value


@pytest.mark.parametrize(("frame", "value"), rows(ND_ROWS))
def test_neighbor_discovery_gives(frame: bytes, value: Seen | None) -> None:
    assert frames.parse(frame) == value


@pytest.mark.parametrize(("frame", "value"), rows(ECHO_ROWS))
def test_echo_gives(frame: bytes, value: Seen | None) -> None:
    assert frames.parse(frame) == value


@pytest.mark.parametrize("frame", [bytes(t["reply" if t is not ND_ROWS else "solicitation from an address"][0])
                                   for t in (ARP_ROWS, ND_ROWS, ECHO_ROWS)])  # fmt: skip
def test_every_truncation_gives_nothing(frame: bytes) -> None:
    assert [frames.parse(frame[:size]) for size in range(len(frame))] == [None] * len(frame)
