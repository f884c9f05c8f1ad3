"""What the wire costs: frames/s decoded, and the share of a core that an ARP flood takes, beside tcpdump.

    python -m bench.wire [RUNS]

Each flood is 10,000 frames/s for 2 s, from one namespace of its own to another; tcpdump -w /dev/null listens to ARP on
the same link at the same time, so each pair of figures is of the same frames. The kernel's own work on a frame (the
filter among it) is counted on the sender's processor time here, as veth has it.
"""

import asyncio
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scapy.layers.l2 import Ether

from announcer.core.model import IPAddress, WireEvent
from announcer.wire import Wire, frames
from tests.builders import ip
from tests.integration.flooder import KINDS, flood
from tests.integration.netns import Namespace, cable, namespace
from tests.integration.test_wire_flood import eth0
from tests.property.mangling import OTHER, mangled, parsed, whole
from tests.waiting import until

RATE, SECONDS, RUNS = 10_000, 2.0, 3
DECODED, BY_SCAPY = 200_000, 2_000
LISTENS_FOR = [ip(f"10.111.111.{n}") for n in range(1, 251)] + [ip(f"10.112.{n}.7") for n in range(250)]
NS = 1_000_000_000


class Cost(NamedTuple):
    """Shares of a core, and what was read and dropped of what was sent."""

    ours: float
    tcpdump: float
    sent: int
    received: int
    captured: int
    dropped: int


def per_second(frame: bytes, count: int, parse: object) -> float:
    assert callable(parse)
    began = time.perf_counter()
    for _ in range(count):
        parse(frame)
    return count / (time.perf_counter() - began)


def show_decoding() -> None:
    v4, v6 = ip("10.111.111.100"), ip("fd00:111::100")
    said = (1, 2, b"eight by")
    kinds = {
        "ARP announcement": frames.announcement(OTHER, v4),
        "ARP probe": frames.probe(OTHER, v4),
        "neighbor advertisement": frames.announcement(OTHER, v6),
        "DAD solicitation": frames.probe(OTHER, v6),
        "ICMP echo reply": frames.echo_reply(OTHER, OTHER, source=v4, target=v4, said=said),
        "ICMPv6 echo reply": frames.echo_reply(OTHER, OTHER, source=v6, target=v6, said=said),
    }
    print(f"{'decoded':26}{'frames/s':>10}{'scapy':>9}{'ratio':>7}")
    for name, frame in kinds.items():
        ours, scapys = per_second(frame, DECODED, frames.parse), per_second(frame, BY_SCAPY, Ether)
        print(f"{name:26}{ours:10,.0f}{scapys:9,.0f}{ours / scapys:6.0f}x")
    began = time.perf_counter()
    parsed(1, DECODED)
    made_and_parsed = time.perf_counter() - began
    began = time.perf_counter()
    for _, _ in zip(range(DECODED), mangled(1), strict=False):
        pass
    only_made = time.perf_counter() - began
    print(f"{f'{len(whole())} kinds, mangled':26}{DECODED / (made_and_parsed - only_made):10,.0f}")


@contextmanager
def tcpdump(node: Namespace) -> Iterator[subprocess.Popen[str]]:
    argv = ["ip", "netns", "exec", node.name, "tcpdump", "-i", "eth0", "-n", "-p", "-w", "/dev/null", "arp"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert "listening" in process.stderr.readline()
            yield process
        finally:
            process.terminate()


def processor_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / NS


async def measure(here: Namespace, there: Namespace, kind: str, listens_for: list[IPAddress] | None) -> Cost:
    heard: list[WireEvent] = []
    with here.inside(), tcpdump(here) as peer:
        async with Wire(heard.extend) as wire:
            wire.set_links([await eth0()])
            wire.listen_for(listens_for)
            with flood(there, kind, rate=RATE, seconds=SECONDS) as flooder:
                began, used, theirs = time.monotonic(), time.process_time(), processor_seconds(peer.pid)
                await asyncio.sleep(SECONDS)
                took = time.monotonic() - began
                ours, its = (time.process_time() - used) / took, (processor_seconds(peer.pid) - theirs) / took
                assert flooder.stdout
                sent = int(flooder.stdout.read())
            wire.take()
            counters = next(iter(wire.counters().values()))
            peer.terminate()
            captured = re.search(r"(\d+) packets captured", peer.communicate(timeout=5)[1])
            assert captured
            return Cost(ours, its, sent, counters.received, int(captured[1]), counters.dropped)


def show_floods(runs: int) -> None:
    print(f"\n{'flood':8}{'listens for':>13}{'share':>8}{'(least, most)':>17}{'tcpdump':>9}{'ratio':>7}", end="")
    print(f"{'sent':>8}{'read':>8}{'dropped':>9}{'captured':>10}")
    for kind in KINDS:
        for listens_for in (None, LISTENS_FOR):
            costs = []
            for _ in range(runs):
                with namespace() as here, namespace() as there:
                    cable(here, "eth0", there, "eth0")
                    costs.append(asyncio.run(measure(here, there, kind, listens_for)))
            ours = [cost.ours for cost in costs]
            middle, peer = statistics.median(ours), statistics.median(cost.tcpdump for cost in costs)
            spread = f"({min(ours):.2%}, {max(ours):.2%})"
            what = "all" if listens_for is None else f"{len(listens_for)}"
            print(f"{kind:8}{what:>13}{middle:8.2%}{spread:>17}{peer:9.2%}{middle / peer:6.1f}x", end="")
            print(f"{costs[-1].sent:8}{costs[-1].received:8}{sum(cost.dropped for cost in costs):9}", end="")
            print(f"{costs[-1].captured:10}", flush=True)


async def idle() -> float:
    """What this process costs with nothing to hear."""
    with namespace() as here, namespace() as there:
        cable(here, "eth0", there, "eth0")
        with here.inside():
            async with Wire(lambda _: None) as wire:
                wire.set_links([await eth0()])
                await until(lambda: wire.counters())
                began, used = time.monotonic(), time.process_time()
                await asyncio.sleep(SECONDS)
                return (time.process_time() - used) / (time.monotonic() - began)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    print(f"Python {platform.python_version()}, Linux {platform.release()}; medians of {runs}\n")
    show_decoding()
    show_floods(runs)
    print(f"\nno frames: {asyncio.run(idle()):.2%} of a core")


if __name__ == "__main__":
    main()
