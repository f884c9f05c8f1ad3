"""Core Kubernetes objects and our own NodeAnnouncement, as far as an announcer looks at them.

Fields that are not ours to judge are left alone here: the API server owns them. Both families of annotations are read,
`metallb.universe.tf/` being the older spelling of `metallb.io/`.
"""

from collections.abc import Callable, Iterator, Mapping

from announcer.core.dialects.fields import Fields, read_address, read_network
from announcer.core.model import (
    AddressReport,
    Endpoint,
    EndpointSlice,
    HoldReport,
    IfName,
    IPAddress,
    IPFamilyPolicy,
    LinkReport,
    ModelObject,
    MoveReport,
    Namespace,
    Node,
    NodeName,
    NodeReport,
    ObjectRef,
    Service,
    ServiceKey,
    SessionReport,
    TrafficPolicy,
)

FAMILIES = {"IPv4": 4, "IPv6": 6}
POOL_ANNOTATIONS = ("purelb.io/service-group", "metallb.io/address-pool", "metallb.universe.tf/address-pool")
ADDRESS_ANNOTATIONS = ("purelb.io/addresses", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")
SHARING_ANNOTATIONS = {
    "purelb.io/allow-shared-ip": "purelb",
    "metallb.io/allow-shared-ip": "metallb",
    "metallb.universe.tf/allow-shared-ip": "metallb",
}
SHARES_WITH_ANNOTATION = "announcer.io/share-with-namespaces"
MULTI_POOL_ANNOTATION = "purelb.io/multi-pool"
ALLOW_LOCAL_ANNOTATION = "purelb.io/allow-local"
"""Asks PureLB to honor policy Local for local addresses; here it always is."""
WRITTEN_BY_PEERS = {
    *(f"purelb.io/{name}" for name in ("allocated-by", "allocated-from", "pool-type", "skip-ipv6-dad")),
    *("purelb.io/announcing-IPv4", "purelb.io/announcing-IPv6"),
    *("metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool"),
}
EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
SHUTTING_DOWN = "node is shutting down"
"""The kubelet's words (ShutdownStatus in pkg/kubelet/nodeshutdown, 1.34), among others where more is wrong."""
SERVICE_LABEL = "kubernetes.io/service-name"


def read_service(top: Fields, ref: ObjectRef, created: str) -> Service:
    metadata, spec = top.mapping("metadata"), top.mapping("spec")
    annotations = metadata.mapping("annotations")
    ports = spec.mappings("ports")
    ingress = top.mapping("status").mapping("loadBalancer").mappings("ingress")
    policy = TrafficPolicy(spec.choice("externalTrafficPolicy", [p.value for p in TrafficPolicy], "Cluster"))
    requested = _requested_addresses(annotations, spec)
    families, family_policy = _families(spec, requested)
    service = Service(
        ref=ref,
        is_load_balancer=spec.text("type", "ClusterIP") == "LoadBalancer",
        load_balancer_class=spec.text("loadBalancerClass"),
        families=families,
        family_policy=family_policy,
        traffic_policy=policy,
        ports=frozenset((p.text("protocol", "TCP"), p.number("port", 0, low=1, high=65535)) for p in ports),
        labels=metadata.labels("labels"),
        requested_addresses=requested,
        requested_pool=_requested_pool(annotations, requested),
        sharing_key=_sharing_key(annotations),
        shares_with=frozenset(_words(annotations.text(SHARES_WITH_ANNOTATION))),
        backend=_backend(ref, spec.labels("selector"), policy),
        takes_from_every_range=_multi_pool(annotations),
        status_addresses=tuple(address for item in ingress if (address := item.address("ip"))),
        external_addresses=tuple(a for text in spec.texts("externalIPs") if (a := read_address(text))),
        created=created,
        brands={n: str(annotations.get(n)) for n in sorted(WRITTEN_BY_PEERS) if annotations.has(n)},
    )
    if service.is_load_balancer and not ports:
        spec.refuse("ports", None, "is required and empty")
    return service


def read_endpoint_slice(top: Fields, ref: ObjectRef, _created: str) -> EndpointSlice:
    name = top.mapping("metadata").labels("labels").get(SERVICE_LABEL, "")
    return EndpointSlice(
        ref=ref,
        service=ServiceKey(f"{ref.namespace}/{name}"),
        endpoints=tuple(_endpoint(item) for item in top.mappings("endpoints")),
    )


def _endpoint(item: Fields) -> Endpoint:
    """discovery/v1 EndpointConditions: an unset `ready` is true, an unset `serving` equals `ready`."""
    conditions = item.mapping("conditions")
    ready = conditions.flag("ready", default=True)
    node = item.text("nodeName")
    return Endpoint(
        node=NodeName(node) if node else None,
        ready=ready,
        serving=conditions.flag("serving", default=ready),
        terminating=conditions.flag("terminating"),
    )


def read_node(top: Fields, ref: ObjectRef, _created: str) -> Node:
    metadata, status = top.mapping("metadata"), top.mapping("status")
    labels = metadata.labels("labels")
    conditions, messages = {}, {}
    for item in status.mappings("conditions"):
        kind = item.text("type")
        conditions[kind], messages[kind] = item.text("status"), item.text("message")
    addresses: dict[str, list[IPAddress]] = {}
    for item in status.mappings("addresses"):
        kind = item.text("type")
        if kind in {"InternalIP", "ExternalIP"} and (address := item.address("address")):
            addresses.setdefault(kind, []).append(address)
    return Node(
        ref=ref,
        labels=labels,
        excluded=EXCLUDE_LABEL in labels,
        network_unavailable=conditions.get("NetworkUnavailable") == "True",
        is_shutting_down=conditions.get("Ready") == "False" and SHUTTING_DOWN in messages["Ready"],
        is_ready=conditions.get("Ready", "True") == "True",
        internal_addresses=tuple(addresses.get("InternalIP", ())),
        external_addresses=tuple(addresses.get("ExternalIP", ())),
        annotations=metadata.labels("annotations"),
    )


def read_namespace(top: Fields, ref: ObjectRef, _created: str) -> Namespace:
    """The API server gives every Namespace the label of its name; a folder of manifests has none."""
    labels = top.mapping("metadata").labels("labels")
    return Namespace(ref=ref, labels={"kubernetes.io/metadata.name": ref.name} | labels)


def read_node_announcement(top: Fields, ref: ObjectRef, _created: str) -> NodeReport:
    status = top.mapping("status")
    return NodeReport(
        ref=ref,
        links=tuple(_link(item) for item in status.mappings("links")),
        addresses=tuple(one for item in status.mappings("addresses") for one in _addresses(item)),
        errors=status.texts("errors"),
        holds=tuple(HoldReport(since=i.text("since"), message=i.text("message")) for i in status.mappings("holds")),
        moves=tuple(_move(item) for item in status.mappings("moves")),
        sessions=tuple(one for item in status.mappings("sessions") if (one := _session(item))),
    )


def _addresses(item: Fields) -> Iterator[AddressReport]:
    """The addresses of one entry, which fare alike; `host` as prefix is a host route for each."""
    prefix, peers = item.text("prefix"), item.texts("peers")
    for text in item.texts("services"):
        service, _, address = text.partition(" ")
        yield AddressReport(
            service=ServiceKey(service),
            address=address,
            mode=item.text("mode"),
            link=item.text("link"),
            reason=item.text("reason"),
            message=item.text("message"),
            prefix=f"{address}/{128 if ':' in address else 32}" if prefix == "host" else prefix,
            peers=peers,
        )


def _move(item: Fields) -> MoveReport:
    silent = item.get("silentSeconds")
    return MoveReport(
        time=item.text("time"),
        link=IfName(item.text("link")),
        old=item.text("from"),
        new=item.text("to"),
        reason=item.text("reason"),
        silent_seconds=float(silent) if isinstance(silent, int | float) else 0.0,
        count=item.number("count", 1, low=1, high=2**31 - 1),
        services=item.texts("services"),
    )


def _session(item: Fields) -> SessionReport | None:
    address, counts = read_address(item.text("peerAddress")), item.mapping("routes")
    if address is None:
        return None
    return SessionReport(
        peer_address=address,
        peer=item.text("peer"),
        is_known=item.text("state") != "Unknown",
        is_established=item.flag("established"),
        since=item.text("since"),
        last_error=item.text("lastError"),
        bfd=item.text("bfd"),
        **{name: counts.number(name, 0, low=0, high=2**31 - 1) for name in ("proven", "pending", "refused")},
    )


def _link(item: Fields) -> LinkReport:
    networks = {name: tuple(n for t in item.texts(name) if (n := read_network(t))) for name in ("subnets", "onLink")}
    return LinkReport(
        ifname=IfName(item.required("ifname")),
        lladdr=item.text("lladdr"),
        subnets=networks["subnets"],
        on_link=networks["onLink"],
        default_for=frozenset(n for n in item.elements("defaultFor") if n in {4, 6}),
        has_carrier=item.flag("hasCarrier", default=True),
        addresses=tuple(a for t in item.texts("addresses") if (a := read_address(t))),
    )


KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], ModelObject]] = {
    ("v1", "Service"): read_service,
    ("v1", "Node"): read_node,
    ("v1", "Namespace"): read_namespace,
    ("discovery.k8s.io/v1", "EndpointSlice"): read_endpoint_slice,
    ("announcer.io/v1alpha1", "NodeAnnouncement"): read_node_announcement,
}
CLUSTER_SCOPED = {"Node", "Namespace", "NodeAnnouncement"}


