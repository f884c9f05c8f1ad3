"""The cBPF program as values: its size, its jumps, and that no address is left out. What it does: integration."""

import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from announcer.core.model import IPAddress
from announcer.wire import frames
from announcer.wire.filters import (
    AND,
    INSTRUCTION,
    JEQ,
    JGE,
    JGT,
    JSET,
    LD,
    LDB,
    LDB_X,
    LDH,
    LDH_X,
    LDX_IHL,
    LONGEST_FRAME,
    RANGES_MOST,
    RET,
    VLAN_TAG,
    program,
)
from tests.builders import ip

MAC, OURS = "02:00:00:00:00:03", 0x1234
SIZES = {LD: 4, LDH: 2, LDB: 1, LDH_X: 2, LDB_X: 1}
JUMPS: dict[int, Callable[[int, int], bool]] = {
    JEQ: lambda a, k: a == k,
    JGT: lambda a, k: a > k,
    JGE: lambda a, k: a >= k,
    JSET: lambda a, k: bool(a & k),
}


def instructions(code: bytes) -> Iterator[tuple[int, int, int, int]]:
    return INSTRUCTION.iter_unpack(code)


def lets_through(code: bytes, frame: bytes, *, vlan: int = 0, pkttype: int = 0) -> bool:
    """What the kernel's interpreter would say (net/core/filter.c); a load beyond the frame drops it."""
    lines, at, a, x = list(instructions(code)), 0, 0, 0
    while True:
        op, true, false, k = lines[at]
        at += 1
        if op == RET:
            return k > 0
        if op in JUMPS:
            at += true if JUMPS[op](a, k) else false
        elif op == AND:
            a &= k
        elif op == LDX_IHL:
            x = (frame[k] & 0xF) * 4
        elif k >= 0xFFFFF000:
            a = vlan if k == VLAN_TAG else pkttype
        else:
            start = k + (x if op in {LDH_X, LDB_X} else 0)
            if start + SIZES[op] > len(frame):
                return False
            a = int.from_bytes(frame[start : start + SIZES[op]], "big")


ADDRESSES = st.sets(
    st.integers(1 << 24, (127 << 24) - 1).map(lambda n: ip(str(n // (1 << 24)) + ".0.0.1"))
    | st.ip_addresses(v=4).filter(lambda a: 0 < int(a) >> 24 < 224 and int(a) >> 24 != 127)
    | st.ip_addresses(v=6).filter(lambda a: not a.is_multicast and int(a) & 0xFFFFFFFF),
    max_size=150,
)


@given(ADDRESSES)
def test_every_address_that_is_listened_for_is_let_through(addresses: set[IPAddress]) -> None:
    code = program(OURS, addresses)
    for address in addresses:
        assert lets_through(code, frames.announcement(MAC, address))
        assert lets_through(code, frames.probe(MAC, address))


@given(ADDRESSES)
def test_probes_are_dropped_while_nobody_wants_them_and_nothing_else(addresses: set[IPAddress]) -> None:
    code = program(OURS, addresses, probes=False)
    for address in addresses:
        assert lets_through(code, frames.announcement(MAC, address))
        assert not lets_through(code, frames.probe(MAC, address))


def test_neighbors_of_few_addresses_are_dropped() -> None:
    code = program(OURS, [ip("10.0.0.5"), ip("fd00::5")])
    for text in ("10.0.0.4", "10.0.0.6", "fd00::4", "fd00::6"):
        assert not lets_through(code, frames.announcement(MAC, ip(text)))
        assert not lets_through(code, frames.probe(MAC, ip(text)))


@pytest.mark.parametrize(("count", "ranges"), [(0, 0), (1, 1), (RANGES_MOST, RANGES_MOST), (1000, RANGES_MOST)])
def test_ranges_are_bounded(count: int, ranges: int) -> None:
    spread = [ip(f"10.{n % 250}.{n // 250}.7") for n in range(count)]
    tests = sum(op == JGE for op, _, _, _ in instructions(program(OURS, spread)))
    assert tests == ranges


def test_neighboring_addresses_are_one_range() -> None:
    pool = [ip(f"10.111.111.{n}") for n in range(100, 200)]
    assert sum(op == JGE for op, _, _, _ in instructions(program(OURS, pool))) == 1


def test_without_addresses_all_are_let_through() -> None:
    assert lets_through(program(OURS), frames.probe(MAC, ip("10.0.0.5")))
    assert lets_through(program(OURS), frames.announcement(MAC, ip("fd00::5")))
    assert not lets_through(program(OURS, []), frames.announcement(MAC, ip("10.0.0.5")))


@pytest.mark.parametrize(("vlan", "passes"), [(0, True), (0xE000, True), (10, False), (0xE00A, False)])
def test_tag_decides_by_its_vlan(vlan: int, passes: bool) -> None:
    assert lets_through(program(OURS), frames.probe(MAC, ip("10.0.0.5")), vlan=vlan) is passes


def test_frames_to_other_hosts_are_dropped() -> None:
    assert not lets_through(program(OURS), frames.probe(MAC, ip("10.0.0.5")), pkttype=3)


def test_identifier_decides_on_echo_replies() -> None:
    for here, there in (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")):
        for identifier in (OURS, OURS + 1):
            said = (identifier, 1, b"")
            reply = frames.echo_reply(MAC, MAC, source=ip(here), target=ip(there), said=said)
            assert lets_through(program(OURS, []), reply) is (identifier == OURS)


def test_program_is_whole_instructions_that_take_at_most_the_longest_frame() -> None:
    code = program(OURS, [ip("10.0.0.5")])
    assert len(code) % struct.calcsize("=HBBI") == 0
    assert {k for op, _, _, k in instructions(code) if op == RET} == {0, LONGEST_FRAME}
