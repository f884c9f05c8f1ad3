"""The values that cross borders inside announcer.

Everything here is frozen and compares by value. Text becomes `ipaddress` types in `core.dialects` and stays that way; a
collection whose order means nothing is a frozenset or a sorted tuple. Names are those of the standards: RFC 4271 for
BGP, RFC 826 and 5227 for ARP, rtnetlink for the kernel, the API's fields in snake_case for Kubernetes.
"""

from announcer.core.model.actions import (
    Action as Action,
)
from announcer.core.model.actions import (
    AddVirtualLink as AddVirtualLink,
)
from announcer.core.model.actions import (
    AdvertiseRoutes as AdvertiseRoutes,
)
from announcer.core.model.actions import (
    BgpAction as BgpAction,
)
from announcer.core.model.actions import (
    DesiredPeer as DesiredPeer,
)
from announcer.core.model.actions import (
    KernelAction as KernelAction,
)
from announcer.core.model.actions import (
    Outcome as Outcome,
)
from announcer.core.model.actions import (
    PutAddresses as PutAddresses,
)
from announcer.core.model.actions import (
    PutRoute as PutRoute,
)
from announcer.core.model.actions import (
    RemoveAddresses as RemoveAddresses,
)
from announcer.core.model.actions import (
    RemoveRoute as RemoveRoute,
)
from announcer.core.model.actions import (
    SendAnnouncement as SendAnnouncement,
)
from announcer.core.model.actions import (
    SendProbe as SendProbe,
)
from announcer.core.model.actions import (
    SetDevconf as SetDevconf,
)
from announcer.core.model.actions import (
    SetPeers as SetPeers,
)
from announcer.core.model.actions import (
    WireAction as WireAction,
)
from announcer.core.model.actions import (
    WithdrawRoutes as WithdrawRoutes,
)
from announcer.core.model.basics import (
    ACCEPTED as ACCEPTED,
)
from announcer.core.model.basics import (
    GRACEFUL_SHUTDOWN as GRACEFUL_SHUTDOWN,
)
from announcer.core.model.basics import (
    PROTOCOL as PROTOCOL,
)
from announcer.core.model.basics import (
    UNKNOWN as UNKNOWN,
)
from announcer.core.model.basics import (
    VIRTUAL_IFNAME as VIRTUAL_IFNAME,
)
from announcer.core.model.basics import (
    IfName as IfName,
)
from announcer.core.model.basics import (
    IPAddress as IPAddress,
)
from announcer.core.model.basics import (
    IPNetwork as IPNetwork,
)
from announcer.core.model.basics import (
    NodeName as NodeName,
)
from announcer.core.model.basics import (
    ObjectRef as ObjectRef,
)
from announcer.core.model.basics import (
    Problem as Problem,
)
from announcer.core.model.basics import (
    Reason as Reason,
)
from announcer.core.model.basics import (
    ServiceKey as ServiceKey,
)
from announcer.core.model.basics import (
    Unknown as Unknown,
)
from announcer.core.model.objects import (
    AddressRange as AddressRange,
)
from announcer.core.model.objects import (
    AddressReport as AddressReport,
)
from announcer.core.model.objects import (
    Announce as Announce,
)
from announcer.core.model.objects import (
    Endpoint as Endpoint,
)
from announcer.core.model.objects import (
    EndpointSlice as EndpointSlice,
)
from announcer.core.model.objects import (
    IPFamilyPolicy as IPFamilyPolicy,
)
from announcer.core.model.objects import (
    LinkReport as LinkReport,
)
from announcer.core.model.objects import (
    LocalAdvertisement as LocalAdvertisement,
)
from announcer.core.model.objects import (
    ModelObject as ModelObject,
)
from announcer.core.model.objects import (
    Namespace as Namespace,
)
from announcer.core.model.objects import (
    Node as Node,
)
from announcer.core.model.objects import (
    NodeAgentConfig as NodeAgentConfig,
)
from announcer.core.model.objects import (
    NodeReport as NodeReport,
)
from announcer.core.model.objects import (
    Operator as Operator,
)
from announcer.core.model.objects import (
    Parsed as Parsed,
)
from announcer.core.model.objects import (
    Peer as Peer,
)
from announcer.core.model.objects import (
    Pool as Pool,
)
from announcer.core.model.objects import (
    Requirement as Requirement,
)
from announcer.core.model.objects import (
    RouteAdvertisement as RouteAdvertisement,
)
from announcer.core.model.objects import (
    Selector as Selector,
)
from announcer.core.model.objects import (
    Service as Service,
)
from announcer.core.model.objects import (
    Snapshot as Snapshot,
)
from announcer.core.model.objects import (
    TrafficPolicy as TrafficPolicy,
)
from announcer.core.model.observed import (
    AdvertisedRoute as AdvertisedRoute,
)
from announcer.core.model.observed import (
    Devconf as Devconf,
)
from announcer.core.model.observed import (
    Heard as Heard,
)
from announcer.core.model.observed import (
    KernelRoute as KernelRoute,
)
from announcer.core.model.observed import (
    Link as Link,
)
from announcer.core.model.observed import (
    LinkAddress as LinkAddress,
)
from announcer.core.model.observed import (
    ObservedBgp as ObservedBgp,
)
from announcer.core.model.observed import (
    ObservedKernel as ObservedKernel,
)
from announcer.core.model.observed import (
    ObservedPeer as ObservedPeer,
)
from announcer.core.model.observed import (
    Route as Route,
)
from announcer.core.model.observed import (
    RouteKind as RouteKind,
)
from announcer.core.model.observed import (
    Scope as Scope,
)
