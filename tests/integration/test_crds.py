"""deploy/crds and deploy/rbac on a real API server: what it takes, what it refuses and with which words, who may what.

A wrong object is sent with --dry-run=server, which judges it by the schema and keeps nothing.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from announcer.core import dialects
from announcer.core.report import object_status
from announcer.store.kubernetes.resources import CONFIGURATION, NODE_ANNOUNCEMENTS, Decoder, Resource
from lab.command import LabError, run
from lab.topology import REPOSITORY
from tests.builders import Raw
from tests.cluster import Cluster, cluster
from tests.unit.deploy.schemas import definitions

pytestmark = pytest.mark.kubernetes
MANIFESTS = REPOSITORY / "lab" / "manifests"
V1, V2, METALLB = "purelb.io/v1", "purelb.io/v2", "metallb.io/v1beta1"
ACCOUNT = "system:serviceaccount:announcer-system:announcer-"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        made.install()
        for name in ("test", "purelb-system", "metallb-system"):
            made.kubectl("create", "namespace", name)
        yield made


def an_object(api_version: str, kind: str, spec: Any, name: str = "x") -> Raw:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "test"}, "spec": spec}


def group(pool: str, subnet: str = "10.1.1.0/24", **more: Any) -> Raw:
    family = "v6pools" if ":" in pool else "v4pools"
    return {"local": {family: [{"pool": pool, "subnet": subnet, **more}]}}


def peer(**spec: Any) -> Raw:
    return {k: v for k, v in ({"myASN": 1, "peerASN": 2, "peerAddress": "10.1.1.1"} | spec).items() if v is not None}


def bgp(**config: Any) -> Raw:
    return {"global": {"asn": 1}, "neighbors": [{"config": {"peerAsn": 2, **config}}]}


def tried(server: Cluster, *objects: Raw) -> str:
    text = yaml.safe_dump_all(objects)
    return server.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)


POOL, PEER, ADVERTISEMENT = (METALLB, "IPAddressPool"), ("metallb.io/v1beta2", "BGPPeer"), (METALLB, "BGPAdvertisement")
GROUP_V1, GROUP_V2, BGP = (V1, "ServiceGroup"), (V2, "ServiceGroup"), ("bgp.purelb.io/v1", "BGPConfiguration")
SELECTOR = {"matchExpressions": [{"key": "a", "operator": "In"}]}
WRONG: list[tuple[tuple[str, str], Any, str, str]] = [
    (GROUP_V1, group("10.1.1-100-10.1.1.200"), "v4pools[0].pool", "did you mean 10.1.1.100-10.1.1.200?"),
    (GROUP_V1, group("10.1.1.100-10.1.1-200"), "v4pools[0].pool", "did you mean 10.1.1.100-10.1.1.200?"),
    (GROUP_V1, group("10.1.1.100"), "v4pools[0].pool", "did you mean 10.1.1.100/32?"),
    (GROUP_V1, group("some"), "v4pools[0].pool", "some is neither first-last nor a CIDR"),
    (GROUP_V1, group("10.1.2.1-10.1.2.9"), "v4pools[0]", "10.1.2.1-10.1.2.9 does not lie in the subnet 10.1.1.0/24"),
    (GROUP_V1, group("10.1.0.0/16"), "v4pools[0]", "10.1.0.0/16 does not lie in the subnet 10.1.1.0/24"),
    (GROUP_V1, group("10.1.1.99-10.1.1.10"), "v4pools[0]", "10.1.1.99-10.1.1.10 begins after its end"),
    (GROUP_V1, group("10.1.1.1-10.1.1.9", "10.1.1.0"), "v4pools[0].subnet", "10.1.1.0 is not a subnet"),
    (GROUP_V1, group("10.1.1.1-10.1.1.9", aggregation="33"), "v4pools[0].aggregation", "from /8 to /32"),
    (GROUP_V1, {"local": {"v4pools": [{"pool": "fd00::1-fd00::9", "subnet": "fd00::/64"}]}}, "v4pools[0]", "v6pools"),
    (GROUP_V1, {"local": {}}, "spec.local", "has no pool of addresses"),
    (GROUP_V1, {"local": {"pool": "10.1.1.0/28"}}, "spec.local", "pool and subnet go together"),
    (GROUP_V1, {**group("10.1.1.0/28"), "remoet": {}}, "spec.remoet", "field not declared in schema"),
    (GROUP_V2, {**group("10.1.1.0/28"), "remote": group("10.1.2.0/28", "10.1.2.0/24")["local"]}, "spec", "exactly one"),
    (GROUP_V2, {**group("10.1.1.0/28"), "namespaceDefault": True}, "spec", "namespaceDefault needs namespaces"),
    (GROUP_V2, {**group("10.1.1.0/28"), "enforceNamespaces": True}, "spec", "enforceNamespaces needs namespaces"),
    ((V1, "LBNodeAgent"), {"local": {"extlbint": "a name with blanks"}}, "local.extlbint", "is not a link name"),
    ((V2, "LBNodeAgent"), {"local": {"localInterface": "eth("}}, "local.localInterface", "localInterface"),
    ((V2, "LBNodeAgent"), {"nodeSelector": SELECTOR}, "matchExpressions[0]", "In and NotIn need values"),
    (POOL, {}, "spec.addresses", "Required"),
    (POOL, {"addresses": []}, "spec.addresses", "at least 1"),
    (POOL, {"addresses": ["10.1.1-100-10.1.1.200"]}, "addresses[0]", "did you mean 10.1.1.100-10.1.1.200?"),
    (POOL, {"addresses": ["10.1.1.0/28", "10.1.1.1"]}, "addresses[1]", "did you mean 10.1.1.1/32?"),
    (POOL, {"addresses": ["10.1.1.200 - 10.1.1.100"]}, "addresses[0]", "begins after its end"),
    (POOL, {"addresses": ["10.1.1.1-fd00::1"]}, "addresses[0]", "mixes IPv4 and IPv6"),
    (POOL, {"addresses": ["10.1.1.0/33"]}, "addresses[0]", "is neither first-last nor a CIDR"),
    (POOL, {"addresses": ["10.1.1.0/28"], "autoassign": True}, "spec.autoassign", "field not declared in schema"),
    ((METALLB, "L2Advertisement"), {"nodeSelectors": [SELECTOR]}, "nodeSelectors[0]", "In and NotIn need values"),
    ((METALLB, "L2Advertisement"), {"preferredNodeSelectors": [{"weight": 0, "preference": {}}]}, "weight", "1"),
    (ADVERTISEMENT, {"aggregationLength": 33}, "spec.aggregationLength", "less than or equal to 32"),
    (ADVERTISEMENT, {"aggregationLengthV6": 0}, "spec.aggregationLengthV6", "greater than or equal to 1"),
    (ADVERTISEMENT, {"localPref": -1}, "spec.localPref", "greater than or equal to 0"),
    (ADVERTISEMENT, {"communities": ["70000:1"]}, "communities[0]", "70000:1 is neither a:b of 16 bits each"),
    (ADVERTISEMENT, {"communities": ["large:1:2"]}, "communities[0]", "large:1:2 is neither"),
    (ADVERTISEMENT, {"aggregationLength": 24, "serviceSelectors": [{}]}, "spec", "serviceSelectors exclude"),
    (PEER, peer(myASN=None), "spec.myASN", "Required"),
    (PEER, peer(peerASN=None), "spec", "exactly one of peerASN and dynamicASN"),
    (PEER, peer(dynamicASN="external"), "spec", "exactly one of peerASN and dynamicASN"),
    (PEER, peer(interface="eth1"), "spec", "exactly one of peerAddress and interface"),
    (PEER, peer(peerAddress="10.1.1"), "spec.peerAddress", "10.1.1 is not an IP address"),
    (PEER, peer(sourceAddress="fd00::1"), "spec", "sourceAddress is not of the family of peerAddress"),
    (PEER, peer(routerID="fd00::1"), "spec.routerID", "is not an IPv4 address"),
    (PEER, peer(holdTime="2s"), "spec.holdTime", "must be 0s or from 3s to 65535s"),
    (PEER, peer(holdTime="90"), "spec.holdTime", "90 is not a time"),
    (PEER, peer(holdTime="9s", keepaliveTime="10s"), "spec", "keepaliveTime is longer than holdTime"),
    (PEER, peer(connectTime="1500ms"), "spec.connectTime", "must be whole seconds"),
    (PEER, peer(peerPort=17000), "spec.peerPort", "less than or equal to 16384"),
    (PEER, peer(peerASN=1, ebgpMultiHop=True), "spec", "ebgpMultiHop is for eBGP"),
    (PEER, peer(password="a", passwordSecret={"name": "b"}), "spec", "exclude each other"),
    (PEER, peer(myASN=2**32), "spec.myASN", "4294967295"),
    ((METALLB, "BGPPeer"), peer(holdTime="1s"), "spec.holdTime", "must be 0s or from 3s"),
    ((METALLB, "Community"), {"communities": [{"name": "a", "value": "1:65536"}]}, "communities[0].value", "1:65536"),
    ((METALLB, "Community"), {"communities": [{"name": "a"}, {"name": "a"}]}, "spec.communities", "one name twice"),
    ((METALLB, "BFDProfile"), {"detectMultiplier": 1}, "spec.detectMultiplier", "greater than or equal to 2"),
    ((METALLB, "BFDProfile"), {"minimumTtl": 255}, "spec.minimumTtl", "less than or equal to 254"),
    (BGP, {"neighbors": []}, "spec.global", "Required"),
    (BGP, bgp(), "neighbors[0].config", "must have neighborAddress, or neighborInterface"),
    (BGP, bgp(neighborAddress="10.1.1"), "config.neighborAddress", "10.1.1 is not an IP address"),
    (BGP, {"global": {"asn": 1, "routerID": "fd00::1"}}, "global.routerID", "is neither an IPv4 address"),
    (BGP, {"global": {"asn": 1, "routerIDPool": "10.0.0.0"}}, "global.routerIDPool", "is not an IPv4 network"),
    (
        BGP,
        {"global": {"asn": 1}, "dynamicNeighbors": [{"prefix": "x", "peerGroup": "g"}]},
        "[0].prefix",
        "not a network",
    ),
]
RIGHT: list[tuple[tuple[str, str], Any]] = [
    (GROUP_V1, group(" 10.1.1.10 - 10.1.1.99 ", aggregation="/24")),
    (GROUP_V1, group("10.1.1.9-10.1.1.10", "10.1.1.1/24", aggregation="32")),
    (GROUP_V1, group("fd00::ff-fd00::1:0", "fd00::/64")),
    (GROUP_V1, {"local": {"subnet": "10.1.1.0/24", "pool": "10.1.1.0/28", "aggregation": "default"}}),
    (GROUP_V1, {"netbox": {"url": "https://netbox.example", "tenant": "t"}}),
    (GROUP_V2, {"remote": {"v4pool": {"pool": "10.1.1.0/28", "subnet": "10.1.1.0/24"}, "multiPool": True}}),
    (GROUP_V2, {**group("10.1.1.0/28"), "namespaces": ["a"], "enforceNamespaces": True, "namespaceDefault": True}),
    (GROUP_V2, {"external": {"provider": "x", "announce": "remote"}}),
    ((V1, "LBNodeAgent"), {"local": {"extlbint": "eth1", "localint": "default", "sendgarp": False}}),
    ((V2, "LBNodeAgent"), {"nodeSelector": {}, "local": {"localInterface": "eth.*|bond0", "garpConfig": {"count": 3}}}),
    (POOL, {"addresses": ["10.1.1.7/24", "10.1.2.9-10.1.2.10", "fd00::/48", "fd00:1::f - fd00:1::10"]}),
    (POOL, {"addresses": ["10.1.1.0/28"], "serviceAllocation": {"priority": 5, "namespaceSelectors": [{}]}}),
    ((METALLB, "L2Advertisement"), {}),
    ((METALLB, "L2Advertisement"), {"preferredNodeSelectors": [{"weight": 1, "preference": {}}], "interfaces": ["e"]}),
    (ADVERTISEMENT, {}),
    (ADVERTISEMENT, {"communities": ["65535:65281", "large:4294967295:1:2", "no-export"], "localPref": 4294967295}),
    (ADVERTISEMENT, {"serviceSelectors": [{"matchLabels": {"a": "b"}}], "aggregationLength": 32}),
    (PEER, peer(peerASN=None, dynamicASN="external", peerAddress=None, interface="eth1", vrf="red")),
    (PEER, peer(holdTime="1m30s", keepaliveTime="30s", connectTime="2s", routerID="1.1.1.1", bfdProfile="fast")),
    (PEER, peer(holdTime="0s", passwordSecret={"name": "a"}, myASN=4294967295, ebgpMultiHop=True)),
    (PEER, peer(peerAddress="fd00::1", sourceAddress="fd00::2", enableGracefulRestart=True, disableMP=True)),
    ((METALLB, "BGPPeer"), peer(password="secret", peerPort=0)),
    ((METALLB, "Community"), {"communities": [{"name": "no-export", "value": "65535:65281"}, {"name": "b"}]}),
    ((METALLB, "BFDProfile"), {"receiveInterval": 10, "echoMode": True, "minimumTtl": 1}),
    (BGP, bgp(neighborAddress="fe80::1%eth0") | {"netlinkImport": {"enabled": True, "interfaceList": ["kube-lb0"]}}),
    (BGP, {"global": {"asn": 4294967295, "routerID": "${node.annotations['bgp.purelb.io/router-id']}"}}),
]


@pytest.mark.parametrize(("kind", "spec", "field", "words"), WRONG, ids=lambda v: str(v)[:60])
def test_wrong_object_is_refused_by_the_schema(
    server: Cluster, kind: tuple[str, str], spec: Any, field: str, words: str
) -> None:
    with pytest.raises(LabError) as refusal:
        tried(server, an_object(*kind, spec))
    assert field in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize(("kind", "spec"), RIGHT, ids=lambda v: str(v)[:60])
def test_object_that_a_peer_takes_is_taken(server: Cluster, kind: tuple[str, str], spec: Any) -> None:
    assert "serverside-applied" in tried(server, an_object(*kind, spec))


@pytest.mark.parametrize("folder", ["purelb", "metallb"])
def test_manifests_of_the_lab_are_taken(server: Cluster, folder: str) -> None:
    files = [path for path in sorted((MANIFESTS / folder).glob("*.yaml")) if path.name != "nodes.yaml"]
    assert files
    server.kubectl("apply", "--server-side", *(f"--filename={path}" for path in files))


def test_mistake_of_the_document_is_answered_with_what_was_meant(server: Cluster) -> None:
    with pytest.raises(LabError, match=r"did you mean 10\.111\.111\.100-10\.111\.111\.200\?"):
        server.kubectl("create", "-f", str(MANIFESTS / "as-written" / "purelb" / "02-servicegroups.yaml"))


def raw(server: Cluster, version: str, name: str) -> bytes:
    path = f"/apis/purelb.io/{version}/namespaces/test/servicegroups/{name}"
    return server.kubectl("get", "--raw", path).encode()


@pytest.mark.parametrize("written", ["v1", "v2"])
def test_object_is_understood_in_the_version_it_was_written_in(server: Cluster, written: str) -> None:
    """Also when its status is written in the other one."""
    groups, name = CONFIGURATION[0], f"written-in-{written}"
    one = an_object(f"purelb.io/{written}", "ServiceGroup", group("10.1.1.0/28"), name)
    server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(one))
    write_status(server, "purelb.io/v2", "servicegroup", {**one, "apiVersion": "purelb.io/v2"})
    for version in groups.versions:
        found = Decoder(groups, version)(raw(server, version, name))
        assert found["apiVersion"] == f"purelb.io/{written}"
        assert dialects.parse(found).problems == ()


SPECS = {"ServiceGroup": group("10.1.1.0/28"), "LBNodeAgent": {"local": {"localint": "eth1", "extlbint": "eth1"}}}
APPLY: dict[str, tuple[str, ...]] = {"client": ("apply",), "server": ("apply", "--server-side", "--force-conflicts")}
EDITOR = "KUBE_EDITOR=sed -i -e s,/28,/29, -e s/eth1/eth2/"


def applied(server: Cluster, how: str, one: Raw) -> None:
    """By a person; then the allocator says in the status how it has read it."""
    server.kubectl(*APPLY[how], "--filename=-", stdin=json.dumps(one))
    announce = {"announce": "" if one["apiVersion"] == V1 else "local"} if one["kind"] == "ServiceGroup" else {}
    head = {"apiVersion": V2, "kind": one["kind"], "metadata": one["metadata"]}
    apply_status(server, "allocator", {**head, "status": announce})


def meant(server: Cluster, resource: Resource, name: str) -> set[str]:
    """Versions in which an object is understood, whichever it is read by."""
    found = set()
    for version in resource.versions:
        path = f"/apis/purelb.io/{version}/namespaces/test/{resource.plural}/{name}"
        one = Decoder(resource, version)(server.kubectl("get", "--raw", path).encode())
        assert dialects.parse(one).problems == ()
        found.add(one["apiVersion"])
    return found


@pytest.mark.parametrize("how", ["client", "server"])
@pytest.mark.parametrize("resource", CONFIGURATION[:2], ids=lambda r: r.kind)
def test_object_of_v1_stays_one_whatever_comes_through_v2(server: Cluster, how: str, resource: Resource) -> None:
    """kubectl labels, annotates, patches and edits through v2, as discovery prefers that."""
    one = an_object(V1, resource.kind, SPECS[resource.kind], f"by-{how}")
    what = (f"{resource.plural}.v2.purelb.io", f"by-{how}", "--namespace=test")
    changed = json.dumps({"spec": json.loads(json.dumps(one["spec"]).replace("/28", "/30").replace("eth1", "eth3"))})
    for arguments in (
        ("label", "a=b"),
        ("annotate", "a=b"),
        ("patch", "--type=merge", f"--patch={changed}"),
        ("edit",),
    ):
        applied(server, how, one)
        assert meant(server, resource, f"by-{how}") == {V1}
        run(["env", EDITOR, *kubectl(server), arguments[0], *what, *arguments[1:]])
        assert meant(server, resource, f"by-{how}") == {V1}, arguments
    applied(server, how, one)
    assert meant(server, resource, f"by-{how}") == {V1}


@pytest.mark.parametrize("how", ["client", "server"])
def test_group_of_v1_becomes_one_of_v2_where_somebody_applies_it_as_such(server: Cluster, how: str) -> None:
    groups, name = CONFIGURATION[0], f"moved-by-{how}"
    for version in ("v1", "v2", "v1"):
        one = an_object(f"purelb.io/{version}", "ServiceGroup", SPECS["ServiceGroup"], name)
        server.kubectl(*APPLY[how], "--filename=-", stdin=json.dumps(one))
        assert meant(server, groups, name) == {f"purelb.io/{version}"}
        applied(server, how, one)
        assert meant(server, groups, name) == {f"purelb.io/{version}"}


def apply_status(server: Cluster, who: str, body: Raw) -> None:
    how = ("apply", "--server-side", "--subresource=status", "--force-conflicts", f"--field-manager=announcer-{who}")
    server.kubectl(*how, "--filename=-", stdin=json.dumps(body), who=who)


def write_status(server: Cluster, api_version: str, plural: str, one: Raw) -> Raw:
    """As the allocator writes it, with its own rights."""
    conditions: Any = object_status([], is_used=True)["conditions"]
    status = {"conditions": [{**c, "lastTransitionTime": "2026-01-01T00:00:00Z"} for c in conditions]}
    body = {"apiVersion": api_version, "kind": one["kind"], "metadata": one["metadata"], "status": status}
    apply_status(server, "allocator", body)
    where = f"{plural}.{api_version.partition('/')[0]}/{one['metadata']['name']}"
    found: Raw = json.loads(server.kubectl("get", where, "--namespace=test", "-o", "json"))
    assert found["status"] == status
    return found


SMALL = {
    "ServiceGroup": group("10.1.1.0/28"),
    "IPAddressPool": {"addresses": ["10.1.1.0/28"]},
    "BGPPeer": peer(),
    "BGPConfiguration": {"global": {"asn": 1}},
}


@pytest.mark.parametrize("resource", CONFIGURATION, ids=lambda r: r.kind)
def test_status_of_every_kind_keeps_conditions(server: Cluster, resource: Any) -> None:
    one = an_object(resource.api_version(resource.versions[0]), resource.kind, SMALL.get(resource.kind, {}), "told")
    server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(one))
    write_status(server, one["apiVersion"], resource.plural, one)


def test_definitions_are_established_with_nothing_to_complain_of(server: Cluster) -> None:
    """NonStructuralSchema or an unaccepted name would be a condition."""
    found = json.loads(server.kubectl("get", "crd", "-o", "json"))["items"]
    assert {f"{crd['metadata']['name']}.yaml" for crd in found} == set(definitions())
    for crd in found:
        conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}


def may(server: Cluster, who: str, verb: str, what: str, namespace: str) -> bool:
    where = "--all-namespaces" if namespace == "*" else f"--namespace={namespace}"
    subresource = [f"--subresource={part}" for part in what.split("/")[1:]]
    question = ("auth", "can-i", verb, what.partition("/")[0], where, f"--as={ACCOUNT}{who}", *subresource)
    try:
        return server.kubectl(*question).strip() == "yes"
    except LabError:  # kubectl ends with 1 where the answer is no
        return False


@pytest.mark.parametrize(
    ("who", "verb", "what", "namespace"),
    [
        ("agent", "watch", "services", "*"),
        ("agent", "list", "endpointslices.discovery.k8s.io", "*"),
        ("agent", "list", "configs.bgp.purelb.io", "*"),
        ("agent", "create", NODE_ANNOUNCEMENTS.plural, "*"),
        ("agent", "patch", "nodeannouncements/status", "*"),
        ("agent", "create", "events", "test"),
        ("agent", "get", "secrets", "announcer-system"),
        ("allocator", "patch", "services/status", "*"),
        ("allocator", "patch", "ipaddresspools.metallb.io/status", "*"),
        ("allocator", "update", "leases.coordination.k8s.io", "announcer-system"),
        ("allocator", "delete", "servicel2statuses.metallb.io", "announcer-system"),
    ],
)
def test_process_may_do_what_it_does(server: Cluster, who: str, verb: str, what: str, namespace: str) -> None:
    assert may(server, who, verb, what, namespace)


@pytest.mark.parametrize(
    ("who", "verb", "what", "namespace"),
    [
        ("agent", "delete", "services", "test"),
        ("agent", "patch", "services", "test"),
        ("agent", "patch", "services/status", "test"),
        ("agent", "get", "secrets", "test"),
        ("agent", "list", "secrets", "announcer-system"),
        ("agent", "get", "leases.coordination.k8s.io", "announcer-system"),
        ("agent", "patch", "servicegroups.purelb.io/status", "test"),
        ("agent", "delete", NODE_ANNOUNCEMENTS.plural, "*"),
        ("agent", "patch", "nodes", "*"),
        ("allocator", "delete", "services", "test"),
        ("allocator", "update", "services", "test"),
        ("allocator", "patch", "services", "test"),
        ("allocator", "get", "secrets", "announcer-system"),
        ("allocator", "update", "leases.coordination.k8s.io", "kube-node-lease"),
        ("allocator", "patch", "ipaddresspools.metallb.io", "test"),
        ("allocator", "delete", "servicel2statuses.metallb.io", "test"),
        ("allocator", "patch", "nodeannouncements/status", "*"),
        ("allocator", "create", "pods", "announcer-system"),
    ],
)
def test_process_may_do_nothing_else(server: Cluster, who: str, verb: str, what: str, namespace: str) -> None:
    assert not may(server, who, verb, what, namespace)


def test_allocator_writes_annotations_of_a_service_without_a_right_to_its_spec(server: Cluster) -> None:
    ports = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(an_object("v1", "Service", ports, "web")))
    metadata = {"name": "web", "namespace": "test", "annotations": {"purelb.io/allocated-by": "PureLB"}}
    status = {"loadBalancer": {"ingress": [{"ip": "10.1.1.1", "ipMode": "VIP"}]}}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "status": status}
    apply_status(server, "allocator", body)
    found = json.loads(server.kubectl("get", "service", "web", "--namespace=test", "-o", "json"))
    assert found["metadata"]["annotations"]["purelb.io/allocated-by"] == "PureLB"
    assert found["status"]["loadBalancer"] == status["loadBalancer"]


def test_agent_writes_its_announcement_and_columns_show_it(server: Cluster) -> None:
    kind = {"apiVersion": "announcer.io/v1alpha1", "kind": "NodeAnnouncement", "metadata": {"name": "n1"}}
    server.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(kind), who="agent")
    links = [{"ifname": "eth0", "defaultFor": [4]}, {"ifname": "eth1", "hasCarrier": True}]
    move = {"time": "2026-11-25T12:00:00Z", "link": "eth0", "services": ["test/web 10.1.1.1"], "silentSeconds": 0.263}
    status = {"links": links, "errors": ["a", "b"], "isSidecarKnown": True, "isDrained": False}
    for moves in ([], [move | {"reason": "unheld"}, move | {"from": "n2", "to": "n1", "reason": "node-dead"}]):
        apply_status(server, "agent", {**kind, "status": status | {"moves": moves}})
        shown = server.kubectl("get", "nodeannouncements").splitlines()
        assert shown[0].split() == ["NAME", "SIDECAR", "DRAINED", "ERRORS", "LAST", "MOVE", "MOVED", "AGE"]
        assert shown[1].split()[:4] == ["n1", "true", "false", '["a","b"]']
        assert ("node-dead" in shown[1]) is bool(moves)


def kubectl(server: Cluster) -> tuple[str, str]:
    """To be run in an environment of its own."""
    return str(server.server.programs / "kubectl"), f"--kubeconfig={server.server.kubeconfig('admin')}"


def install(server: Cluster) -> str:
    """By the script, as a user does it."""
    return run(
        ["env", f"KUBECTL={' '.join(kubectl(server))}", str(REPOSITORY / "deploy" / "install-crds.sh")], timeout=60.0
    )


def test_installing_keeps_what_is_not_ours_and_brings_what_is_missing(server: Cluster) -> None:
    kept, missing = "bgpnodestatuses.bgp.purelb.io", "configurationstates.metallb.io"
    mark = "app.kubernetes.io/part-of"
    server.kubectl("label", "crd", kept, f"{mark}-")
    server.kubectl("delete", "crd", missing)
    before = server.kubectl("get", "crd", kept, "-o", "yaml")
    said = install(server)
    assert f"{kept} belongs to somebody else" in said
    assert f"{missing} created" in said
    assert server.kubectl("get", "crd", kept, "-o", "yaml") == before
    server.kubectl("label", "crd", kept, f"{mark}=announcer")
    assert "belongs to somebody else" not in install(server)
