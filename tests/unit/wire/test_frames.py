"""Frames byte for byte against scapy, and everything that is no such frame."""

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from announcer.wire import frames
from tests.builders import ip

MAC, OTHER = "02:00:00:00:00:02", "02:00:00:00:00:03"
V4, V6 = "10.111.111.100", "fd00:113::a1b2:c3d4"
BROADCAST, ZERO = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"


def test_arp_probe_is_scapys() -> None:
    wanted = Ether(src=MAC, dst=BROADCAST) / ARP(op=1, hwsrc=MAC, psrc="0.0.0.0", hwdst=ZERO, pdst=V4)
    assert frames.probe(MAC, ip(V4)) == bytes(wanted)


def test_arp_announcement_is_scapys() -> None:
    wanted = Ether(src=MAC, dst=BROADCAST) / ARP(op=1, hwsrc=MAC, psrc=V4, hwdst=ZERO, pdst=V4)
    assert frames.announcement(MAC, ip(V4)) == bytes(wanted)


def test_dad_solicitation_is_scapys() -> None:
    head = Ether(src=MAC, dst="33:33:ff:b2:c3:d4") / IPv6(src="::", dst="ff02::1:ffb2:c3d4", hlim=255)
    assert frames.probe(MAC, ip(V6)) == bytes(head / ICMPv6ND_NS(tgt=V6))


def test_unsolicited_advertisement_is_scapys() -> None:
    head = Ether(src=MAC, dst="33:33:00:00:00:01") / IPv6(src=V6, dst="ff02::1", hlim=255)
    wanted = head / ICMPv6ND_NA(R=0, S=0, O=1, tgt=V6) / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    assert frames.announcement(MAC, ip(V6)) == bytes(wanted)


@pytest.mark.parametrize(
    ("frame", "holder"),
    [
        (Ether(src=OTHER) / ARP(op=2, hwsrc=OTHER, psrc=V4, hwdst=MAC, pdst="10.0.0.1"), (V4, OTHER)),
        (Ether(src=OTHER) / ARP(op=1, hwsrc=OTHER, psrc=V4, pdst="10.0.0.9"), (V4, OTHER)),
        (Ether(src=OTHER) / IPv6(src=V6, hlim=255) / ICMPv6ND_NA(tgt=V6), (V6, OTHER)),
        (Ether(src=OTHER) / ARP(op=1, hwsrc=OTHER, psrc="0.0.0.0", pdst=V4), None),
        (Ether(src=OTHER) / ARP(op=3, hwsrc=OTHER, psrc=V4), None),
        (Ether(src=OTHER) / ARP(op=2, hwsrc=BROADCAST, psrc=V4), None),
        (Ether(src=OTHER) / ARP(op=2, hwlen=8, hwsrc=OTHER, psrc=V4), None),
        (Ether(src=OTHER) / IPv6(src=V6, hlim=64) / ICMPv6ND_NA(tgt=V6), None),
        (Ether(src=OTHER) / IPv6(src=V6, hlim=255) / ICMPv6ND_NA(tgt=V6, code=1), None),
        (Ether(src=OTHER) / IPv6(src=V6, hlim=255) / ICMPv6ND_NA(tgt="ff02::1"), None),
        (Ether(src=OTHER) / IPv6(src=V6, hlim=255) / ICMPv6ND_NA(tgt=V6, cksum=1), None),
        (Ether(src=OTHER) / IPv6(src="::", hlim=255) / ICMPv6ND_NS(tgt=V6), None),
        (Ether(src=OTHER) / IPv6(src=V6, hlim=255) / ICMPv6ND_NA(tgt=V6) / ICMPv6NDOptDstLLAddr(len=0), None),
    ],
)
def test_parse_tells_who_shows_to_hold_what(frame: Ether, holder: tuple[str, str] | None) -> None:
    assert frames.parse(bytes(frame)) == (holder and (ip(holder[0]), holder[1]))
