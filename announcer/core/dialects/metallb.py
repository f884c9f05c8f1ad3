"""metallb.io: IPAddressPool, L2Advertisement, BGPPeer and BGPAdvertisement, as far as `KINDS` reaches.

Fields of theirs that are not honored are refused by name; see the tables beside each reader.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address

from announcer.core.dialects.fields import Fields, range_hint, read_range
from announcer.core.model import (
    MANAGED_BY,
    MANAGER,
    AddressRange,
    Admission,
    Announce,
    IfName,
    LocalAdvertisement,
    Mirror,
    ModelObject,
    ObjectRef,
    Peer,
    Pool,
    Preference,
    RouteAdvertisement,
    ServiceKey,
)

LATER = "not built yet"
PEER_LATER = ("dynamicASN", "keepaliveTime", "connectTime", "password", "passwordSecret", "bfdProfile", "interface")
PEER = {
    **dict.fromkeys((*PEER_LATER, "enableGracefulRestart", "dualStackAddressFamily", "localASN"), LATER),
    "vrf": "ExaBGP has no VRFs",
    "disableMP": "deprecated by MetalLB",
}
AS_MOST = 2**32 - 1  # RFC 6793
COMMUNITY = re.compile(r"(\d{1,5}):(\d{1,5})|large:(\d{1,10}):(\d{1,10}):(\d{1,10})")  # RFC 1997, RFC 8092
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def read_pool(top: Fields, ref: ObjectRef, created: str) -> Pool:
    spec = top.mapping("spec")
    texts = spec.texts("addresses")
    ranges: list[AddressRange] = []
    for i, text in enumerate(texts):
        found = read_range(text)
        if isinstance(found, str):
            spec.refuse(f"addresses[{i}]", text, found, range_hint(text))
        else:
            ranges.append(found)
    if not texts:
        spec.refuse("addresses", None, "is required and empty")
    pool = Pool(
        ref=ref,
        ranges=tuple(ranges),
        announce=Announce.ADVERTISEMENTS,
        auto_assign=spec.flag("autoAssign", default=True),
        avoid_buggy_addresses=spec.flag("avoidBuggyIPs"),
        labels=top.mapping("metadata").labels("labels"),
        created=created,
        admission=_read_admission(spec.mapping("serviceAllocation")) if spec.has("serviceAllocation") else None,
    )
    spec.close()
    return pool


def _read_admission(item: Fields) -> Admission:
    admission = Admission(
        namespaces=frozenset(item.texts("namespaces")),
        namespace_selectors=item.selectors("namespaceSelectors"),
        service_selectors=item.selectors("serviceSelectors"),
        priority=item.number("priority", 0, low=0, high=2**31 - 1),
    )
    item.close()
    return admission


def read_local_advertisement(top: Fields, ref: ObjectRef, _created: str) -> LocalAdvertisement:
    spec = top.mapping("spec")
    advertisement = LocalAdvertisement(
        ref=ref,
        pools=frozenset(spec.texts("ipAddressPools")),
        pool_selectors=spec.selectors("ipAddressPoolSelectors"),
        node_selectors=spec.selectors("nodeSelectors"),
        links=frozenset(IfName(name) for name in spec.texts("interfaces")),
        preferences=tuple(_read_preference(item) for item in spec.mappings("preferredNodeSelectors")),
    )
    spec.close({"serviceSelectors": LATER})
    return advertisement


def _read_preference(item: Fields) -> Preference:
    """The shape of a PreferredSchedulingTerm; an empty `preference` selects every node."""
    for name in ("weight", "preference"):
        if not item.has(name):
            item.refuse(name, None, "is required and missing")
    weight = item.number("weight", 1, low=1, high=100)
    preference = Preference(weight=weight, selector=item.mapping("preference").selector())
    item.close()
    return preference


def read_route_advertisement(top: Fields, ref: ObjectRef, _created: str) -> RouteAdvertisement:
    spec = top.mapping("spec")
    local_pref = spec.number("localPref", 0, low=0, high=AS_MOST)
    advertisement = RouteAdvertisement(
        ref=ref,
        pools=frozenset(spec.texts("ipAddressPools")),
        pool_selectors=spec.selectors("ipAddressPoolSelectors"),
        node_selectors=spec.selectors("nodeSelectors"),
        peers=frozenset(spec.texts("peers")),
        aggregation=spec.number("aggregationLength", 32, low=1, high=32),
        aggregation_v6=spec.number("aggregationLengthV6", 128, low=1, high=128),
        local_pref=local_pref or None,
        communities=frozenset(spec.texts("communities")),
    )
    for text in sorted(advertisement.communities):
        if not _is_community(text):
            spec.refuse("communities", text, "is neither `a:b` nor `large:a:b:c`", "aliases are not built yet")
    spec.close({"serviceSelectors": LATER})
    return advertisement


def read_peer(top: Fields, ref: ObjectRef, _created: str) -> Peer:
    spec = top.mapping("spec")
    for name in ("myASN", "peerASN", "peerAddress"):
        if not spec.has(name):
            spec.refuse(name, None, "is required and missing")
    router_id = spec.address("routerID")
    if router_id is not None and not isinstance(router_id, IPv4Address):
        spec.refuse("routerID", str(router_id), "must be written as an IPv4 address (RFC 6286)")
        router_id = None
    my_asn = spec.number("myASN", 1, low=1, high=AS_MOST)
    peer_asn = spec.number("peerASN", 1, low=1, high=AS_MOST)
    multihop = spec.flag("ebgpMultiHop")
    if multihop and my_asn == peer_asn:
        spec.refuse("ebgpMultiHop", "true", "is for eBGP, and myASN equals peerASN")
    peer = Peer(
        ref=ref,
        my_asn=my_asn,
        peer_asn=peer_asn,
        peer_address=spec.address("peerAddress") or IPv4Address(0),
        peer_port=spec.number("peerPort", 179, low=1, high=16384),
        source_address=spec.address("sourceAddress"),
        router_id=router_id,
        hold_time_seconds=_hold_time(spec),
        node_selectors=spec.selectors("nodeSelectors"),
        ebgp_multihop=multihop,
    )
    if peer.source_address and peer.source_address.version != peer.peer_address.version:
        spec.refuse("sourceAddress", str(peer.source_address), "is not of the family of peerAddress")
    spec.close(PEER)
    return peer


def read_mirror(top: Fields, ref: ObjectRef, _created: str) -> Mirror:
    """A status object for tools: nothing of it is an input, only who made it and for which Service."""
    labels = top.mapping("metadata").labels("labels")
    service = f"{labels.get('metallb.io/service-namespace', '')}/{labels.get('metallb.io/service-name', '')}"
    return Mirror(ref=ref, is_ours=labels.get(MANAGED_BY) == MANAGER, service=ServiceKey(service))


KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], ModelObject]] = {
    ("metallb.io/v1beta1", "IPAddressPool"): read_pool,
    ("metallb.io/v1beta1", "L2Advertisement"): read_local_advertisement,
    ("metallb.io/v1beta1", "BGPAdvertisement"): read_route_advertisement,
    ("metallb.io/v1beta1", "BGPPeer"): read_peer,
    ("metallb.io/v1beta2", "BGPPeer"): read_peer,
    ("metallb.io/v1beta1", "ServiceL2Status"): read_mirror,
    ("metallb.io/v1beta1", "ServiceBGPStatus"): read_mirror,
}


def _is_community(text: str) -> bool:
    found = COMMUNITY.fullmatch(text)
    if not found:
        return False
    standard, large = found.groups()[:2], found.groups()[2:]
    return all(int(n) < 2**16 for n in standard if n) and all(int(n) < 2**32 for n in large if n)


def _hold_time(spec: Fields) -> int:
    """RFC 4271 §4.2: zero, or at least three seconds. MetalLB writes it as a Go duration."""
    text = spec.text("holdTime", "90s")
    found = DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found and text else (0, 0, 1)
    total = hours * 3600 + minutes * 60 + seconds
    if total == 0 or 3 <= total <= 65535:
        return total
    spec.refuse("holdTime", text, "must be 0s or from 3s to 65535s", "such as 9s or 1m30s")
    return 90
