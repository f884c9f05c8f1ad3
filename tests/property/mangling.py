"""Frames nearly right: real ones with bytes changed, cut and added, half of them with their checksums mended so that
what checks them first doesn't hide what reads on. `python -m tests.property.mangling 1000000` parses that many.
"""

import random
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from announcer.wire import frames
from announcer.wire.layers import ETH_P_IP, ETH_P_IPV6, ICMPV6, checksum

MAC, OTHER = "02:00:00:00:00:02", "02:00:00:00:00:03"
SAID = (0x1234, 7, b"eight by")
PAIRS = ((IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9")), (IPv6Address("fd00::1"), IPv6Address("fd00::9")))
LIKELY = (0, 1, 2, 4, 6, 8, 58, 127, 128, 129, 135, 136, 255)
"""Bytes that mean something somewhere: lengths, types, protocols."""


def whole() -> list[bytes]:
    """One frame of every kind that is built."""
    found: list[bytes] = []
    for one, other in PAIRS:
        found += [frames.probe(MAC, one), frames.announcement(MAC, one)]
        found += [frames.request(MAC, one, asks=other), frames.request(MAC, one, asks=other, to=OTHER)]
        echoes = (frames.echo_request, frames.echo_reply)
        found += [build(MAC, OTHER, source=one, target=other, said=SAID) for build in echoes]
    tagged = bytes.fromhex("8100000a")
    return found + [frame[:12] + tagged + frame[12:] for frame in found[:2]]


def mangled(seed: int) -> Iterator[bytes]:
    dice, sources = random.Random(seed), whole()
    while True:
        frame = bytearray(dice.choice(sources))
        for _ in range(dice.randrange(5)):
            frame[dice.randrange(len(frame))] = dice.choice(LIKELY) if dice.random() < 0.5 else dice.randrange(256)
        if dice.random() < 0.3:
            del frame[dice.randrange(len(frame) + 1) :]
        if dice.random() < 0.3:
            frame += dice.randbytes(dice.randrange(40))
        yield _mended(frame) if dice.random() < 0.5 else bytes(frame)


def _mended(frame: bytearray) -> bytes:
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETH_P_IP and len(frame) >= 42:
        header = (frame[14] & 0xF) * 4
        _mend(frame, 14, 14 + header, 24)
        _mend(frame, 14 + header, 14 + int.from_bytes(frame[16:18], "big"), 14 + header + 2)
    elif ethertype == ETH_P_IPV6 and len(frame) >= 58:
        frame[18:20] = (len(frame) - 54).to_bytes(2, "big")
        body = bytes(frame[54:56]) + b"\0\0" + bytes(frame[58:])
        pseudo = bytes(frame[22:54]) + len(body).to_bytes(4, "big") + ICMPV6.to_bytes(4, "big")
        frame[56:58] = checksum(pseudo + body).to_bytes(2, "big")
    return bytes(frame)


def _mend(frame: bytearray, start: int, end: int, at: int) -> None:
    if start < end <= len(frame) and at + 2 <= end:
        frame[at : at + 2] = b"\0\0"
        frame[at : at + 2] = checksum(bytes(frame[start:end])).to_bytes(2, "big")


def parsed(seed: int, count: int) -> dict[str, int]:
    """How many of that many frames gave which value; whatever `parse` raises goes on."""
    found: dict[str, int] = {}
    for frame in islice(mangled(seed), count):
        name = type(frames.parse(frame)).__name__
        found[name] = found.get(name, 0) + 1
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    began = time.perf_counter()
    found = parsed(seed, count)
    rate = count / (time.perf_counter() - began)
    print(f"{count} mangled frames, seed {seed}: {found}; no exception; {rate:,.0f} frames/s made and parsed")


if __name__ == "__main__":
    main()
