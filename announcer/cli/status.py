"""`announcer status`: what a folder of manifests and the nodes' reports in it say, as a table or as JSON."""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from announcer.core.allocate import Refusal, allocate
from announcer.core.dialects import assemble, parse
from announcer.core.model import Snapshot
from announcer.core.report import Row, rows
from announcer.store.manifests import ManifestStore

READ_TIMEOUT = 5.0


async def status(arguments: argparse.Namespace) -> int:
    snapshot = await _read(arguments)
    decisions = allocate(snapshot)
    refusals = {key: f"{d.reason}: {d.message}" for key, d in decisions.items() if isinstance(d, Refusal)}
    found = rows(snapshot, refusals)
    if arguments.output == "json":
        sys.stdout.write(json.dumps(_document(found, snapshot), indent=2) + "\n")
    else:
        sys.stdout.write(_table(found, snapshot))
    return 0


async def _read(arguments: argparse.Namespace) -> Snapshot:
    if not arguments.manifests.is_dir():
        raise NotADirectoryError(f"{arguments.manifests} is not a folder of manifests")
    store = ManifestStore(arguments.manifests, parse=parse, assemble=assemble, settle_seconds=0.0)
    changed = asyncio.Event()
    reading = asyncio.ensure_future(store.run(changed.set))
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            while not isinstance(snapshot := store.snapshot(), Snapshot):
                await changed.wait()
                changed.clear()
    except TimeoutError:
        raise FileNotFoundError(store.health().message) from None
    finally:
        reading.cancel()
        await asyncio.wait({reading})
    return snapshot


def _document(found: tuple[Row, ...], snapshot: Snapshot) -> dict[str, object]:
    problems = [
        {
            "object": str(p.ref),
            "source": p.ref.source,
            "field": p.field,
            "value": p.value,
            "message": p.message,
            "remedy": p.remedy,
            "reason": str(p.reason),
        }
        for p in snapshot.problems
    ]
    return {"services": [asdict(row) for row in found], "problems": problems}


def _table(found: tuple[Row, ...], snapshot: Snapshot) -> str:
    head = ("SERVICE", "ADDRESS", "MODE", "NODES", "VIA", "REASON")
    cells = [(r.service, r.address, r.mode, ",".join(r.nodes), r.via, r.reason) for r in found]
    lines = [head, *(tuple(cell or "-" for cell in line) for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)
    if snapshot.problems:
        text += "\nPROBLEMS\n" + "".join(f"  {p}\n      at {p.ref.source}  [{p.reason}]\n" for p in snapshot.problems)
    return text
