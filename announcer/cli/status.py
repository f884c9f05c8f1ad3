"""`announcer status`: what the objects and the nodes' reports say, of a cluster or a folder, as a table or as JSON.

Nothing is written. Who reads needs no more rights than to list what is shown; what a source keeps from being read (a
refusal, no answer) is the error that is shown.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict

from announcer.cli import stores
from announcer.core.allocate import Refusal, allocate
from announcer.core.dialects import assemble, parse
from announcer.core.model import HoldReport, NodeReport, SessionReport, Snapshot
from announcer.core.report import LastMove, Row, rows, sessions_status
from announcer.store import StoreError
from announcer.store.kubernetes import FOR_STATUS, KubernetesStore, Role
from announcer.store.manifests import ManifestStore

Hold = tuple[str, HoldReport]
"""Who holds back, and what."""
READ_TIMEOUT = 5.0
CLUSTER_TIMEOUT = 30.0
MOVES_SHOWN = 10
PATIENCE = 3.0
"""Ten thousand Services take seconds to list, and an API server far away longer."""


async def status(arguments: argparse.Namespace) -> int:
    snapshot, held = await _read(arguments)
    decisions = allocate(snapshot, classes=stores.classes(arguments))
    refusals = {key: f"{d.reason}: {d.message}" for key, d in decisions.items() if isinstance(d, Refusal)}
    found = rows(snapshot, refusals)
    holds = [*held, *((f"node {report.node}", hold) for report in snapshot.reports for hold in report.holds)]
    if arguments.output == "json":
        sys.stdout.write(json.dumps(_document(found, snapshot, holds), indent=2) + "\n")
    else:
        sys.stdout.write(_holds(holds) + _table(found, snapshot))
    return 0


async def _read(arguments: argparse.Namespace) -> tuple[Snapshot, list[Hold]]:
    """The objects, and what the allocator that leads holds back; of a folder it never does."""
    async with AsyncExitStack() as stack:
        if arguments.manifests is None:
            opened = await stack.enter_async_context(stores.client(arguments))
            store = stores.kubernetes(opened, FOR_STATUS, Role(component="announcer-status"))
            snapshot = await _first(store, CLUSTER_TIMEOUT)
            holder, text = await stores.held(opened, arguments)
            since, _, message = text.partition(" ")
            return snapshot, [(f"allocator {holder}", HoldReport(since=since, message=message))] if text else []
        if not arguments.manifests.is_dir():
            raise NotADirectoryError(f"{arguments.manifests} is not a folder of manifests")
        folder = ManifestStore(arguments.manifests, parse=parse, assemble=assemble, settle_seconds=0.0)
        return await _first(folder, READ_TIMEOUT), []


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


def _document(found: tuple[Row, ...], snapshot: Snapshot, holds: Iterable[Hold]) -> dict[str, object]:
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
    held = [{"who": who, "since": hold.since, "message": hold.message} for who, hold in holds]
    sessions = [{"node": n.node, **one} for n in snapshot.reports for one in sessions_status(n.sessions)]
    services = [asdict(row) for row in found]
    return {"holds": held, "services": services, "sessions": sessions, "nodes": nodes, "problems": problems}


def _holds(holds: Sequence[Hold]) -> str:
    """Before everything else: what follows is older than what the source says."""
    told = "".join(f"  {who}: {hold}\n" for who, hold in holds)
    return f"HELD BACK (`kill -HUP` of the process believes it at once)\n{told}\n" if told else ""


def _table(found: tuple[Row, ...], snapshot: Snapshot) -> str:
    head = ("SERVICE", "ADDRESS", "MODE", "NODES", "VIA", "REASON")
    cells = [(r.service, r.address, r.mode, ",".join(r.nodes), r.via, r.reason) for r in found]
    text = _columns(head, cells) + _sessions(snapshot.reports) + _moves(found) + _errors(snapshot.reports)
    if snapshot.problems:
        text += "\nPROBLEMS\n" + "".join(f"  {p}\n      at {p.ref.source}  [{p.reason}]\n" for p in snapshot.problems)
    return text


def _columns(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = [head, *([cell or "-" for cell in line] for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def _sessions(reports: Iterable[NodeReport]) -> str:
    head = ("NODE", "PEER", "SESSION", "SINCE", "BFD", "PROVEN", "PENDING", "REFUSED", "LAST ERROR")
    cells = [(report.node, *_session(one)) for report in reports for one in report.sessions]
    return "\n" + _columns(head, cells) if cells else ""


def _session(one: SessionReport) -> tuple[str, ...]:
    counts = (str(count) for count in (one.proven, one.pending, one.refused))
    return f"{one.peer} {one.peer_address}".strip(), one.state, one.since, one.bfd, *counts, one.last_error


def _moves(found: Iterable[Row]) -> str:
    """The newest moves from one node to another, or to none; what nobody had before is no news."""
    moved = [(row, row.last_move) for row in found if row.last_move is not None and row.last_move.old]
    newest = sorted(moved, key=lambda pair: (pair[1].time, pair[0].service, pair[0].address))[-MOVES_SHOWN:]
    return "\nMOVES\n" + "".join(_move(row, move) for row, move in newest) if newest else ""


def _move(row: Row, move: LastMove) -> str:
    silence = f", no answer for {move.silent_seconds:g} s" if move.silent_seconds else ""
    where = f"{row.service} {row.address} {move.link}: {move.old} -> {move.new or 'nobody'}"
    return f"  {move.time} {where}, {move.reason}{silence}\n"


def _errors(reports: Sequence[NodeReport]) -> str:
    """What nodes couldn't do; holds stand at the top."""
    held = {hold.message for report in reports for hold in report.holds}
    told = [f"  {report.node}: {error}\n" for report in reports for error in report.errors if error not in held]
    return "\nNODES\n" + "".join(told) if told else ""
