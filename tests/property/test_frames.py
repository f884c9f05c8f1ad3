"""codecs: decode of encode is the value; no frame, however mangled, raises or says something impossible."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from announcer.wire import frames
from announcer.wire.frames import Asked, Echoed, Shown
from announcer.wire.layers import checksum
from tests.property.mangling import mangled, parsed, whole

MACS = st.binary(min_size=6, max_size=6).filter(lambda b: not b[0] & 1 and any(b)).map(lambda b: b.hex(":"))
IPV4 = st.ip_addresses(v=4).filter(lambda a: int(a) >> 24 not in {0, 127} and int(a) >> 24 < 224)
IPV6 = st.ip_addresses(v=6).filter(lambda a: not a.is_unspecified and not a.is_multicast)
ADDRESSES = IPV4 | IPV6
PAIRS = st.tuples(IPV4, IPV4) | st.tuples(IPV6, IPV6)
SAID = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=40))
Address = IPv4Address | IPv6Address
MANGLED = 100_000


@given(MACS, ADDRESSES)
def test_announcement_says_who_holds_what(mac: str, address: Address) -> None:
    assert frames.parse(frames.announcement(mac, address)) == Shown(address, mac)


@given(MACS, ADDRESSES)
def test_probe_asks_and_claims_nothing(mac: str, address: Address) -> None:
    assert frames.parse(frames.probe(mac, address)) == Asked(address, mac)


@given(MACS, PAIRS, st.none() | MACS)
def test_request_says_who_holds_what(mac: str, pair: tuple[Address, Address], to: str | None) -> None:
    assert frames.parse(frames.request(mac, pair[0], asks=pair[1], to=to)) == Shown(pair[0], mac)


@given(MACS, MACS, PAIRS, SAID)
def test_echo_reply_repeats_what_was_said(
    mac: str, to: str, pair: tuple[Address, Address], said: tuple[int, int, bytes]
) -> None:
    source, target = pair
    assert frames.parse(frames.echo_reply(mac, to, source=source, target=target, said=said)) == Echoed(
        source, mac, *said
    )
    assert frames.parse(frames.echo_request(mac, to, source=source, target=target, said=said)) is None


@given(st.binary(max_size=200))
def test_checksum_is_the_one_by_words(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == ~total & 0xFFFF


@given(st.binary(max_size=128))
def test_anybodys_bytes_raise_nothing(frame: bytes) -> None:
    frames.parse(frame)


@given(st.sampled_from(whole()), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_changed_bytes_raise_nothing(frame: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(frame)
    for at, value in changes:
        changed[at % len(changed)] = value
    frames.parse(bytes(changed))


def test_mangled_frames_raise_nothing() -> None:
    """`make fuzz-frames` does more. All kinds of values come out: the frames are near enough to right ones."""
    assert parsed(seed=1, count=MANGLED).keys() == {"NoneType", "Shown", "Asked", "Echoed"}


def test_mangled_frames_say_nothing_impossible() -> None:
    for frame in islice(mangled(seed=2), 20_000):
        seen = frames.parse(frame)
        if seen is None:
            continue
        mac = bytes.fromhex(seen.lladdr.replace(":", ""))
        assert len(mac) == 6
        assert any(mac)
        assert not mac[0] & 1
        assert seen.address == ip_address(str(seen.address))
        assert not seen.address.is_multicast
        assert not seen.address.is_unspecified
