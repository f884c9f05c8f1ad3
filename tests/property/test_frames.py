"""codecs: decode of encode is the value; no frame, however mangled, raises."""

import random
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from announcer.wire import frames

MACS = st.binary(min_size=6, max_size=6).filter(lambda b: not b[0] & 1 and any(b)).map(lambda b: b.hex(":"))
ADDRESSES = st.ip_addresses().filter(lambda a: not a.is_unspecified and not a.is_multicast)
MANGLED = 200_000


@given(MACS, ADDRESSES)
def test_announcement_says_who_holds_what(mac: str, address: IPv4Address | IPv6Address) -> None:
    assert frames.parse(frames.announcement(mac, address)) == (address, mac)


@given(MACS, ADDRESSES)
def test_probe_claims_nothing(mac: str, address: IPv4Address | IPv6Address) -> None:
    assert frames.parse(frames.probe(mac, address)) is None


@given(st.binary(max_size=128))
def test_anybodys_bytes_raise_nothing(frame: bytes) -> None:
    frames.parse(frame)


def test_mangled_frames_raise_nothing() -> None:
    """Real frames with bytes changed, cut and added: nearer to the edge than random bytes ever come."""
    dice = random.Random(1)
    addresses = (IPv4Address("10.0.0.1"), IPv6Address("fd00::1"))
    whole = [build("02:00:00:00:00:02", a) for a in addresses for build in (frames.probe, frames.announcement)]
    for _ in range(MANGLED):
        frame = bytearray(dice.choice(whole))
        for _ in range(dice.randrange(4)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        cut = dice.randrange(len(frame) + 1) if dice.random() < 0.3 else len(frame)
        frames.parse(bytes(frame[:cut]) + dice.randbytes(dice.randrange(4)))
