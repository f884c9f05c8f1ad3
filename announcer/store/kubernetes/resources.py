"""What is read from the API server: which resources, in which versions, and which of their fields.

Objects of core kinds are decoded straight into the few fields that the dialects ask for; the rest (managedFields alone
is half of a Service) never becomes a Python object. Objects of people's own kinds are decoded whole, as every field of
theirs is either honored or refused by name.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict

import msgspec

from announcer.core.model import ObjectRef
from announcer.store.kubernetes.versions import original_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind as the API serves it. Of `versions`, the first that the server has is used; none may be there at all.

    `keeps` says whether an object is worth remembering; None keeps all.
    """

    kind: str
    group: str
    versions: tuple[str, ...]
    plural: str
    is_namespaced: bool = True
    shape: Any = Any
    """What becomes of an object's bytes; fields that it doesn't name never become Python objects."""
    has_original_version: bool = False
    """Versions are served without conversion: how an object is read depends on the one it was meant in (`versions`)."""
    is_needed: bool = True
    """Whether nothing can be decided without it; a kind that is only for others' tools holds nobody up."""
    page_size: int = 500
    whole_name: str = ""
    """Of a kind with a `shape`, the object that is read whole all the same: the one that the process writes itself."""

    @property
    def is_optional(self) -> bool:
        """Whether a cluster may lack the kind: somebody has to install it."""
        return self.group.count(".") > 0 and not self.group.endswith(".k8s.io")

    def collection(self, version: str) -> str:
        return f"{self._root(version)}/{self.plural}"

    def path(self, ref: ObjectRef, version: str, subresource: str = "") -> str:
        where = f"/namespaces/{ref.namespace}" if self.is_namespaced else ""
        tail = f"/{subresource}" if subresource else ""
        return f"{self._root(version)}{where}/{self.plural}/{ref.name}{tail}"

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    def _root(self, version: str) -> str:
        return f"/apis/{self.group}/{version}" if self.group else f"/api/{version}"


class _BareMetadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: str | None
    labels: dict[str, str]


class _Metadata(_BareMetadata, total=False):
    annotations: dict[str, str]


class _ServiceSpec(TypedDict, total=False):
    type: str
    loadBalancerClass: str
    loadBalancerIP: str
    ipFamilies: list[str]
    ipFamilyPolicy: str
    externalTrafficPolicy: str
    clusterIPs: list[str]
    externalIPs: list[str]
    selector: dict[str, str]
    ports: list["_ServicePort"]


class _ServicePort(TypedDict, total=False):
    port: int
    protocol: str


class _Service(TypedDict, total=False):
    metadata: _Metadata
    spec: _ServiceSpec
    status: dict[str, Any]


class _Endpoint(TypedDict, total=False):
    conditions: dict[str, bool | None]
    nodeName: str


class _EndpointSlice(TypedDict, total=False):
    metadata: _BareMetadata
    endpoints: list[_Endpoint] | None


class _NodeStatus(TypedDict, total=False):
    conditions: list["_NodeCondition"]
    addresses: list[dict[str, str]]


class _NodeCondition(TypedDict):
    type: str
    status: NotRequired[str]
    message: NotRequired[str]


class _Node(TypedDict, total=False):
    metadata: _Metadata
    status: _NodeStatus


class _Namespace(TypedDict, total=False):
    metadata: _BareMetadata


class _Secret(TypedDict, total=False):
    metadata: _BareMetadata
    type: str
    data: dict[str, str]


class _Links(TypedDict, total=False):
    links: Any


class _NodeAnnouncement(TypedDict, total=False):
    metadata: _BareMetadata
    status: _Links