def _families(spec: Fields, requested: tuple[IPAddress, ...]) -> tuple[tuple[int, ...], IPFamilyPolicy]:
    """What a Service wants, completed as the API server does it: two families without a policy require both.

    clusterIPs count over ipFamilies, since kube-proxy serves no other family; where nothing is stated, requested
    addresses state it.
    """
    cluster = [address for text in spec.texts("clusterIPs") if (address := read_address(text))]
    stated = [FAMILIES[text] for text in spec.choices("ipFamilies", list(FAMILIES))]
    found = dict.fromkeys([a.version for a in cluster] or stated or [a.version for a in requested])
    default = IPFamilyPolicy.REQUIRE_DUAL_STACK if len(found) == 2 else IPFamilyPolicy.SINGLE_STACK
    policy = IPFamilyPolicy(spec.choice("ipFamilyPolicy", [p.value for p in IPFamilyPolicy], default.value))
    match policy:
        case IPFamilyPolicy.SINGLE_STACK:
            return tuple(found)[:1], policy
        case IPFamilyPolicy.PREFER_DUAL_STACK if cluster:
            return tuple(found), policy
        case _:
            return tuple(found | dict.fromkeys((4, 6))), policy


def _requested_addresses(annotations: Fields, spec: Fields) -> tuple[IPAddress, ...]:
    text = _one_of(annotations, ADDRESS_ANNOTATIONS)
    old = spec.text("loadBalancerIP")
    if text and old:
        spec.refuse("loadBalancerIP", old, "stands beside an annotation that asks for addresses", "remove one of both")
    where, name = (
        (annotations, next(filter(annotations.has, ADDRESS_ANNOTATIONS))) if text else (spec, "loadBalancerIP")
    )
    found: list[IPAddress] = []
    for part in _words(text or old):
        address = read_address(part)
        if address is None:
            where.refuse(name, part, "is not an IP address")
        else:
            found.append(address)
    if len({address.version for address in found}) != len(found):
        where.refuse(name, text or old, "asks for two addresses of one family", "give one per family")
    return tuple(found)


