"""`announcer status`: what the objects and the nodes' reports say, of a cluster or a folder, as a table or as JSON.

Nothing is written. Who reads needs no more rights than to list what is shown; what a source keeps from being read (a
refusal, no answer) is the error that is shown.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict

from announcer.cli import stores
from announcer.core.allocate import Refusal, allocate
from announcer.core.dialects import assemble, parse
from announcer.core.model import NodeReport, Snapshot
from announcer.core.report import Row, rows
from announcer.store import StoreError
from announcer.store.kubernetes import FOR_STATUS, KubernetesStore, Role
from announcer.store.manifests import ManifestStore

READ_TIMEOUT = 5.0
CLUSTER_TIMEOUT = 30.0
PATIENCE = 3.0
"""Ten thousand Services take seconds to list, and an API server far away longer."""


async def status(arguments: argparse.Namespace) -> int:
    snapshot = await _read(arguments)
    decisions = allocate(snapshot, classes=stores.classes(arguments))
    refusals = {key: f"{d.reason}: {d.message}" for key, d in decisions.items() if isinstance(d, Refusal)}
    found = rows(snapshot, refusals)
    if arguments.output == "json":
        sys.stdout.write(json.dumps(_document(found, snapshot), indent=2) + "\n")
    else:
        sys.stdout.write(_table(found, snapshot))
    return 0


async def _read(arguments: argparse.Namespace) -> Snapshot:
    async with AsyncExitStack() as stack:
        if arguments.manifests is None:
            opened = await stack.enter_async_context(stores.client(arguments))
            return await _first(
                stores.kubernetes(opened, FOR_STATUS, Role(component="announcer-status")), CLUSTER_TIMEOUT
            )
        if not arguments.manifests.is_dir():
            raise NotADirectoryError(f"{arguments.manifests} is not a folder of manifests")
        folder = ManifestStore(arguments.manifests, parse=parse, assemble=assemble, settle_seconds=0.0)
        return await _first(folder, READ_TIMEOUT)


async def _first(store: ManifestStore | KubernetesStore, seconds: float) -> Snapshot:
    """What a store says as soon as it knows everything; nothing that can't be read is waited for longer than needed."""
    changed = asyncio.Event()
    reading = asyncio.ensure_future(store.run(changed.set))
    try:
        async with asyncio.timeout(seconds):
            while not isinstance(snapshot := store.snapshot(), Snapshot):
                await _wait(store, changed)
    except TimeoutError:
        raise StoreError(store.health().message or f"not everything could be read within {seconds:g} s") from None
    finally:
        reading.cancel()
        await asyncio.wait({reading})
    return snapshot


async def _wait(store: ManifestStore | KubernetesStore, changed: asyncio.Event) -> None:
    """For news; where none comes and something is wrong (no right to list, no answer), no longer."""
    try:
        async with asyncio.timeout(PATIENCE):
            await changed.wait()
    except TimeoutError:
        if store.health().message:
            raise StoreError(store.health().message) from None
    changed.clear()


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
    nodes = [{"node": n.node, "links": [x.ifname for x in n.links], "errors": n.errors} for n in snapshot.reports]
    return {"services": [asdict(row) for row in found], "nodes": nodes, "problems": problems}


def _table(found: tuple[Row, ...], snapshot: Snapshot) -> str:
    head = ("SERVICE", "ADDRESS", "MODE", "NODES", "VIA", "REASON")
    cells = [(r.service, r.address, r.mode, ",".join(r.nodes), r.via, r.reason) for r in found]
    lines = [head, *(tuple(cell or "-" for cell in line) for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)
    text += _errors(snapshot.reports)
    if snapshot.problems:
        text += "\nPROBLEMS\n" + "".join(f"  {p}\n      at {p.ref.source}  [{p.reason}]\n" for p in snapshot.problems)
    return text


def _errors(reports: Iterable[NodeReport]) -> str:
    """What nodes couldn't do, and objects that are older than what the API server says (a hold)."""
    told = [f"  {report.node}: {error}\n" for report in reports for error in report.errors]
    return "\nNODES\n" + "".join(told) if told else ""
