"""`make bench-bfd`: how long a client waits when a node falls into a black hole, with BFD of 3 x 100 ms.

    python -m bench.bfd [--runs 30] [--load 2] [--router frr|bird]

A lab of its own with lab/manifests/bfd, busy processes beside it, and a client outside that asks a virtual address
every millisecond. The node that answers it is taken off its switch; the link keeps its carrier. The outage runs from
the last answer to the first one of another node. Then the node's port is put back: how long until the router has it
again. The exit status is 0 only if every outage is within its bound. Needs root, some minutes.
"""

import argparse
import statistics
import sys
import time

from bench.bounds import Bounds
from bench.scene import Scene, asking
from lab.checks import VIP_3
from lab.command import inside, run_json
from lab.topology import MANIFEST_SETS, NODES, Lab
from tests.e2e.laboratory import hops, laboratory, metric, put

OUTAGE_MOST = 0.45
BACK_SECONDS = 20.0
UP = 'announcer_bfd_sessions{state="up"}'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--load", type=int, default=2, help="busy processes")
    parser.add_argument("--router", default="frr", choices=["frr", "bird"], help="GoBGP 3.10 has no BFD")
    arguments = parser.parse_args()
    bounds = Bounds()
    in_lab(arguments.router, arguments.runs, bounds, load=arguments.load)
    sys.stdout.write("".join(f"{bound}\n" for bound in bounds.found))
    return bounds.exit_code()


def in_lab(router: str, runs: int, bounds: Bounds, *, load: int = 2) -> None:
    with laboratory("purelb", router=router) as lab:
        put(lab, "bgp.yaml", (MANIFEST_SETS / "bfd" / "bgp.yaml").read_text("utf-8"))
        scene = Scene(lab)
        with scene.busy(load):
            found = [black_hole(scene) for _ in range(runs)]
    outages, returns = zip(*found, strict=True)
    say(f"{router}, BFD: from the black hole to the next answer", outages)
    say(f"{router}, BFD: from the mended cable to the route in the FIB", returns)
    within = sum(outage <= OUTAGE_MOST for outage in outages)
    sys.stdout.write(f"outages of {OUTAGE_MOST * 1000:.0f} ms at most: {within} of {len(outages)}\n")
    bounds.most(f"{router}: outage by BFD, worst of {len(outages)}", max(outages), OUTAGE_MOST, "s")


def black_hole(scene: Scene) -> tuple[float, float]:
    """Seconds that the client waited, and that the node took to come back."""
    lab = scene.lab
    scene.until(lambda: all(metric(lab, node.short, UP) == 2 for node in NODES), "all paths up")
    scene.until(lambda: hops(lab) == (3, 3), "three next hops")
    node = serving(lab)
    with asking(lab, 0.001, [str(VIP_3)]) as asked:
        scene.cut(node, "eth0", carrier=False)
        scene.until(lambda: hops(lab)[0] == 2, "the route without it")
        scene.pause(1.0)
        back = time.monotonic()
        scene.mend(node, "eth0")
        scene.until(lambda: hops(lab)[0] == 3, "the route with it", BACK_SECONDS)
        returned = time.monotonic() - back
    return asked.outage(until=back), returned


def serving(lab: Lab) -> str:
    """The node that the router's kernel sends the client's echo requests to."""
    client = ["from", "192.0.2.2", "iif", "eth1", "ipproto", "icmp"]
    (route,) = run_json(inside(lab.namespace("tor"), ["ip", "-j", "route", "get", str(VIP_3), *client]))
    return next(node.short for node in NODES if str(node.address) == route["gateway"])


def say(what: str, seconds: tuple[float, ...]) -> None:
    shown = [f"{value * 1000:.0f}" for value in (min(seconds), statistics.median(seconds), max(seconds))]
    sys.stdout.write(f"{what}, {len(seconds)} times: min {shown[0]}, median {shown[1]}, max {shown[2]} ms\n")


if __name__ == "__main__":
    sys.exit(main())
