"""Figures of the running lab: `make bench-lab`. It needs `make lab` first and leaves the lab as it was.

Prints: a Service's file written → its route in the router's FIB (minimum, median, p99 of 50), 1,000 Services in one
file until all are routed over three nodes and until all take a connection, and the memory of every process.
"""

import os
import selectors
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import processes
from lab.__main__ import default_lab
from lab.command import inside
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
    with route_changes(lab) as changed:
        start = time.monotonic()
        file = put(lab, "bench.yaml", service(f"bench-{number}", many.POOL))
        while changed() and many.host_routes(lab) == before:
            pass
        taken = time.monotonic() - start
    file.unlink()
    wait(lambda: many.next_hops(lab) == before, pause=0.02)  # by any node: while all drain, all are used again
    return taken


@contextmanager
def route_changes(lab: Lab) -> Iterator[Callable[[], bool]]:
    """What returns True with the next change of a route in the router's kernel. Nobody polls meanwhile: on a machine
    that is the whole lab, that would slow down what is measured. TimeoutError where there is none.
    """
    argv = inside(lab.namespace("tor"), ["ip", "-o", "monitor", "route"])
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as monitor, selectors.DefaultSelector() as selector:
        assert monitor.stdout is not None
        selector.register(monitor.stdout, selectors.EVENT_READ)

        def changed() -> bool:
            if not selector.select(DEADLINE):
                raise TimeoutError("the lab did not follow")
            return bool(os.read(monitor.stdout.fileno(), 65536))  # type: ignore[union-attr]

        try:
            wait(lambda: _listens(monitor.pid), pause=0.01)
            yield changed
        finally:
            monitor.terminate()


def _listens(pid: int) -> bool:
    """Whether the process has opened its netlink socket."""
    with suppress(OSError):
        return any(str(link.readlink()).startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def wait(condition: Callable[[], bool], *, pause: float) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the lab did not follow")
        time.sleep(pause)


def show(what: str, seconds: list[float]) -> None:
    """Each look at the router, after a change of its, takes about 3 ms, which is in the figures."""
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