SERVICES: Final = Resource(kind="Service", group="", versions=("v1",), plural="services", shape=_Service)
ENDPOINT_SLICES: Final = Resource(
    kind="EndpointSlice",
    group="discovery.k8s.io",
    versions=("v1",),
    plural="endpointslices",
    shape=_EndpointSlice,
)
NODES: Final = Resource(kind="Node", group="", versions=("v1",), plural="nodes", is_namespaced=False, shape=_Node)
NAMESPACES: Final = Resource(
    kind="Namespace", group="", versions=("v1",), plural="namespaces", is_namespaced=False, shape=_Namespace
)
NODE_ANNOUNCEMENTS: Final = Resource(
    kind="NodeAnnouncement",
    group="announcer.io",
    versions=("v1alpha1",),
    plural="nodeannouncements",
    is_namespaced=False,
    page_size=10,  # one may have half a megabyte
)
SECRETS: Final = Resource(kind="Secret", group="", versions=("v1",), plural="secrets", shape=_Secret)
"""Never listed: see `secrets`."""
CONFIGURATION: Final = (
    Resource(
        kind="ServiceGroup",
        group="purelb.io",
        versions=("v2", "v1"),
        plural="servicegroups",
        has_original_version=True,
    ),
    Resource(
        kind="LBNodeAgent",
        group="purelb.io",
        versions=("v2", "v1"),
        plural="lbnodeagents",
        has_original_version=True,
    ),
    Resource(kind="IPAddressPool", group="metallb.io", versions=("v1beta1",), plural="ipaddresspools"),
    Resource(kind="L2Advertisement", group="metallb.io", versions=("v1beta1",), plural="l2advertisements"),
    Resource(kind="BGPAdvertisement", group="metallb.io", versions=("v1beta1",), plural="bgpadvertisements"),
    Resource(kind="BGPPeer", group="metallb.io", versions=("v1beta2", "v1beta1"), plural="bgppeers"),
    Resource(kind="Community", group="metallb.io", versions=("v1beta1",), plural="communities"),
    Resource(kind="BFDProfile", group="metallb.io", versions=("v1beta1",), plural="bfdprofiles"),
    Resource(kind="BGPConfiguration", group="bgp.purelb.io", versions=("v1",), plural="configs"),
)
MIRRORS: Final = (
    Resource(
        kind="ServiceL2Status", group="metallb.io", versions=("v1beta1",), plural="servicel2statuses", is_needed=False
    ),
    Resource(
        kind="ServiceBGPStatus",
        group="metallb.io",
        versions=("v1beta1",),
        plural="servicebgpstatuses",
        is_needed=False,
    ),
)
"""What the allocator makes for MetalLB's tools."""
FOR_STATUS: Final = (SERVICES, NODES, NAMESPACES, NODE_ANNOUNCEMENTS, *CONFIGURATION)


def read_by_agent(node: str) -> tuple[Resource, ...]:
    """Of other nodes' reports the links alone: each may name ten thousand addresses beside."""
    reports = replace(NODE_ANNOUNCEMENTS, shape=_NodeAnnouncement, whole_name=node)
    return (SERVICES, ENDPOINT_SLICES, NODES, NAMESPACES, reports, *CONFIGURATION)


def read_by_allocator(*, has_mirrors: bool) -> tuple[Resource, ...]:
    return (*FOR_STATUS, *(MIRRORS if has_mirrors else ()))


class Page(msgspec.Struct):
    """A list, or a page of one (meta/v1 ListMeta)."""

    metadata: "_PageMetadata"
    items: list[msgspec.Raw] | None


class _PageMetadata(msgspec.Struct, rename={"continue_": "continue", "resource_version": "resourceVersion"}):
    resource_version: Annotated[str, msgspec.Meta(min_length=1)]
    continue_: str = ""


class Names(msgspec.Struct):
    """Discovery: an APIGroupList or an APIResourceList (meta/v1)."""

    kind: Literal["APIGroupList", "APIResourceList"]
    resources: list["_Name"] = []

    def has(self, plural: str) -> bool:
        return any(one.name == plural for one in self.resources)


class _Name(msgspec.Struct):
    name: str


class Event(msgspec.Struct):
    """A line of a watch (meta/v1 WatchEvent)."""

    type: str
    object: msgspec.Raw


class Bookmark(msgspec.Struct):
    """What a BOOKMARK's object is read for."""

    metadata: "_BookmarkMetadata"


class _BookmarkMetadata(msgspec.Struct, rename={"resource_version": "resourceVersion"}):
    resource_version: str = ""


class Failure(msgspec.Struct):
    """The meta/v1 Status in an ERROR event."""

    code: int = 0
    message: str = ""


class Decoder:
    """Bytes of one object of a resource to the JSON form that `core.dialects.parse` reads."""

    def __init__(self, resource: Resource, version: str) -> None:
        self._resource, self._version = resource, version
        self._decode = msgspec.json.Decoder(resource.shape).decode
        self._decode_whole = msgspec.json.Decoder().decode

    def __call__(self, data: msgspec.Raw | bytes) -> dict[str, Any]:
        """Raises msgspec.DecodeError where the server sent no such object."""
        raw = self._decode(data)
        if not isinstance(raw, dict) or not isinstance(raw.get("metadata"), dict):
            raise msgspec.DecodeError("not a Kubernetes object")
        if self._resource.whole_name and raw["metadata"].get("name") == self._resource.whole_name:
            raw = self._decode_whole(data)
        version = self._version
        if self._resource.has_original_version:
            version = original_version(raw, self._resource.versions) or version
        raw["metadata"].pop("managedFields", None)
        return {**raw, "apiVersion": self._resource.api_version(version), "kind": self._resource.kind}
