"""Which store the arguments ask for, and opening it."""

import argparse
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from announcer.core.allocate import CLASSES
from announcer.core.desired import announced, secrets_of
from announcer.core.dialects import assemble, parse
from announcer.core.model import NodeName, Parsed, Service
from announcer.store.kubernetes import Client, KubernetesStore, Meaning, Resource, Role, read_by_agent, read_held
from announcer.store.manifests import ManifestStore


def manifests(arguments: argparse.Namespace, *, agent_of: str | None = None) -> ManifestStore | None:
    """The folder that the arguments name, as the agent of a node sees it; None where they mean a cluster."""
    if arguments.manifests is None:
        return None
    read = _parse_for(agent_of) if agent_of else parse
    return ManifestStore(arguments.manifests, parse=read, assemble=assemble)


@asynccontextmanager
async def client(arguments: argparse.Namespace) -> AsyncIterator[Client]:
    """The cluster that the arguments mean. Raises StoreError where there is none."""
    given: Path | None = arguments.kubeconfig
    if given is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        given = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    async with Client(given) as opened:
        yield opened


def kubernetes(opened: Client, resources: Iterable[Resource], role: Role) -> KubernetesStore:
    return KubernetesStore(opened, resources, Meaning(parse=parse, assemble=assemble, announced=announced), role)


def for_agent(opened: Client, node: str) -> KubernetesStore:
    """Its own report is kept as it is, to be compared with the next one."""
    role = Role(component="announcer-agent", writes=frozenset({"NodeAnnouncement"}), name=node)
    meaning = Meaning(
        parse=_parse_for(node),
        assemble=assemble,
        announced=announced,
        secrets=lambda snapshot: secrets_of(snapshot, NodeName(node)),
    )
    return KubernetesStore(opened, read_by_agent(node), meaning, role)


def _parse_for(node: str) -> Callable[[Mapping[str, Any], str], Parsed]:
    """What is a reason for an agent to look again: of reports the links, of its own also what was before it started;
    Services once they have an address, if only by externalIPs, which has the port guard open their ports.
    """

    def read(raw: Mapping[str, Any], source: str) -> Parsed:
        if raw["kind"] == "NodeAnnouncement" and isinstance(raw.get("status"), Mapping):
            metadata = raw.get("metadata")
            is_own = isinstance(metadata, Mapping) and metadata.get("name") == node
            wanted = {"links", "moves", "sessions"} if is_own else {"links"}
            raw = {**raw, "status": {name: value for name, value in raw["status"].items() if name in wanted}}
        parsed = parse(raw, source)
        value = parsed.value
        if isinstance(value, Service) and not (value.status_addresses or value.external_addresses):
            return Parsed(ref=parsed.ref, value=None)
        return parsed

    return read


async def held(opened: Client, arguments: argparse.Namespace) -> tuple[str, str]:
    """Which allocator leads, and what it holds back."""
    return await read_held(opened, arguments.lease_namespace, arguments.lease_name)


def classes(arguments: argparse.Namespace) -> Set[str]:
    given: list[str] | None = arguments.load_balancer_class
    return frozenset("" if name == "none" else name for name in given) if given else CLASSES
