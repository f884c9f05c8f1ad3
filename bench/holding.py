"""Who held an address on a link, and when: from the kernels' own notifications, in monotonic seconds."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from lab.command import inside
from lab.topology import NODES, Lab
from tests.e2e.laboratory import addresses

LINE = re.compile(r"\[(?P<at>\S+)\] (?P<gone>Deleted )?\d+: (?P<ifname>\S+) +inet6? (?P<address>[^/ ]+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """`end` is infinity while it lasts."""

    node: str
    begin: float
    end: float


class Record:
    def __init__(self, lab: Lab, ifname: str) -> None:
        self._lab, self._ifname = lab, ifname
        self.files = {node.short: lab.run_dir / f"held-{node.short}-{ifname}" for node in NODES}
        self.first = {node.short: addresses(lab, node.short, ifname) for node in NODES}

    def of(self, address: str) -> list[Held]:
        return [held for node in self.files for held in self._periods(node, address)]

    def _periods(self, node: str, address: str) -> Iterator[Held]:
        begin = 0.0 if address in self.first[node] else None
        offset = time.monotonic() - time.time()
        for found in LINE.finditer(self.files[node].read_text(encoding="utf-8")):
            if (found["ifname"], found["address"]) != (self._ifname, address):
                continue
            at = datetime.fromisoformat(found["at"]).timestamp() + offset
            if found["gone"] and begin is not None:
                yield Held(node=node, begin=begin, end=at)
                begin = None
            elif not found["gone"] and begin is None:
                begin = at
        if begin is not None:
            yield Held(node=node, begin=begin, end=float("inf"))


@contextmanager
def recorded(lab: Lab, ifname: str) -> Iterator[Record]:
    record = Record(lab, ifname)
    with ExitStack() as stack:
        for node, file in record.files.items():
            stack.enter_context(_monitor(lab, node, file))
        yield record


def together(held: list[Held], since: float = 0.0) -> float:
    """For how many seconds two nodes or more held it at once, after `since`."""
    edges = sorted({max(since, t) for h in held for t in (h.begin, h.end)})
    return sum(
        end - begin for begin, end in pairwise(edges) if sum(h.begin <= begin and end <= h.end for h in held) > 1
    )


@contextmanager
def _monitor(lab: Lab, node: str, file: Path) -> Iterator[None]:
    with file.open("wb") as output:
        argv = inside(lab.namespace(node), ["ip", "-ts", "-o", "monitor", "address"])
        process = subprocess.Popen(argv, stdout=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(5)
