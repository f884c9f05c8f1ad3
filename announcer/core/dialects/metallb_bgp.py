"""metallb.io, its BGP: BGPPeer, BGPAdvertisement, Community, BFDProfile.

Each field is read, refused by name (`PEER`), or said to make no difference (`PEER_IDLE`); docs/bgp.md has them all.
"""

from collections.abc import Callable
from ipaddress import IPv4Address

from announcer.core.dialects.annotations import read_link_bandwidth
from announcer.core.dialects.fields import Fields
from announcer.core.dialects.sessions import (
    AS_MOST,
    RECONNECT,
    UNNUMBERED,
    is_community,
    read_duration,
    read_password,
    read_peer_address,
    read_router_id,
    read_secret_name,
    read_timers,
    refuse_other_family,
)
from announcer.core.model import (
    BfdProfile,
    BfdSettings,
    CommunityAliases,
    IPAddress,
    ObjectRef,
    Peer,
    Peers,
    Reason,
    RouteAdvertisement,
    SecretKey,
)

NO_GRACEFUL_RESTART = "a node that dies would be a black hole until it is back; sessions outlive an agent without it"
NO_VRF = "addresses are in the node's main routing table, and a VRF has its own"
PEER = {
    "enableGracefulRestart": NO_GRACEFUL_RESTART,
    "interface": UNNUMBERED,
    "vrf": NO_VRF,
}
PEER_IDLE = {
    "connectTime": RECONNECT,
    "disableMP": "MetalLB has deprecated it; a session carries its own family unless dualStackAddressFamily says more",
}
COMMUNITIES_MOST = 63
"""MetalLB's bound."""


def read_route_advertisement(top: Fields, ref: ObjectRef, _created: str) -> RouteAdvertisement:
    spec = top.mapping("spec")
    local_pref = spec.number("localPref", 0, low=0, high=AS_MOST)
    advertisement = RouteAdvertisement(
        ref=ref,
        pools=spec.distinct("ipAddressPools"),
        pool_selectors=spec.selectors("ipAddressPoolSelectors"),
        node_selectors=spec.selectors("nodeSelectors"),
        service_selectors=spec.selectors("serviceSelectors"),
        peers=spec.distinct("peers"),
        aggregation=spec.number("aggregationLength", 32, low=1, high=32),
        aggregation_v6=spec.number("aggregationLengthV6", 128, low=1, high=128),
        local_pref=local_pref or None,
        communities=spec.distinct("communities"),
    )
    for text in sorted(advertisement.communities):
        if ":" in text and not is_community(text):
            spec.refuse("communities", text, "is neither `a:b` of 16 bits each, nor `large:a:b:c` of 32 bits each")
    if len(advertisement.communities) > COMMUNITIES_MOST:
        spec.refuse("communities", None, f"are more than {COMMUNITIES_MOST}")
    is_host = (advertisement.aggregation, advertisement.aggregation_v6) == (32, 128)
    if advertisement.service_selectors and not is_host:
        name = "aggregationLength" if advertisement.aggregation != 32 else "aggregationLengthV6"
        message = "excludes serviceSelectors, as one route would be for Services that are selected and for others"
        spec.refuse(name, spec.get(name), message, "remove one of both")
    spec.close()
    return advertisement


def read_peer(top: Fields, ref: ObjectRef, _created: str) -> Peers:
    spec = top.mapping("spec")
    for name in ("myASN", *(() if spec.has("interface") else ("peerAddress",))):
        if not spec.has(name):
            spec.refuse(name, None, "is required and missing")
    own_asn = spec.number("myASN", 1, low=1, high=AS_MOST)
    my_asn = spec.number("localASN", 0, low=0, high=AS_MOST) or own_asn  # as FRR's `local-as no-prepend replace-as`
    peer_asn = _read_peer_asn(spec, my_asn)
    address = read_peer_address(spec, "peerAddress")
    peer = Peer(
        ref=ref,
        my_asn=my_asn,
        peer_asn=peer_asn,
        peer_address=address or IPv4Address(0),
        peer_port=spec.number("peerPort", 179, low=0, high=16384) or 179,
        source_address=spec.address("sourceAddress"),
        router_id=read_router_id(spec, "routerID"),
        hold_time_seconds=read_timers(spec, "holdTime", "keepaliveTime"),
        node_selectors=spec.selectors("nodeSelectors"),
        multihop_ttl=_read_multihop(spec, is_ibgp=my_asn == peer_asn),
        families=_read_families(spec, address),
        password=read_password(spec, "password"),
        password_from=_read_secret(spec, ref),
        link_bandwidth=read_link_bandwidth(top),
        bfd_profile=spec.text("bfdProfile"),
    )
    if peer.password and peer.password_from:
        spec.refuse("password", None, "excludes passwordSecret", "keep passwordSecret")
    refuse_other_family(spec, "sourceAddress", peer.source_address, address)
    _check_connect_time(spec)
    spec.close(PEER, PEER_IDLE)
    return Peers(ref=ref, peers=(peer,))