def _requested_pool(annotations: Fields, requested: tuple[IPAddress, ...]) -> str:
    """PureLB lets its addresses and loadBalancerIP override its service-group; MetalLB's two annotations must agree."""
    name = _one_of(annotations, POOL_ANNOTATIONS)
    is_metallb = any(annotations.has(a) for a in (*POOL_ANNOTATIONS, *ADDRESS_ANNOTATIONS) if a.startswith("metallb"))
    return name if is_metallb or not requested else ""


def _sharing_key(annotations: Fields) -> str:
    """`purelb KEY` or `metallb KEY`; empty where the Service shares with nobody."""
    _one_of(annotations, tuple(SHARING_ANNOTATIONS))
    given = [f"{whose} {key}" for name, whose in SHARING_ANNOTATIONS.items() if (key := annotations.text(name))]
    return given[0] if given else ""


def _backend(ref: ObjectRef, selector: Mapping[str, str], policy: TrafficPolicy) -> str:
    """Equal for equal pods: those of one selector in one namespace. Without a selector nobody else can have them."""
    if policy is TrafficPolicy.CLUSTER:
        return ""
    pods = ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or f"those of {ref.name}"
    return f"Local {ref.namespace} {pods}"


def _multi_pool(annotations: Fields) -> bool | None:
    text = annotations.text(MULTI_POOL_ANNOTATION)
    if text not in {"", "true", "false"}:
        annotations.refuse(MULTI_POOL_ANNOTATION, text, "must be true or false, as a string")
    return None if not text else text == "true"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _one_of(annotations: Fields, names: tuple[str, ...]) -> str:
    values = {name: annotations.text(name) for name in names if annotations.has(name)}
    if len(set(values.values())) > 1:
        first, second = sorted(values)[:2]
        annotations.refuse(second, values[second], f"disagrees with {first}", "keep one of both")
    return next(iter(values.values()), "")


def foreign_annotations(top: Fields) -> list[str]:
    """Annotations under our peers' prefixes that ask for something we don't do. They never refuse the Service."""
    ours = ("purelb.io/", "metallb.io/", "metallb.universe.tf/")
    known = WRITTEN_BY_PEERS.union(POOL_ANNOTATIONS, ADDRESS_ANNOTATIONS, SHARING_ANNOTATIONS)
    known |= {MULTI_POOL_ANNOTATION, ALLOW_LOCAL_ANNOTATION}
    return sorted(
        name for name in top.mapping("metadata").labels("annotations") if name.startswith(ours) and name not in known
    )
