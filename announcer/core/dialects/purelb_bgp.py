"""bgp.purelb.io/v1: BGPConfiguration, whose neighbors become peers, each laid over its peer group.

Routes come from the pools, as for MetalLB's peers; `netlinkImport` decides only whether there are to be any. Routes of
routers are never taken, so what decides about them makes no difference here; what would put them into the kernel, and
what ExaBGP can't do, is refused by name. docs/bgp.md has every field.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from announcer.core.dialects.annotations import read_link_bandwidth
from announcer.core.dialects.fields import Fields
from announcer.core.dialects.metallb_bgp import NO_GRACEFUL_RESTART, NO_VRF
from announcer.core.dialects.sessions import (
    AS_MOST,
    RECONNECT,
    UNNUMBERED,
    read_password,
    read_peer_address,
    read_router_id,
    read_secret_name,
    read_timers,
    refuse_other_family,
)
from announcer.core.model import (
    VIRTUAL_IFNAME,
    BfdSettings,
    IPAddress,
    ObjectRef,
    Peer,
    Peers,
    Reason,
    RouterId,
    SecretKey,
    Selector,
)

TAKES_NO_ROUTES = "routes of routers are not taken"
POLICY = "what is advertised follows from pools and BGPAdvertisements alone"
SESSION_DEVICE = "the route to the peer decides about the link, and transport.localAddress about the address"
FAMILIES = {"ipv4-unicast": 4, "ipv6-unicast": 6}
BFD_PORT = 3784
SPEC = {
    "dynamicNeighbors": "ExaBGP connects to routers, and they don't connect to it",
    "vrfs": NO_VRF,
}
SPEC_IDLE = {"policyDefinitions": POLICY, "definedSets": POLICY}
GLOBAL = {"bindToDevice": SESSION_DEVICE}
GLOBAL_IDLE = {
    "listenAddresses": "ExaBGP connects to routers, and doesn't listen",
    "listenPort": "ExaBGP connects to routers, and doesn't listen",
    "families": "the families of a session are its afiSafis",
    "useMultiplePaths": TAKES_NO_ROUTES,
    "routeSelectionOptions": TAKES_NO_ROUTES,
    "defaultRouteDistance": TAKES_NO_ROUTES,
    "nodeStatus": "NodeAnnouncement says what BGPNodeStatus would",
}
CONFIG = {"neighborInterface": UNNUMBERED, "vrf": NO_VRF, "removePrivate": "the path has the AS of the nodes alone"}
CONFIG_IDLE = {
    "allowOwnAsn": TAKES_NO_ROUTES,
    "allowAspathLoopLocal": TAKES_NO_ROUTES,
    "replacePeerAsn": "the path has the AS of the nodes alone",
    "routeFlapDamping": TAKES_NO_ROUTES,
    "sendSoftwareVersion": "ExaBGP is not asked to tell its version",
}
TIMERS_IDLE = {"connectRetry": RECONNECT, "minimumAdvertisementInterval": "ExaBGP sends routes at once"}
TRANSPORT = {
    "bindInterface": SESSION_DEVICE,
    "passiveMode": "ExaBGP connects to routers, and doesn't listen",
    "ipTos": "ExaBGP doesn't set it",
}
AFI_SAFI_IDLE = {"prefixLimit": TAKES_NO_ROUTES, "addPaths": "a node has one path to a prefix"}
NEIGHBOR_IDLE = {"routeReflector": "a node has routes of its own only, and reflects none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Globals:
    """What all neighbors share."""

    ref: ObjectRef
    asn: int
    router_id: RouterId
    takes_routes: bool


def read_configuration(top: Fields, ref: ObjectRef, _created: str) -> Peers:
    spec = top.mapping("spec")
    if not spec.has("global"):
        spec.refuse("global", None, "is required and missing")
    globals_ = _read_global(spec.mapping("global"), ref, takes_routes=_read_import(spec))
    if spec.mapping("netlinkExport").flag("enabled"):
        message = "is not supported: routes of routers are not put into the kernel"
        spec.refuse("netlinkExport", None, message, "remove the field", Reason.UNSUPPORTED_FIELD)
    groups = _read_groups(spec, globals_)
    peers = [_read_neighbor(item, globals_, groups) for item in spec.mappings("neighbors")]
    spec.close(SPEC, SPEC_IDLE)
    kind = read_link_bandwidth(top)
    return Peers(ref=ref, peers=tuple(replace(peer, link_bandwidth=kind) for peer in peers if peer))


def _read_global(item: Fields, ref: ObjectRef, *, takes_routes: bool) -> _Globals:
    router_id = read_router_id(item, "routerID", "routerIDPool")
    if item.has("asn"):
        asn = item.number("asn", 1, low=1, high=AS_MOST)
    else:
        item.refuse("asn", item.get("asn"), "is required and missing")
        asn = 1
    _refuse_enabled(item, "confederation", "ExaBGP has no confederations (RFC 5065)")
    _refuse_enabled(item, "gracefulRestart", NO_GRACEFUL_RESTART)
    _refuse_policy(item)
    item.close(GLOBAL, GLOBAL_IDLE)
    return _Globals(ref=ref, asn=asn, router_id=router_id, takes_routes=takes_routes)


def _read_import(spec: Fields) -> bool:
    """PureLB advertises nothing without it, and then only what is on the links that it names."""
    item = spec.mapping("netlinkImport")
    is_enabled, links = item.flag("enabled"), item.texts("interfaceList")
    item.close({"vrf": NO_VRF})
    if not is_enabled or not links:
        message = "is not enabled for a link, so no route is advertised to these peers"
        remedy = f"enabled: true, interfaceList: [{VIRTUAL_IFNAME}]"
        spec.refuse("netlinkImport", None, message, remedy, Reason.NO_EFFECT)
    for name in links:
        if name != VIRTUAL_IFNAME:
            message = "has no effect: routes are those of virtual addresses, and not of links"
            spec.refuse("netlinkImport.interfaceList", name, message, "", Reason.NO_EFFECT)
    return is_enabled and bool(links)


def _read_groups(spec: Fields, globals_: _Globals) -> dict[str, Fields]:
    groups: dict[str, Fields] = {}
    for item in spec.mappings("peerGroups"):
        config = item.mapping("config")
        name = config.required("peerGroupName")
        if name in groups:
            config.refuse("peerGroupName", name, "is given twice", "rename one of both")
        groups[name] = item
        config.text("description")
        _read_session(item, config, globals_, None)  # for its own mistakes: neighbors read it again
        item.close()
    return groups


def _read_neighbor(item: Fields, globals_: _Globals, groups: dict[str, Fields]) -> Peer | None:
    """None where nothing is to run: a mistake, or adminDown."""
    own = item.mapping("config")
    name = own.text("peerGroup")
    if name and name not in groups:
        own.refuse("peerGroup", name, "is not the name of one of peerGroups")
    if name in groups:
        item = item.over(groups[name])
    config = item.mapping("config")
    text = config.text("neighborAddress")
    address = read_peer_address(config, "neighborAddress")
    if not text and not config.has("neighborInterface"):
        config.refuse("neighborAddress", None, "is required and missing")
    if address is not None and not config.has("peerAsn"):
        config.refuse("peerAsn", None, "is required and missing")
    for field in ("peerGroup", "peerGroupName", "description"):
        config.text(field)
    is_down = config.flag("adminDown")
    peer = _read_session(item, config, globals_, address)
    peer = replace(peer, label=text, multihop_ttl=_read_multihop(item, is_ibgp=peer.is_ibgp))
    _refuse_enabled(item, "gracefulRestart", NO_GRACEFUL_RESTART)
    item.close({}, NEIGHBOR_IDLE)
    return None if is_down or address is None else peer


def _read_session(item: Fields, config: Fields, globals_: _Globals, address: IPAddress | None) -> Peer:
    """What neighbors and groups have in common; a group has no address."""
    transport = item.mapping("transport")
    peer_asn = config.number("peerAsn", 1, low=1, high=AS_MOST)
    my_asn = config.number("localAsn", 0, low=0, high=AS_MOST) or globals_.asn
    peer = Peer(
        ref=globals_.ref,
        my_asn=my_asn,
        peer_asn=peer_asn,
        peer_address=address or IPv4Address(0),
        source_address=transport.address("localAddress"),
        router_id=globals_.router_id,
        hold_time_seconds=_read_timers(item),
        node_selectors=_read_selector(item),
        families=_read_families(item) or frozenset({address.version} if address else ()),
        password=read_password(config, "authPassword"),
        password_from=_read_secret(config, globals_.ref.namespace),
        takes_routes=globals_.takes_routes,
        bfd=_read_bfd(item.mapping("bfd")),
    )
    if peer.password and peer.password_from:
        config.refuse("authPassword", None, "excludes authPasswordSecretRef", "keep authPasswordSecretRef")
    refuse_other_family(transport, "localAddress", peer.source_address, address)
    _check_config(config)
    _refuse_policy(item)
    transport.close(TRANSPORT)
    return peer


def _read_bfd(item: Fields) -> BfdSettings | None:
    """Microseconds, with GoBGP's defaults; None where it isn't enabled."""
    is_enabled = item.flag("enabled")
    transmit, receive = (
        item.number(name, 1_000_000, low=300_000, high=30_000_000) // 1000
        for name in ("desiredMinimumTxInterval", "requiredMinimumReceive")
    )
    multiplier = item.number("detectionMultiplier", 3, low=3, high=255)
    port = item.number("port", BFD_PORT, low=1024, high=65535)
    if is_enabled and port != BFD_PORT:
        item.refuse("port", port, f"is not supported: BFD has {BFD_PORT} (RFC 5881 §4)", "", Reason.UNSUPPORTED_FIELD)
    item.close()
    settings = BfdSettings(receive_milliseconds=receive, transmit_milliseconds=transmit, detect_multiplier=multiplier)
    return settings if is_enabled else None


def _check_config(config: Fields) -> None:
    sends = config.text("sendCommunity", "both")
    if sends != "both":
        message = "is not supported: the communities of an advertisement go to all of its peers"
        config.refuse("sendCommunity", sends, message, "remove the field", Reason.UNSUPPORTED_FIELD)
    config.close(CONFIG, CONFIG_IDLE)


def _read_timers(item: Fields) -> int:
    timers = item.mapping("timers")
    config = timers.mapping("config")
    hold = read_timers(config, "holdTime", "keepaliveInterval", in_seconds=True)
    config.close({}, TIMERS_IDLE)
    timers.close()
    return hold


def _read_selector(item: Fields) -> tuple[Selector, ...]:
    selector = item.mapping("nodeSelector").selector()
    return (selector,) if selector.requirements else ()


def _read_multihop(item: Fields, *, is_ibgp: bool) -> int:
    multihop = item.mapping("ebgpMultihop")
    is_multihop, ttl = multihop.flag("enabled"), multihop.number("multihopTtl", 0, low=0, high=255)
    multihop.close()
    return (ttl or 255) if is_multihop else 255 if is_ibgp else 0


def _read_families(item: Fields) -> frozenset[int]:
    """As GoBGP has it, the family of the session where nothing is said."""
    given = item.mappings("afiSafis")
    found = []
    for one in given:
        family, is_enabled = one.choice("family", tuple(FAMILIES), ""), one.flag("enabled")
        one.close({}, AFI_SAFI_IDLE)
        found += [FAMILIES[family]] if family and is_enabled else []
    if given and not found:
        item.refuse("afiSafis", None, "enables neither ipv4-unicast nor ipv6-unicast")
    return frozenset(found)


def _read_secret(config: Fields, namespace: str) -> SecretKey | None:
    if not config.has("authPasswordSecretRef"):
        config.get("authPasswordSecretRef")
        return None
    item = config.mapping("authPasswordSecretRef")
    found = SecretKey(
        namespace=namespace,
        name=read_secret_name(item),
        key=item.required("key"),
        is_optional=item.flag("optional"),
    )
    item.close()
    return found


def _refuse_enabled(item: Fields, name: str, why: str) -> None:
    """A mapping that asks for something only where its `enabled` is true."""
    inner = item.mapping(name)
    if inner.flag("enabled"):
        item.refuse(name, None, f"is not supported: {why}", "remove the field", Reason.UNSUPPORTED_FIELD)


def _refuse_policy(item: Fields) -> None:
    for name, one in (("exportPolicy", item.mapping("applyPolicy")), ("importPolicy", item.mapping("applyPolicy"))):
        policy = one.mapping(name)
        asks = [*_given(policy, ("policies", "name"))]
        if name == "exportPolicy" and policy.text("defaultAction", "accept").lower() not in {"accept", "accept-route"}:
            asks.append("defaultAction")
        if asks:
            message = f"is not supported: {POLICY if name == 'exportPolicy' else TAKES_NO_ROUTES}"
            item.refuse(f"applyPolicy.{name}", None, message, "remove the field", Reason.UNSUPPORTED_FIELD)


def _given(item: Fields, names: Iterable[str]) -> list[str]:
    return [name for name in names if item.get(name)]


KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], Peers]] = {
    ("bgp.purelb.io/v1", "BGPConfiguration"): read_configuration,
}
