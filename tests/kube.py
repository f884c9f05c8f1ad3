"""The real API server for tests of the store: kubeconfigs, kinds without a schema, objects put in, a running store."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from announcer.core.desired import announced
from announcer.core.dialects import assemble, parse
from announcer.core.model import ObjectRef, Snapshot, Unknown
from announcer.store.kubernetes import Client, KubernetesStore, Meaning, Resource, Role, Timing
from announcer.store.kubernetes.client import APPLY
from announcer.store.kubernetes.resources import (
    CONFIGURATION,
    ENDPOINT_SLICES,
    NAMESPACES,
    NODE_ANNOUNCEMENTS,
    NODES,
    SERVICES,
)
from lab.command import LabError, wait_until
from tests.builders import Raw
from tests.cluster import Cluster
from tests.waiting import until

POOLS: Final = CONFIGURATION[0]
READ: Final = (SERVICES, ENDPOINT_SLICES, NODES, NAMESPACES, NODE_ANNOUNCEMENTS, POOLS)
PLACES: Final = {resource.kind: resource for resource in (*READ, *CONFIGURATION)}
QUICK: Final = Timing(
    page=1.0, idle=30.0, retry_first=0.05, retry_most=0.4, works=0.02, stable=0.5, absent=0.2, hold=1.0, hold_look=0.1
)
SECONDS: Final = 10.0


def kubeconfig(path: Path, url: str, token: str) -> Path:
    """Admin's, for another address of the same server."""
    found: Raw = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **found}), "utf-8")
    return path


def open_kind(resource: Resource) -> Raw:
    """A CustomResourceDefinition that refuses nothing: what is judged here is the store, not the schema."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [
        {"name": v, "served": True, "storage": v == "v1" or len(resource.versions) == 1, "subresources": {"status": {}}}
        | {"schema": {"openAPIV3Schema": schema}}
        for v in resource.versions
    ]
    names = {"kind": resource.kind, "plural": resource.plural, "singular": resource.kind.lower()}
    spec = {"group": resource.group, "names": names, "versions": versions}
    spec["scope"] = "Namespaced" if resource.is_namespaced else "Cluster"
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return {**kind, "metadata": {"name": f"{resource.plural}.{resource.group}"}, "spec": spec}


def install(cluster: Cluster, *namespaces: str, kinds: Iterable[Resource] = (POOLS, NODE_ANNOUNCEMENTS)) -> None:
    """Our kinds and these namespaces."""
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces]
    items = [*map(open_kind, kinds), *spaces]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    if kinds:
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    for kind in kinds:  # for a moment after that, an API server answers 429: "storage is (re)initializing"
        for version in kind.versions:
            wait_until(partial(_lists, cluster, kind.collection(version)), 30, f"{kind.plural} {version} to be served")


def _lists(cluster: Cluster, path: str) -> bool:
    try:
        cluster.kubectl("get", "--raw", path)
    except LabError:
        return False
    return True


class Objects:
    """Objects on the server, put there by somebody who isn't the store."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def put(self, *objects: Raw) -> None:
        for one in objects:
            status = one.get("status")
            await self._apply(one, "", {k: v for k, v in one.items() if k != "status"})
            if status:
                head = {k: v for k, v in one.items() if k in {"apiVersion", "kind"}}
                metadata = {k: v for k, v in one["metadata"].items() if k in {"name", "namespace"}}
                await self._apply(one, "status", {**head, "metadata": metadata, "status": status})

    async def delete(self, *objects: Raw) -> None:
        for one in objects:
            await self._client.request("DELETE", _path(one), timeout_seconds=SECONDS)

    async def get(self, one: Raw) -> Raw:
        found: Raw = json.loads(await self._client.request("GET", _path(one), timeout_seconds=SECONDS))
        return found

    async def _apply(self, one: Raw, subresource: str, body: Raw) -> None:
        query = {"fieldManager": f"test{subresource}", "force": "true"}
        path = _path(one, subresource)
        await self._client.request("PATCH", path, query=query, body=body, content_type=APPLY, timeout_seconds=SECONDS)


def _path(one: Raw, subresource: str = "") -> str:
    metadata = one["metadata"]
    ref = ObjectRef(kind=one["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"])
    return PLACES[one["kind"]].path(ref, one["apiVersion"].rpartition("/")[2], subresource)


class Running:
    """A store that runs, and what it knows."""

    def __init__(self, store: KubernetesStore) -> None:
        self.store = store
        self.seen: list[Snapshot] = []
        """One per wake."""

    def wake(self) -> None:
        found = self.store.snapshot()
        self.seen += [found] if isinstance(found, Snapshot) else []

    @property
    def snapshot(self) -> Snapshot:
        found = self.store.snapshot()
        assert isinstance(found, Snapshot)
        return found

    def of_people(self) -> Snapshot | Unknown:
        """Without the Service that an API server has of its own."""
        found = self.store.snapshot()
        if isinstance(found, Unknown):
            return found
        return replace(found, services=tuple(s for s in found.services if s.is_load_balancer))

    def names(self) -> list[str]:
        found = self.of_people()
        return [] if isinstance(found, Unknown) else [s.ref.name for s in found.services]

    async def has(self, *names: str, seconds: float = SECONDS) -> None:
        await until(lambda: self.names() == sorted(names), seconds=seconds, what=f"services {names}")

    async def is_synced(self) -> None:
        await until(lambda: self.store.health().is_synced, seconds=SECONDS, what="the first lists")


def store(
    client: Client,
    *,
    resources: Iterable[Resource] = READ,
    timing: Timing = QUICK,
    may_write: Callable[[], bool] = lambda: True,
) -> KubernetesStore:
    """One that writes everything."""
    meaning = Meaning(parse=parse, assemble=assemble, announced=announced)
    writes = frozenset({"Service", "ServiceGroup", "NodeAnnouncement"})
    return KubernetesStore(
        client, resources, meaning, Role(component="announcer-test", writes=writes, may_write=may_write), timing=timing
    )


@asynccontextmanager
async def until_left(work: Coroutine[object, object, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Run it beside the body; its bugs are the test's."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def running(made: KubernetesStore) -> AsyncIterator[Running]:
    found = Running(made)
    async with until_left(made.run(found.wake)):
        yield found


async def transports_closed() -> None:
    """TLS connections say goodbye and wait for the other side, after whoever used them has gone: let them end."""
    selector: Any = vars(asyncio.get_running_loop())["_selector"]
    await until(lambda: len(selector.get_map()) == 1, what="the end of all connections but the loop's own pipe")
