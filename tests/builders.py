"""Values for tests, with defaults that make one healthy cluster of three nodes: say only what a test is about."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from announcer.core.dialects import assemble, parse
from announcer.core.model import (
    Devconf,
    IfName,
    IPAddress,
    IPNetwork,
    KernelRoute,
    Link,
    LinkAddress,
    ObservedKernel,
    Parsed,
    RouteKind,
    Scope,
    Snapshot,
)

NODES = ("n1", "n2", "n3")
Raw = dict[str, Any]


def ip(text: str) -> IPAddress:
    return ip_address(text)


def net(text: str) -> IPNetwork:
    return ip_network(text)


def raw(api_version: str, kind: str, name: str, *, namespace: str = "", **rest: Any) -> Raw:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {}) | rest.pop("metadata", {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata} | rest


def service(
    name: str = "web",
    *,
    pool: str = "",
    namespace: str = "test",
    addresses: Iterable[str] = (),
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Raw:
    notes = dict(annotations or {}) | ({"purelb.io/service-group": pool} if pool else {})
    body = {"type": "LoadBalancer", "ports": [{"port": 80}]} | spec
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}
    return raw("v1", "Service", name, namespace=namespace, metadata={"annotations": notes}, spec=body, status=status)


def group(
    name: str = "default", pool: str = "10.113.113.100-10.113.113.200", subnet: str = "10.113.113.0/24", **more: Any
) -> Raw:
    family = "v6pools" if ":" in pool else "v4pools"
    spec = {"local": {family: [{"subnet": subnet, "pool": pool, "aggregation": "default"} | more]}}
    return raw("purelb.io/v1", "ServiceGroup", name, namespace="purelb-system", spec=spec)


def agent(**local: Any) -> Raw:
    return raw("purelb.io/v1", "LBNodeAgent", "default", namespace="purelb-system", spec={"local": local})


def endpoints(name: str = "web", nodes: Iterable[str] = NODES, **conditions: bool) -> Raw:
    items = [{"nodeName": node, "conditions": conditions} for node in nodes]
    labels = {"kubernetes.io/service-name": name}
    return raw(
        "discovery.k8s.io/v1", "EndpointSlice", name, namespace="test", metadata={"labels": labels}, endpoints=items
    )


def node(name: str, **labels: str) -> Raw:
    return raw("v1", "Node", name, metadata={"labels": {"kubernetes.io/hostname": name} | labels})


def peer(name: str = "tor", address: str = "10.111.111.254", **more: Any) -> Raw:
    spec = {"myASN": 64512, "peerASN": 64513, "peerAddress": address} | more
    return raw("metallb.io/v1beta2", "BGPPeer", name, namespace="metallb-system", spec=spec)


def metallb(kind: str, name: str, **spec: Any) -> Raw:
    return raw("metallb.io/v1beta1", kind, name, namespace="metallb-system", spec=spec)


def pool(name: str, *addresses: str, **spec: Any) -> Raw:
    return metallb("IPAddressPool", name, addresses=list(addresses), **spec)


def group_v2(name: str, kind: str = "remote", ranges: Iterable[tuple[str, str]] = (), **spec: Any) -> Raw:
    """`ranges` are pairs of subnet and pool; `spec` goes beside `local` or `remote`, `body` into it."""
    body: Raw = dict(spec.pop("body", {}))
    for subnet, text in ranges:
        body.setdefault("v6pools" if ":" in text else "v4pools", []).append({"subnet": subnet, "pool": text})
    return raw("purelb.io/v2", "ServiceGroup", name, namespace="purelb-system", spec={kind: body, **spec})


def namespace(name: str, **labels: str) -> Raw:
    return raw("v1", "Namespace", name, metadata={"labels": labels})


def announcement(name: str, *links: Raw) -> Raw:
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status={"links": list(links) or [eth0(name)]})


def eth0(name: str, **more: Any) -> Raw:
    number = NODES.index(name) + 2
    report = {
        "ifname": "eth0",
        "lladdr": f"02:00:00:00:00:0{number}",
        "subnets": ["10.111.111.0/24"],
        "defaultFor": [4],
    }
    return report | more


def eth1(name: str) -> Raw:
    return {"ifname": "eth1", "lladdr": f"02:00:00:00:01:0{NODES.index(name) + 2}"}


def parsed(*objects: Raw) -> list[Parsed]:
    return [parse(one, f"f.yaml:{i}") for i, one in enumerate(objects)]


def snapshot(*objects: Raw, nodes: Iterable[str] = NODES) -> Snapshot:
    """Nodes with one link each, and what the test adds."""
    cluster = [one for name in nodes for one in (node(name), announcement(name, eth0(name), eth1(name)))]
    own = {(one["kind"], one["metadata"]["name"]) for one in objects}
    kept = [one for one in cluster if (one["kind"], one["metadata"]["name"]) not in own]
    return assemble(parsed(*kept, *objects))


def kernel(
    name: str = "n1", *, addresses: Iterable[LinkAddress] = (), routes: Iterable[KernelRoute] = (), **devconf: int
) -> ObservedKernel:
    """A node's links: eth0 with its address and default route, eth1 bare, no kube-lb0 yet."""
    number = NODES.index(name) + 2
    conf = Devconf(**({"arp_ignore": 0, "arp_announce": 0, "rp_filter": 0} | devconf))
    return ObservedKernel(
        links=(
            Link(ifname=IfName("lo"), ifindex=1, lladdr="00:00:00:00:00:00", is_ethernet=False),
            Link(ifname=IfName("eth0"), ifindex=2, lladdr=f"02:00:00:00:00:0{number}", devconf=conf),
            Link(ifname=IfName("eth1"), ifindex=3, lladdr=f"02:00:00:00:01:0{number}", devconf=conf),
        ),
        addresses=(
            LinkAddress(ifname=IfName("eth0"), address=ip(f"10.111.111.{number}"), prefixlen=24, scope=Scope.GLOBAL),
            *addresses,
        ),
        routes=(
            route("0.0.0.0/0", "eth0", gateway=ip("10.111.111.254")),
            route("10.111.111.0/24", "eth0", protocol=2),
            *routes,
        ),
    )


def route(destination: str, ifname: str, **more: Any) -> KernelRoute:
    return KernelRoute(destination=net(destination), kind=RouteKind.UNICAST, ifname=IfName(ifname), **more)


def held(address: str, ifname: str = "kube-lb0", valid_seconds: int | None = None, protocol: int = 201) -> LinkAddress:
    """An address in the form that announcer gives it."""
    where = ip(address)
    return LinkAddress(
        ifname=IfName(ifname),
        address=where,
        prefixlen=where.max_prefixlen,
        scope=Scope.LINK,
        protocol=protocol,
        valid_seconds=valid_seconds,
    )
