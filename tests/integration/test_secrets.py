"""Passwords from Secrets of a real API server, read as the service account of the agent, with its rights."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from announcer.core.desired import Desired, announced, desired, secrets_of
from announcer.core.dialects import assemble, parse
from announcer.core.model import NodeName, Snapshot
from announcer.store.kubernetes import Client, KubernetesStore, Meaning, Role, read_by_agent
from tests import kube
from tests.builders import Raw, kernel, node, peer, raw
from tests.cluster import Cluster, cluster
from tests.kube import Running, running
from tests.waiting import until

pytestmark = pytest.mark.kubernetes
NAMESPACE = "announcer-system"
HERE = NodeName("n1")
QUICK = replace(kube.QUICK, secret=0.1)
SECONDS = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        made.install()
        made.kubectl("create", "namespace", "metallb-system")
        yield made


def put(server: Cluster, *objects: Raw) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    server.kubectl("apply", "-f", "-", stdin=text)


def named(name: str, address: str, namespace: str = NAMESPACE) -> Raw:
    found = peer(name, address, passwordSecret={"name": name})
    return found | {"metadata": {"name": name, "namespace": namespace}}


def secret(name: str, password: str, namespace: str = NAMESPACE, kind: str = "kubernetes.io/basic-auth") -> Raw:
    return raw("v1", "Secret", name, namespace=namespace, type=kind, stringData={"password": password})


def decided(found: Running) -> Desired:
    snapshot = found.store.snapshot()
    assert isinstance(snapshot, Snapshot)
    decision = desired(snapshot, HERE, kernel())
    assert isinstance(decision, Desired)
    return decision


def passwords(found: Running) -> dict[str, str]:
    return {one.name: one.password for one in decided(found).peers}


async def comes(condition: Callable[[], object]) -> None:
    await until(condition, seconds=SECONDS)


def test_password_is_read_by_name_and_rotated_and_every_trouble_is_told(server: Cluster) -> None:
    put(server, node("n1"), named("tor", "10.111.111.254"), named("other", "10.111.111.253", "metallb-system"))
    put(server, secret("tor", "first"), secret("other", "second", "metallb-system"))

    async def test() -> None:
        meaning = Meaning(
            parse=parse, assemble=assemble, announced=announced, secrets=lambda snapshot: secrets_of(snapshot, HERE)
        )
        async with Client(server.server.kubeconfig("agent")) as client:
            store = KubernetesStore(client, read_by_agent("n1"), meaning, Role(component="test"), timing=QUICK)
            async with running(store) as found:
                await found.is_synced()
                assert passwords(found) == {}
                await comes(lambda: passwords(found) == {"tor": "first"})
                await comes(lambda: "forbidden" in decided(found).notes[-1])
                put(server, secret("tor", "rotated"))
                await comes(lambda: passwords(found) == {"tor": "rotated"})
                server.kubectl("-n", NAMESPACE, "delete", "secret", "tor")
                await comes(lambda: passwords(found) == {})
                assert "Secret announcer-system/tor is not there" in decided(found).notes[0]
                put(server, secret("tor", "again", kind="Opaque"))
                await comes(lambda: "has the type Opaque" in decided(found).notes[0])
                server.kubectl("-n", NAMESPACE, "delete", "secret", "tor")
                put(server, secret("tor", "again"))
                await comes(lambda: passwords(found) == {"tor": "again"})
                allow(server, "metallb-system")
                await comes(lambda: passwords(found) == {"other": "second", "tor": "again"})
                assert decided(found).notes == ()

    asyncio.run(test())


def allow(server: Cluster, namespace: str) -> None:
    """As docs/kubernetes.md says it."""
    server.kubectl("-n", namespace, "create", "role", "announcer-agent", "--verb=get", "--resource=secrets")
    account = f"--serviceaccount={NAMESPACE}:announcer-agent"
    server.kubectl("-n", namespace, "create", "rolebinding", "announcer-agent", "--role=announcer-agent", account)
