"""The cBPF program of a packet socket: what the kernel drops never costs this process anything.

| let through | condition |
|---|---|
| ARP (Ethernet and IPv4, request or reply) | its spa, or for a probe its tpa, is within the ranges |
| ICMPv6 types 135 and 136 | hop limit 255; the address that they tell of is within the ranges |
| probes of either | only while they are wanted: of all frames of a calm segment they are the most |
| ICMP type 0, ICMPv6 type 129 | the identifier is ours |

Everything else is dropped, and so are frames of another VLAN (the socket sees them with their tag stripped, RFC 826
couldn't tell them apart) and frames to another host's MAC (seen only while somebody else has made the link promiscuous:
what is heard doesn't depend on that). A tag with VLAN 0 has a priority only, IEEE 802.1Q §9.6.

A program can't look an address up in a set, and is bounded: the addresses are covered by at most RANGES_MOST ranges a
family, of IPv6 ones the last 32 bits. A pool is one or few ranges. What falls between two addresses of a range is let
through needlessly, so the reader looks again. Sources: linux/filter.h, networking/filter.rst.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

from announcer.core.model import IPAddress
from announcer.wire import echo, nd
from announcer.wire.layers import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ICMP, ICMPV6

RANGES_MOST = 48
LONGEST_FRAME = 2048  # bytes that are shown of a longer one
INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
ANCILLARY = 0xFFFFF000  # SKF_AD_OFF
PKTTYPE, VLAN_TAG = ANCILLARY + 4, ANCILLARY + 44
OTHERHOST = 3  # PACKET_OTHERHOST, linux/if_packet.h
ARP_REQUEST, ARP_REPLY = 0x06040001, 0x06040002  # hardware and protocol address length, operation
LD, LDH, LDB, LDX_IHL, LDH_X, LDB_X = 0x20, 0x28, 0x30, 0xB1, 0x48, 0x50  # LDX_IHL: 4 * IP header length
AND, JEQ, JGT, JGE, JSET, RET = 0x54, 0x15, 0x25, 0x35, 0x45, 0x06

Range = tuple[int, int]
Label = str
Line = Label | tuple[int, int] | tuple[int, int, Label, Label]
"""A label; an instruction and its operand; or a jump: operand, where to if true, where to if not ("" is the next).
Jumps lead forward, over 255 instructions at most; that is what bounds RANGES_MOST.
"""


def program(identifier: int, addresses: Iterable[IPAddress] | None = None, *, probes: bool = True) -> bytes:
    """The array of struct sock_filter. `addresses` None lets ARP and neighbor discovery of all addresses through."""
    v4, v6 = _ranges(addresses, 4), _ranges(addresses, 6)
    v4_probe, v6_probe = ("", "nd target") if probes else ("drop", "ipv6 drop")
    lines: list[Line] = [
        (LD, VLAN_TAG), (AND, 0x0FFF), (JEQ, 0, "", "drop"),
        (LD, PKTTYPE), (JEQ, OTHERHOST, "drop", ""),
        (LDH, 12), (JEQ, ETH_P_ARP, "arp", ""), (JEQ, ETH_P_IPV6, "ipv6", ""), (JEQ, ETH_P_IP, "ipv4", "drop"),
        "ipv4",
        (LDB, 23), (JEQ, ICMP, "", "drop"),
        (LDH, 20), (JSET, 0x3FFF, "drop", ""),  # a fragment
        (LDX_IHL, 14), (LDB_X, 14), (JEQ, echo.REPLY_V4, "", "drop"),
        (LDH_X, 18), (JEQ, identifier, "take", "drop"),
        "arp",
        (LD, 14), (JEQ, 1 << 16 | ETH_P_IP, "", "drop"),
        (LD, 18), (JEQ, ARP_REQUEST, "arp sender", ""), (JEQ, ARP_REPLY, "", "drop"),
        "arp sender",
        (LD, 28), (JEQ, 0, v4_probe, "arp ranges"),  # spa is zero: a probe
        (LD, 38),
        "arp ranges", *_within(v4, "take", "drop"),
        "drop", (RET, 0),
        "take", (RET, LONGEST_FRAME),
        "ipv6",
        (LDB, 20), (JEQ, ICMPV6, "", "ipv6 drop"),
        (LDB, 54), (JEQ, echo.REPLY_V6, "", "nd"),
        (LDH, 58), (JEQ, identifier, "ipv6 take", "ipv6 drop"),
        "nd",
        (LDB, 21), (JEQ, nd.HOP_LIMIT, "", "ipv6 drop"),
        (LDB, 54), (JEQ, nd.ADVERTISEMENT, "nd target", ""), (JEQ, nd.SOLICITATION, "", "ipv6 drop"),
        (LD, 34), (JEQ, 0, v6_probe, "nd ranges"),  # the source, as good as zero: duplicate address detection
        "nd target", (LD, 74),
        "nd ranges", *_within(v6, "ipv6 take", "ipv6 drop"),
        "ipv6 drop", (RET, 0),
        "ipv6 take", (RET, LONGEST_FRAME),
    ]  # fmt: skip
    return _assemble(lines)


def _within(ranges: list[Range] | None, yes: Label, no: Label) -> list[Line]:
    """Jump by whether the accumulator is in a range, and fall through if not; ascending, so below all ends at once."""
    if ranges is None:
        return [(RET, LONGEST_FRAME)]
    return [test for low, high in ranges for test in ((JGE, low, "", no), (JGT, high, "", yes))]


def _ranges(addresses: Iterable[IPAddress] | None, version: int) -> list[Range] | None:
    """At most RANGES_MOST, ascending: the smallest gaps between addresses are closed until they are so few."""
    if addresses is None:
        return None
    numbers = sorted({int(a) & 0xFFFFFFFF for a in addresses if a.version == version})
    if not numbers:
        return []
    gaps = sorted(((b - a, b) for a, b in pairwise(numbers) if b - a > 1), reverse=True)
    starts = sorted([numbers[0], *(b for _, b in gaps[: RANGES_MOST - 1])])
    ends = [numbers[bisect_left(numbers, start) - 1] for start in starts[1:]]
    return list(zip(starts, [*ends, numbers[-1]], strict=True))


def _assemble(lines: list[Line]) -> bytes:
    places: dict[Label, int] = {}
    instructions: list[tuple[int, int] | tuple[int, int, Label, Label]] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    return b"".join(_pack(at, line, places) for at, line in enumerate(instructions))


def _pack(at: int, line: tuple[int, int] | tuple[int, int, Label, Label], places: dict[Label, int]) -> bytes:
    if len(line) == 2:
        return INSTRUCTION.pack(line[0], 0, 0, line[1])
    code, operand, true, false = line
    jumps = [places[label] - at - 1 if label else 0 for label in (true, false)]
    return INSTRUCTION.pack(code, *jumps, operand)
