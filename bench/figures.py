"""Figures of the running lab: `make bench-lab`. It needs `make lab` first and leaves the lab as it was.

Prints: a Service's file written → its route in the router's FIB (minimum, median, p99 of 50), 1,000 Services in one
file until all are routed over three nodes and until all take a connection, and the memory of every process.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab import processes
from lab.__main__ import default_lab
from lab.topology import NODES, Lab
from tests.e2e import many
from tests.e2e.laboratory import put, service

ROUNDS, COUNT, DEADLINE = 50, 1000, 120.0


def main() -> int:
    lab = default_lab()
    clear(lab)  # of a run that was killed
    put(lab, "many-pool.yaml", many.group())
    try:
        latencies = [one_service(lab, number) for number in range(ROUNDS)]
        show("Service file written → route in the FIB over 3 nodes, 50 times", latencies)
        start = time.monotonic()
        put(lab, "many.yaml", many.services(COUNT))
        wait(lambda: many.host_routes(lab) == COUNT, pause=0.02)
        say(f"{COUNT} Services in one file → all routed over 3 nodes: {time.monotonic() - start:.2f} s")
        say(f"reachable from ann-host: {many.reachable(lab, COUNT)} of {COUNT}")
        memory(lab)
    finally:
        clear(lab)
    return 0


def clear(lab: Lab) -> None:
    """Take away what this puts into the folder, and wait until the router has followed."""
    for name in ("bench.yaml", "many.yaml"):
        (lab.manifests / name).unlink(missing_ok=True)
    wait(lambda: many.host_routes(lab) == 0, pause=0.1)
    (lab.manifests / "many-pool.yaml").unlink(missing_ok=True)


def one_service(lab: Lab, number: int) -> float:
    """Seconds from the file in the folder to the route in the kernel of the router."""
    before = many.host_routes(lab)
    start = time.monotonic()
    file = put(lab, "bench.yaml", service(f"bench-{number}", many.POOL))
    wait(lambda: many.host_routes(lab) > before, pause=0.001)
    taken = time.monotonic() - start
    file.unlink()
    wait(lambda: many.next_hops(lab) == before, pause=0.02)  # by any node: while all drain, all are used again
    return taken


def wait(condition: Callable[[], bool], *, pause: float) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the lab did not follow")
        time.sleep(pause)


def show(what: str, seconds: list[float]) -> None:
    """The router polls: each look takes about 3 ms, which is in the figures."""
    ranked = sorted(seconds)
    p99 = ranked[min(len(ranked) - 1, round(len(ranked) * 0.99))]
    middle = statistics.median(ranked)
    say(f"{what}: min {ranked[0] * 1000:.0f} ms, median {middle * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")


def memory(lab: Lab) -> None:
    for name in (*(f"{kind}-{node.name}" for node in NODES[:1] for kind in ("agent", "exabgp")), "allocator"):
        pid = processes.find(lab, name)
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        rss = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
        say(f"RSS of {name}: {int(rss) / 1024:.0f} MB")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