def _read_peer_asn(spec: Fields, my_asn: int) -> int:
    """Exactly one of peerASN and dynamicASN. An `internal` peer has our AS; an external one's has to be known."""
    asn = spec.number("peerASN", 0, low=0, high=AS_MOST)
    given = bool(spec.get("peerASN"))
    kind = spec.choice("dynamicASN", ("internal", "external"), "") if spec.has("dynamicASN") else spec.get("dynamicASN")
    if given == bool(kind):
        name = "dynamicASN" if given else "peerASN"
        spec.refuse(name, None, "is required and missing" if not given else "excludes peerASN", "give one of both")
    elif kind == "external":
        reason = "is not supported: ExaBGP has to know the AS of a peer that is not in ours"
        spec.refuse("dynamicASN", kind, reason, "write it as peerASN", Reason.UNSUPPORTED_FIELD)
    return asn or my_asn


def _read_multihop(spec: Fields, *, is_ibgp: bool) -> int:
    is_multihop = spec.flag("ebgpMultiHop")
    if is_multihop and is_ibgp:
        spec.refuse("ebgpMultiHop", "true", "is for eBGP, and the peer is of the same AS")
    return 255 if is_multihop or is_ibgp else 0


def _read_families(spec: Fields, address: IPAddress | None) -> frozenset[int]:
    is_dual = spec.flag("dualStackAddressFamily")
    return frozenset({4, 6}) if is_dual else frozenset({address.version} if address else ())


def _read_secret(spec: Fields, ref: ObjectRef) -> SecretKey | None:
    if not spec.has("passwordSecret"):
        spec.get("passwordSecret")
        return None
    item = spec.mapping("passwordSecret")
    name, namespace = read_secret_name(item), item.text("namespace", ref.namespace)
    if namespace != ref.namespace:
        item.refuse("namespace", namespace, "is not the namespace of this object, the only one it may read Secrets of")
    item.close()
    return SecretKey(namespace=namespace, name=name, key="password", type="kubernetes.io/basic-auth")


def _check_connect_time(spec: Fields) -> None:
    before = len(spec.problems)
    seconds = read_duration(spec, "connectTime")
    if seconds is not None and not (1 <= seconds <= 65535 and seconds.denominator == 1):
        spec.refuse("connectTime", spec.get("connectTime"), "must be whole seconds from 1s to 65535s")
    elif seconds is not None and len(spec.problems) == before:
        message = f"has no effect: {PEER_IDLE['connectTime']}"
        spec.refuse("connectTime", spec.get("connectTime"), message, "", Reason.NO_EFFECT)


def read_community(top: Fields, ref: ObjectRef, _created: str) -> CommunityAliases:
    spec = top.mapping("spec")
    values: dict[str, str] = {}
    for item in spec.mappings("communities"):
        name, value = item.required("name"), item.required("value")
        if name in values:
            item.refuse("name", name, "is given twice", "remove one of both")
        elif ":" in name:
            item.refuse("name", name, "is written like a community itself", "leave out the colon")
        if value and not is_community(value):
            item.refuse("value", value, "is neither `a:b` of 16 bits each, nor `large:a:b:c` of 32 bits each")
        values[name] = value
        item.close()
    spec.close()
    return CommunityAliases(ref=ref, values=values)


def read_bfd_profile(top: Fields, ref: ObjectRef, _created: str) -> BfdProfile:
    spec = top.mapping("spec")
    settings = BfdSettings(
        receive_milliseconds=spec.number("receiveInterval", 300, low=10, high=60000),
        transmit_milliseconds=spec.number("transmitInterval", 300, low=10, high=60000),
        detect_multiplier=spec.number("detectMultiplier", 3, low=2, high=255),
        echo_milliseconds=spec.number("echoInterval", 50, low=10, high=60000),
        is_echoing=spec.flag("echoMode"),
        is_passive=spec.flag("passiveMode"),
        minimum_ttl=spec.number("minimumTtl", 254, low=1, high=254),
    )
    spec.close()
    return BfdProfile(ref=ref, settings=settings)


Read = RouteAdvertisement | Peers | CommunityAliases | BfdProfile
KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], Read]] = {
    ("metallb.io/v1beta1", "BGPAdvertisement"): read_route_advertisement,
    ("metallb.io/v1beta1", "BGPPeer"): read_peer,
    ("metallb.io/v1beta2", "BGPPeer"): read_peer,
    ("metallb.io/v1beta1", "Community"): read_community,
    ("metallb.io/v1beta1", "BFDProfile"): read_bfd_profile,
}
