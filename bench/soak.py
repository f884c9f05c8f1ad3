"""`make bench-soak`: local addresses for half an hour with nothing going wrong, and what that costs.

    python -m bench.soak [--minutes 30] [--load 4] [--addresses 100]

A lab of its own with that many addresses on the nodes' own subnet and that many busy processes. Prints the moves in the
kernels of the nodes, the share of a core that each agent used, and how often the agents' reports were written. The exit
status is 0 only if nothing moved, nothing was written, and no agent used more than its bound.
"""

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.holding import recorded
from bench.scene import Scene
from lab import processes
from lab.topology import NODES, Lab
from tests.e2e.laboratory import addresses, laboratory

TICKS = os.sysconf("SC_CLK_TCK")
CORE_MOST = {100: 0.01, 1000: 0.03}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--load", type=int, default=4, help="busy processes")
    parser.add_argument("--addresses", type=int, default=100, choices=sorted(CORE_MOST))
    arguments = parser.parse_args()
    with ExitStack() as stack:
        lab = stack.enter_context(laboratory("purelb"))
        scene = Scene(lab)
        scene.prepare(many=arguments.addresses)
        stack.enter_context(scene.busy(arguments.load))
        record = stack.enter_context(recorded(lab, "eth0"))
        before, written, began = used(lab), reports(lab), time.monotonic()
        held = sum(len(found.intersection(scene.many)) for found in record.first.values())
        scene.pause(arguments.minutes * 60)
        seconds = time.monotonic() - began
        shares = [(after - old) / seconds for old, after in zip(before, used(lab), strict=True)]
        told = {address for node in NODES for address in addresses(lab, node.short, "eth0")}
        moves = [(a, h.node) for a in sorted(told) for h in record.of(a) if h.begin > 0]
        writes = sum(new != old for old, new in zip(written, reports(lab), strict=True))
    say(f"{seconds / 60:.1f} minutes, {held} addresses of the pool on {len(NODES)} nodes, load {arguments.load}")
    say(f"moves: {len(moves)} {moves[:5]}")
    say("processor time of each agent, of a core: " + ", ".join(f"{share:.2%}" for share in shares))
    say(f"reports written: {writes}")
    return 0 if not moves and not writes and max(shares) < CORE_MOST[arguments.addresses] else 1


def used(lab: Lab) -> list[float]:
    """Seconds of processor time, user and system, of every agent."""
    found = []
    for node in NODES:
        fields = Path(f"/proc/{processes.find(lab, f'agent-{node.name}')}/stat").read_text("ascii").rsplit(")", 1)[1]
        found.append(sum(int(field) for field in fields.split()[11:13]) / TICKS)
    return found


def reports(lab: Lab) -> list[float]:
    """When the NodeAnnouncement of every node was last written. Raises FileNotFoundError where one never was."""
    folder = lab.manifests / ".status" / "nodeannouncement" / "_cluster"
    return [(folder / f"{node.name}.json").stat().st_mtime for node in NODES]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
