"""`announcer drain`: take a node out of service before work on it, or put it back, by the label that agents look at.

It labels the Node as `kubectl label` would, with the rights of who calls it, and has no other way to drain.
"""

import argparse
import asyncio
import json
import sys
from typing import Any, Final

from announcer.cli import stores
from announcer.core.dialects import EXCLUDE_LABEL
from announcer.store import StoreError
from announcer.store.kubernetes import ApiError, Client

REQUEST_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.25
NOT_FOUND: Final = 404
MERGE_PATCH: Final = "application/merge-patch+json"
REPORTS: Final = "/apis/announcer.io/v1alpha1/nodeannouncements"


async def drain(arguments: argparse.Namespace) -> int:
    """1 where the node is not drained (with `--undo`, not back in service) within `--wait`."""
    node, is_wanted = arguments.node, not arguments.undo
    async with stores.client(arguments) as opened:
        patch = {"metadata": {"labels": {EXCLUDE_LABEL: "" if is_wanted else None}}}
        path = f"/api/v1/nodes/{node}"
        stale = await _stale(opened, node) if arguments.wait and is_wanted else ""
        await opened.request("PATCH", path, body=patch, content_type=MERGE_PATCH, timeout_seconds=REQUEST_SECONDS)
        label = f"{EXCLUDE_LABEL}{'' if is_wanted else '-'}"
        sys.stdout.write(f"node {node}: {label}\n")
        if not arguments.wait:
            return 0
        trouble = ""
        try:
            async with asyncio.timeout(arguments.wait):
                while True:
                    try:
                        version, is_drained = await _report(opened, node)
                        trouble = ""
                        if is_drained is is_wanted and version != stale:
                            break
                    except StoreError as error:
                        trouble = f" ({error})"
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            said = "drained" if is_wanted else "back in service"
            remedy = f"see `kubectl get nodeannouncement {node} -o yaml`, and the log of its agent"
            sys.stderr.write(f"announcer drain: {node} is not {said} after {arguments.wait:g} s{trouble}; {remedy}\n")
            return 1
    sys.stdout.write(f"node {node}: {'drained' if is_wanted else 'in service'}\n")
    return 0


async def _stale(opened: Client, node: str) -> str:
    """The resourceVersion of a report that can't know of the label yet; empty where there is none."""
    found = await _get(opened, f"/api/v1/nodes/{node}")
    if EXCLUDE_LABEL in (found["metadata"].get("labels") or {}):
        return ""
    try:
        return (await _report(opened, node))[0]
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return ""


async def _report(opened: Client, node: str) -> tuple[str, bool | None]:
    """Its resourceVersion, and whether the node is drained, as its agent says; None where it says nothing."""
    found = await _get(opened, f"{REPORTS}/{node}")
    value = found.get("status", {}).get("isDrained")
    return found["metadata"]["resourceVersion"], value if isinstance(value, bool) else None


async def _get(opened: Client, path: str) -> Any:
    return json.loads(await opened.request("GET", path, timeout_seconds=REQUEST_SECONDS))
