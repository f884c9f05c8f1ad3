"""Statuses on a real API server: what server-side apply makes of objects that others have written to as well.

The peers write by Update (PUT), as they do; people by kubectl.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from announcer.cli import main
from announcer.core.desired import announced
from announcer.core.dialects import assemble, parse
from announcer.core.model import MANAGED_BY, MANAGER, ObjectRef
from announcer.store.kubernetes import Client, KubernetesStore, Meaning, Resource, Role
from announcer.store.kubernetes.resources import CONFIGURATION, MIRRORS, NODE_ANNOUNCEMENTS, NODES, SERVICES
from lab.topology import REPOSITORY
from tests.builders import Raw
from tests.cluster import Cluster, cluster
from tests.kube import Running, running
from tests.waiting import stays, until

pytestmark = pytest.mark.kubernetes
VIP, OTHER_VIP = "10.113.113.100", "10.113.113.101"
ANNOUNCING = "purelb.io/announcing-IPv4"
READ = (SERVICES, NODES, NODE_ANNOUNCEMENTS, CONFIGURATION[0], CONFIGURATION[2], *MIRRORS)
ACCEPTED = {"type": "announcer.io/Accepted", "status": "True", "reason": "Accepted", "message": ""}
ASSIGNED = {"type": "announcer.io/AddressAssigned", "status": "True", "reason": "Assigned", "message": "from pool p"}
SECONDS = 10.0
Test = Callable[[Running, Client], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        crds = REPOSITORY / "deploy" / "crds"
        made.kubectl("apply", "--server-side", "-f", str(crds))
        made.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        for name in ("announcer-system", "purelb-system", "metallb-system"):
            made.kubectl("create", "namespace", name)
        yield made


def run(server: Cluster, test: Test, resources: tuple[Resource, ...] = READ) -> None:
    async def inside() -> None:
        meaning = Meaning(parse=parse, assemble=assemble, announced=announced)
        role = Role(component="announcer-allocator", writes=frozenset(r.kind for r in resources))
        async with Client(server.server.kubeconfig("admin")) as client:
            store = KubernetesStore(client, resources, meaning, role)
            async with running(store) as found:
                await found.is_synced()
                await test(found, client)

    asyncio.run(inside())


def service(server: Cluster, name: str, **annotations: str) -> ObjectRef:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False},
    }
    server.kubectl("create", "-f", "-", stdin=json.dumps(body))
    return ObjectRef(kind="Service", namespace="default", name=name)


def get(server: Cluster, ref: ObjectRef) -> Raw:
    where = ("-n", ref.namespace) if ref.namespace else ()
    found: Raw = json.loads(server.kubectl("get", ref.kind, ref.name, *where, "-o", "json"))
    return found


def addresses(raw: Raw) -> list[str]:
    return [point["ip"] for point in raw["status"]["loadBalancer"].get("ingress", [])]


def given(address: str) -> dict[str, object]:
    return {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}, "conditions": [ASSIGNED]}


async def peer_updates(client: Client, ref: ObjectRef, address: str, **annotations: str) -> None:
    """As MetalLB and PureLB write: the status by Update, annotations by another."""
    path = f"/api/v1/namespaces/{ref.namespace}/services/{ref.name}"
    raw = json.loads(await client.request("GET", path, timeout_seconds=SECONDS))
    raw["status"]["loadBalancer"] = {"ingress": [{"ip": address}]}
    raw["status"]["conditions"] = [
        {
            "type": "peer/Ready",
            "status": "True",
            "reason": "R",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    query = {"fieldManager": "peer"}
    raw = json.loads(await client.request("PUT", f"{path}/status", query=query, body=raw, timeout_seconds=SECONDS))
    raw["metadata"].setdefault("annotations", {}).update(annotations)
    await client.request("PUT", path, query=query, body=raw, timeout_seconds=SECONDS)


async def written(found: Running) -> None:
    await until(found.store.is_idle, seconds=SECONDS)


async def knows(found: Running, address: str) -> None:
    def is_known() -> bool:
        return any(address in map(str, s.status_addresses) for s in found.snapshot.services)

    await until(is_known, seconds=SECONDS)


def test_status_and_annotations_of_a_service_go_out_in_one_write(server: Cluster) -> None:
    ref = service(server, "one-write", mine="stays")

    async def test(found: Running, _client: Client) -> None:
        await until(lambda: "one-write" in found.names(), seconds=SECONDS)
        before = int(get(server, ref)["metadata"]["resourceVersion"])
        await found.store.write_status(ref, given(VIP), annotations={ANNOUNCING: f"n1,eth0,{VIP}"})
        await written(found)
        raw = get(server, ref)
        assert addresses(raw) == [VIP]
        assert raw["metadata"]["annotations"] == {"mine": "stays", ANNOUNCING: f"n1,eth0,{VIP}"}
        assert int(raw["metadata"]["resourceVersion"]) > before
        assert raw["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP"
        await found.store.write_status(ref, given(VIP), annotations={ANNOUNCING: f"n1,eth0,{VIP}"})
        assert found.store.is_idle()

    run(server, test)


def test_status_that_a_peer_wrote_is_adopted_replaced_and_taken_back(server: Cluster) -> None:
    ref = service(server, "adopted")

    async def test(found: Running, client: Client) -> None:
        await peer_updates(client, ref, VIP)
        await knows(found, VIP)
        await found.store.write_status(ref, given(VIP))
        await written(found)
        raw = get(server, ref)
        assert addresses(raw) == [VIP]
        assert {c["type"] for c in raw["status"]["conditions"]} == {"peer/Ready", ASSIGNED["type"]}
        await found.store.write_status(ref, given(OTHER_VIP))
        await written(found)
        assert addresses(get(server, ref)) == [OTHER_VIP]
        await found.store.write_status(ref, {"loadBalancer": {"ingress": []}, "conditions": []})
        await written(found)
        raw = get(server, ref)
        assert addresses(raw) == []
        assert [c["type"] for c in raw["status"]["conditions"]] == ["peer/Ready"]

    run(server, test)


def test_address_that_only_a_peer_wrote_is_taken_back_by_an_empty_list(server: Cluster) -> None:
    ref = service(server, "released")

    async def test(found: Running, client: Client) -> None:
        await peer_updates(client, ref, VIP)
        await knows(found, VIP)
        await found.store.write_status(ref, {"loadBalancer": {"ingress": []}})
        await written(found)
        assert addresses(get(server, ref)) == []

    run(server, test)


def test_annotation_of_ours_goes_when_it_is_not_wanted_any_more(server: Cluster) -> None:
    ref = service(server, "stale", mine="stays")

    async def test(found: Running, _client: Client) -> None:
        await until(lambda: "stale" in found.names(), seconds=SECONDS)
        await found.store.write_status(ref, given(VIP), annotations={ANNOUNCING: "n1,eth0,x"})
        await written(found)
        await found.store.write_status(ref, given(VIP))
        await written(found)
        assert get(server, ref)["metadata"]["annotations"] == {"mine": "stays"}

    run(server, test)


def test_annotation_of_a_peer_stays_and_causes_one_write_at_most(server: Cluster) -> None:
    ref = service(server, "theirs")

    async def test(found: Running, client: Client) -> None:
        await peer_updates(client, ref, VIP, **{ANNOUNCING: "theirs"})
        await knows(found, VIP)
        await found.store.write_status(ref, given(VIP))
        await written(found)
        raw = get(server, ref)
        assert raw["metadata"]["annotations"] == {ANNOUNCING: "theirs"}
        await until(lambda: found.names() != [], seconds=SECONDS)
        await found.store.write_status(ref, given(VIP))
        await written(found)
        assert get(server, ref)["metadata"]["resourceVersion"] == raw["metadata"]["resourceVersion"]

    run(server, test)


def test_service_that_is_no_load_balancer_any_more_is_written_to_without_harm(server: Cluster) -> None:
    ref = service(server, "changed")

    async def test(found: Running, _client: Client) -> None:
        await until(lambda: "changed" in found.names(), seconds=SECONDS)
        await found.store.write_status(ref, given(VIP), annotations={ANNOUNCING: "n1,eth0,x"})
        await written(found)
        server.kubectl("patch", "service", "changed", "-p", '{"spec": {"type": "ClusterIP"}}')
        await until(lambda: "changed" not in found.names(), seconds=SECONDS)
        await found.store.write_status(ref, {"loadBalancer": {"ingress": []}})
        await written(found)
        raw = get(server, ref)
        assert addresses(raw) == []
        assert "conditions" not in raw["status"]
        assert ANNOUNCING not in raw["metadata"].get("annotations", {})

    run(server, test)


@pytest.mark.parametrize(
    ("kind", "spec", "counts"),
    [
        (
            "servicegroups.v2.purelb.io",
            {"remote": {"v4pools": [{"subnet": "10.1.0.0/24", "pool": "10.1.0.0/24"}]}},
            {"allocatedIPv4": 1, "availableIPv4": 255, "addresses": ["10.1.0.0-10.1.0.255"], "announce": "remote"},
        ),
        (
            "ipaddresspools.v1beta1.metallb.io",
            {"addresses": ["10.2.0.0/24"]},
            {"assignedIPv4": 1, "availableIPv4": 255},
        ),
    ],
)
def test_pool_shows_its_counts_and_whether_it_is_in_use(server: Cluster, kind: str, spec: Any, counts: Raw) -> None:
    version, group = kind.split(".", 2)[1:]
    name = "ServiceGroup" if "purelb" in kind else "IPAddressPool"
    ref = ObjectRef(kind=name, namespace="purelb-system", name=f"shown-{name.lower()}")
    metadata = {"name": ref.name, "namespace": ref.namespace}
    one = {"apiVersion": f"{group}/{version}", "kind": name, "metadata": metadata, "spec": spec}
    server.kubectl("create", "-f", "-", stdin=json.dumps(one))

    async def test(found: Running, _client: Client) -> None:
        await until(lambda: ref in {p.ref for p in found.snapshot.pools}, seconds=SECONDS)
        await found.store.write_status(ref, counts | {"conditions": [ACCEPTED]})
        await written(found)
        status = get(server, ref)["status"]
        assert {name: status[name] for name in counts} == counts
        assert status["conditions"][0]["status"] == "True"
        assert status["conditions"][0]["observedGeneration"] == 1

    run(server, test)


def test_kind_whose_schema_has_no_conditions_is_written_once(server: Cluster, tmp_path: Path) -> None:
    """As PureLB's own definition of a ServiceGroup: what it doesn't know is dropped without a word."""
    kind = Resource(kind="ServiceGroup", group="bare.purelb.io", versions=("v1",), plural="servicegroups")
    status = {"type": "object", "properties": {"allocatedIPv4": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": {"type": "object"}, "status": status}}
    versions = [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}]
    versions[0]["schema"] = {"openAPIV3Schema": schema}
    names = {"kind": kind.kind, "plural": kind.plural, "singular": "servicegroup"}
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"} | {
        "metadata": {"name": "servicegroups.bare.purelb.io"},
        "spec": {"group": kind.group, "scope": "Namespaced", "names": names, "versions": versions},
    }
    server.kubectl("apply", "-f", "-", stdin=json.dumps(definition))
    server.kubectl("wait", "--for=condition=Established", "crd", "servicegroups.bare.purelb.io")
    one = {"apiVersion": "bare.purelb.io/v1", "kind": "ServiceGroup", "metadata": {"name": "bare"}, "spec": {}}
    server.kubectl("create", "-f", "-", stdin=json.dumps(one))
    ref = ObjectRef(kind="ServiceGroup", namespace="default", name="bare")

    def version() -> str:
        return server.kubectl("get", "servicegroups.bare.purelb.io/bare", "-o", "jsonpath={.metadata.resourceVersion}")

    async def test(found: Running, _client: Client) -> None:
        wanted = {"allocatedIPv4": 3, "conditions": [ACCEPTED]}
        await found.store.write_status(ref, wanted)
        await written(found)
        first = version()
        for _ in range(3):
            await found.store.write_status(ref, wanted)
            assert found.store.is_idle()
        assert version() == first

    run(server, test, (SERVICES, NODES, kind))


def test_mirror_is_made_updated_and_deleted_and_others_ones_are_left_alone(server: Cluster) -> None:
    ref = ObjectRef(kind="ServiceL2Status", namespace="announcer-system", name="l2-ours")
    theirs = ObjectRef(kind="ServiceL2Status", namespace="announcer-system", name="l2-theirs")
    one = {"apiVersion": "metallb.io/v1beta1", "kind": theirs.kind, "metadata": {"name": theirs.name}}
    server.kubectl("create", "-n", theirs.namespace, "-f", "-", stdin=json.dumps(one))

    async def test(found: Running, _client: Client) -> None:
        status = {"node": "n1", "serviceName": "web", "serviceNamespace": "test", "interfaces": [{"name": "eth0"}]}
        # Nothing waits for these kinds, so the store counts as synced before they are read.
        await until(lambda: [m.ref for m in found.snapshot.mirrors] == [theirs], seconds=SECONDS)
        await found.store.write_status(ref, status, labels={MANAGED_BY: MANAGER, "metallb.io/node": "n1"})
        await written(found)
        assert get(server, ref)["status"] == status
        assert get(server, ref)["metadata"]["labels"]["metallb.io/node"] == "n1"
        assert [m.ref for m in found.snapshot.mirrors if m.is_ours] == [ref]
        await found.store.write_status(ref, status | {"interfaces": [{"name": "eth1"}]})
        await written(found)
        await found.store.remove(ref)
        await found.store.remove(theirs)
        await until(lambda: [m.ref for m in found.snapshot.mirrors] == [theirs], seconds=SECONDS)
        assert get(server, theirs)["metadata"]["name"] == theirs.name

    run(server, test)


def test_reports_that_change_all_the_time_are_a_write_a_second(server: Cluster) -> None:
    ref = ObjectRef(kind="NodeAnnouncement", name="busy")

    async def test(found: Running, _client: Client) -> None:
        versions: set[str] = set()
        number = iter(range(1_000_000))

        tasks = []

        def goes_on() -> bool:
            tasks.append(asyncio.ensure_future(found.store.write_status(ref, {"errors": [str(next(number))]})))
            entry = next((r for r in found.snapshot.reports if r.node == "busy"), None)
            versions.update(entry.errors if entry else ())
            return True

        await stays(goes_on, seconds=2.5)
        await written(found)
        assert 2 <= len(versions) <= 4
        assert get(server, ref)["status"]["errors"] == [str(next(number) - 1)]

    run(server, test)


def test_announcer_status_reads_a_cluster_with_a_person_s_kubeconfig(
    server: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    service(server, "shown")
    assert main(["status", "--kubeconfig", str(server.server.kubeconfig("admin")), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "default/shown" in {row["service"] for row in found["services"]}


def test_what_the_schema_refuses_is_sent_once(server: Cluster) -> None:
    ref = service(server, "refused")

    async def test(found: Running, _client: Client) -> None:
        await until(lambda: "refused" in found.names(), seconds=SECONDS)
        wrong = {"loadBalancer": {"ingress": [{"ip": "no address", "ipMode": "VIP"}]}}
        await found.store.write_status(ref, wrong)
        await written(found)
        await found.store.write_status(ref, wrong)
        assert found.store.is_idle()
        await found.store.write_status(ref, given(VIP))
        await written(found)
        assert addresses(get(server, ref)) == [VIP]

    run(server, test)


def test_decision_on_a_snapshot_that_a_peer_has_overtaken_is_not_written(server: Cluster) -> None:
    ref = service(server, "overtaken")

    async def test(found: Running, client: Client) -> None:
        await until(lambda: "overtaken" in found.names(), seconds=SECONDS)
        (basis,) = (one for one in found.snapshot.services if one.ref == ref)
        await peer_updates(client, ref, OTHER_VIP)
        await until(lambda: basis not in found.snapshot.services, seconds=SECONDS)
        await found.store.write_status(ref, given(VIP), basis=basis)
        await written(found)
        assert addresses(get(server, ref)) == [OTHER_VIP]
        (basis,) = (one for one in found.snapshot.services if one.ref == ref)
        await found.store.write_status(ref, given(VIP), basis=basis)
        await written(found)
        assert addresses(get(server, ref)) == [VIP]

    run(server, test)


def test_nothing_is_remembered_of_a_service_that_is_deleted(server: Cluster) -> None:
    ref = service(server, "forgotten")

    async def test(found: Running, client: Client) -> None:
        await until(lambda: "forgotten" in found.names(), seconds=SECONDS)
        await found.store.write_status(ref, {"loadBalancer": {"ingress": [{"ip": "no address", "ipMode": "VIP"}]}})
        await written(found)
        assert ref in found.store._writer.remembered()
        await client.request("DELETE", "/api/v1/namespaces/default/services/forgotten", timeout_seconds=SECONDS)
        await until(lambda: ref not in found.store._writer.remembered(), seconds=SECONDS)

    run(server, test)
