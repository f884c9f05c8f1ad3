"""Whose address a session speaks from, as whom, with which next hops and which password."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from announcer.core.desired import Desired, desired, secrets_of
from announcer.core.model import (
    DesiredPeer,
    IfName,
    KernelRoute,
    LinkAddress,
    NodeName,
    ObjectRef,
    RouteKind,
    Scope,
    Secret,
    SecretKey,
)
from tests.builders import Raw, endpoints, group, ip, kernel, net, node, peer, raw, route, service, snapshot

FAR = ip("192.0.2.1")
HERE = NodeName("n1")
TOR = "BGPPeer metallb-system/tor"


def secret(name: str = "tor", *, kind: str = "kubernetes.io/basic-auth", **more: Any) -> Raw:
    return raw("v1", "Secret", name, namespace="metallb-system", type=kind, **more)


def want(*objects: Raw, addresses: Mapping[str, str] | None = None, routes: tuple[KernelRoute, ...] = ()) -> Desired:
    """`addresses` are more of the node's, each with its link."""
    more = [_address(text, ifname) for text, ifname in (addresses or {}).items()]
    found = desired(snapshot(*objects), HERE, kernel(addresses=more, routes=routes))
    assert isinstance(found, Desired)
    return found


def _address(text: str, ifname: str) -> LinkAddress:
    address, _, length = text.partition("/")
    return LinkAddress(ifname=IfName(ifname), address=ip(address), prefixlen=int(length), scope=Scope.GLOBAL)


def only(found: Desired) -> DesiredPeer:
    (one,) = found.peers
    return one


def test_session_starts_in_the_peers_own_subnet() -> None:
    assert only(want(peer(), addresses={"10.1.1.1/24": "eth1"})).local_address == ip("10.111.111.2")


def test_source_address_that_is_written_counts() -> None:
    found = want(peer(sourceAddress="10.1.1.1"), addresses={"10.1.1.1/24": "eth1"})
    assert (only(found).local_address, found.notes) == (ip("10.1.1.1"), ())


def test_source_address_that_the_node_lacks_is_told() -> None:
    found = want(peer(sourceAddress="10.9.9.9"))
    assert only(found).local_address == ip("10.9.9.9")
    assert found.notes == (f"{TOR}: sourceAddress: 10.9.9.9 is no address of this node",)


@pytest.mark.parametrize(
    ("routes", "local"),
    [
        ((), "10.111.111.2"),
        ((route("192.0.2.0/24", "eth1"),), "10.1.1.1"),
        ((route("192.0.2.0/24", "eth1", prefsrc=ip("10.1.1.2")),), "10.1.1.2"),
        ((route("192.0.2.0/24", "eth1", prefsrc=ip("10.5.5.5")),), "10.1.1.1"),
        ((route("192.0.2.0/24", "eth0", metric=9), route("192.0.2.0/24", "eth1", metric=5)), "10.1.1.1"),
        ((route("192.0.2.0/24", "eth1"), route("192.0.2.0/25", "eth0")), "10.111.111.2"),
        ((KernelRoute(destination=net("192.0.2.0/24"), kind=RouteKind.UNREACHABLE),), "10.111.111.2"),
        ((route("192.0.2.0/24", "eth2"),), "10.111.111.2"),
    ],
)
def test_session_to_a_far_peer_starts_on_the_link_that_leads_there(routes: tuple[KernelRoute, ...], local: str) -> None:
    found = want(peer(address=str(FAR)), addresses={"10.1.1.1/24": "eth1", "10.1.1.2/24": "eth1"}, routes=routes)
    assert only(found).local_address == ip(local)


def test_of_several_addresses_of_a_link_the_one_that_its_node_object_knows_counts() -> None:
    known = node("n1") | {"status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.2"}]}}
    more = {"10.1.1.1/24": "eth1", "10.1.1.2/24": "eth1"}
    found = want(peer(address=str(FAR)), known, addresses=more, routes=(route("192.0.2.0/24", "eth1"),))
    assert only(found).local_address == ip("10.1.1.2")


@pytest.mark.parametrize(
    ("before", "after", "more", "local"),
    [
        (["10.9.9.7/24"], ["10.9.9.1/24"], {}, "10.9.9.7"),
        (["10.9.9.7/16"], ["10.9.9.1/24"], {}, "10.9.9.7"),
        (["10.9.9.9/24", "10.9.9.7/24"], ["10.9.9.1/24"], {"InternalIP": "10.9.9.7"}, "10.9.9.7"),
        (["10.9.9.7/24"], ["10.9.9.1/24"], {"InternalIP": "10.111.111.2"}, "10.9.9.7"),
        (["fd00:9::7/64"], ["fd00:9::1/64"], {}, "fd00:9::7"),
    ],
)
def test_address_that_comes_changes_no_session(
    before: list[str], after: list[str], more: dict[str, str], local: str
) -> None:
    """A second one of the link, as of keepalived or DHCP, with a lower number, where the kernel puts it."""
    router, object_ = {"10": "10.9.9.254", "fd": "fd00:9::fe"}[local[:2]], known(are=more)
    was = want(peer(address=router), object_, addresses=dict.fromkeys(before, "eth1"))
    listed = after + before if ":" in local else before + after
    now = want(peer(address=router), object_, addresses=dict.fromkeys(listed, "eth1"))
    assert (only(was), str(only(was).local_address)) == (only(now), local)


def test_router_id_stays_when_an_address_comes_to_a_node_whose_object_knows_none() -> None:
    found = want(peer(), addresses={"10.0.0.1/24": "eth0"})
    assert str(only(found).router_id) == "10.111.111.2"


def test_node_without_an_address_of_the_family_says_so() -> None:
    found = want(peer(address="fd00::1"))
    assert found.peers == ()
    assert found.notes == (f"{TOR}: sourceAddress: this node has no address for fd00::1",)
    assert found.keep_peers == {ip("fd00::1")}
    assert found.bgp == {}


@pytest.mark.parametrize(
    ("addresses", "next_hop"),
    [
        ({"fd00:111::2/64": "eth0", "fd00:112::2/64": "eth1"}, "fd00:111::2"),
        ({"fd00:112::2/64": "eth1"}, "fd00:112::2"),
        ({}, None),
    ],
)
def test_next_hop_of_the_other_family_is_on_the_sessions_link_where_there_is_one(
    addresses: dict[str, str], next_hop: str | None
) -> None:
    found = only(want(peer(dualStackAddressFamily=True), addresses=addresses))
    assert found.families == {4, 6}
    assert found.other_next_hop == (ip(next_hop) if next_hop else None)


def test_routes_that_have_no_next_hop_are_told_and_not_advertised() -> None:
    dual = group("six", "fd00:113::1-fd00:113::9", "fd00:113::/64")
    web = service(addresses=["fd00:113::1"])
    found = want(peer(dualStackAddressFamily=True), dual, web, endpoints())
    assert found.bgp == {ip("10.111.111.254"): {}}
    assert found.notes == ("tor: no IPv6 routes: this node has no IPv6 address for their next hop",)
    assert want(peer(), dual, web, endpoints()).notes == ()


def test_session_of_one_family_has_no_other_next_hop() -> None:
    assert only(want(peer(), addresses={"fd00:111::2/64": "eth0"})).other_next_hop is None


# -- who it is -----------------------------------------------------------------------------------------------------


def configured(**more: Any) -> Raw:
    neighbors = [{"config": {"neighborAddress": "10.111.111.254", "peerAsn": 64513}}]
    spec = {"global": {"asn": 64512, **more}, "neighbors": neighbors}
    spec |= {"netlinkImport": {"enabled": True, "interfaceList": ["kube-lb0"]}}
    return raw("bgp.purelb.io/v1", "BGPConfiguration", "bgp", namespace="purelb-system", spec=spec)


def known(**more: Any) -> Raw:
    found = node("n1") | {"status": {"addresses": [{"type": k, "address": v} for k, v in more.pop("are", {}).items()]}}
    found["metadata"]["annotations"] = more
    return found


@pytest.mark.parametrize(
    ("object_", "router_id"),
    [
        (peer(), "10.111.111.2"),
        (peer(routerID="10.0.0.7"), "10.0.0.7"),
        (configured(), "10.111.111.2"),
        (configured(routerID="auto"), "10.111.111.2"),
        (configured(routerID="${NODE_IP}"), "10.111.111.2"),
        (configured(routerID="${NODE_EXTERNAL_IP}"), "192.0.2.7"),
        (configured(routerID="${node.annotations['id']}"), "10.0.0.9"),
        (configured(routerID="${node.annotations['bad']}", routerIDPool="10.8.0.0/16"), "10.8.42.144"),
        (configured(routerID="${node.annotations['none']}", routerIDPool="10.8.0.5/32"), "10.8.0.5"),
    ],
)
def test_router_id_is_what_was_asked_for(object_: Raw, router_id: str) -> None:
    mine = known(id="10.0.0.9", bad="fd00::1", are={"InternalIP": "10.111.111.2", "ExternalIP": "192.0.2.7"})
    assert str(only(want(object_, mine)).router_id) == router_id


def test_node_that_has_no_router_id_says_so() -> None:
    found = want(configured(routerID="${NODE_EXTERNAL_IP}"))
    assert found.peers == ()
    assert found.notes[0].startswith("BGPConfiguration purelb-system/bgp 10.111.111.254: routerID")


def test_session_of_a_node_whose_router_id_is_away_stays_with_its_routes() -> None:
    objects = (group(), service(addresses=["10.113.113.100"]), endpoints())
    was, now = (
        want(configured(routerID="${node.annotations['id']}"), one, *objects) for one in (known(id="10.0.0.9"), known())
    )
    assert now.peers == ()
    assert now.keep_peers == {ip("10.111.111.254")}
    assert now.bgp == was.bgp
    assert now.bgp[ip("10.111.111.254")]


# -- passwords -----------------------------------------------------------------------------------------------------

NAMED = peer(passwordSecret={"name": "tor"})


def encoded(text: bytes) -> str:
    return b64encode(text).decode("ascii")


@pytest.mark.parametrize(
    "given", [{"data": {"password": encoded(b"hush")}}, {"stringData": {"password": "hush"}, "data": {"password": "x"}}]
)
def test_password_comes_from_the_secret_that_is_named(given: dict[str, Any]) -> None:
    found = want(NAMED, secret(**given))
    assert only(found).password == "hush"
    assert (found.notes, found.keep_peers) == ((), frozenset())
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((), "is not there"),
        ((secret("other", stringData={"password": "hush"}),), "is not there"),
        ((secret(kind="Opaque", stringData={"password": "hush"}),), "has the type Opaque, and must have"),
        ((secret(stringData={"passwort": "hush"}),), "has no text for the key password"),
        ((secret(data={"password": 5}),), "has no text for the key password"),
        ((secret(data=["hush"]),), "has no text for the key password"),
        ((secret(data={"password": "hush!"}),), "is not UTF-8 in base64"),
        ((secret(data={"password": encoded(b"\xff\xfe")}),), "is not UTF-8 in base64"),
        ((secret(data={"password": encoded(b"hush\n")}),), "a line break at its end"),
        ((secret(stringData={"password": "hush" * 21}),), "has 84 bytes"),
        ((secret(stringData={"password": "hush\ud800"}),), "is not UTF-8 in base64"),
    ],
)
def test_password_that_is_not_known_makes_no_session_and_ends_none(given: tuple[Raw, ...], why: str) -> None:
    found = want(NAMED, peer("other", "10.111.111.253"), *given)
    assert [one.name for one in found.peers] == ["other"]
    assert found.keep_peers == {ip("10.111.111.254")}
    assert found.are_peers_known
    (note,) = found.notes
    assert note.startswith(f"{TOR}: PasswordUnknown: Secret metallb-system/tor")
    assert why in note
    assert "hush" not in note


def of(**more: Any) -> Raw:
    found = configured()
    reference = {"name": "tor", "key": "md5"} | more
    found["spec"]["neighbors"][0]["config"]["authPasswordSecretRef"] = reference
    return found


def test_secret_of_a_purelb_neighbor_has_any_type_and_a_key_of_its_own() -> None:
    mine = raw("v1", "Secret", "tor", namespace="purelb-system", stringData={"md5": "hush"})
    assert only(want(of(), mine)).password == "hush"


@pytest.mark.parametrize("given", [(), (raw("v1", "Secret", "tor", namespace="purelb-system"),)])
def test_optional_secret_that_is_missing_means_no_password(given: tuple[Raw, ...]) -> None:
    found = want(of(optional=True), *given)
    assert (only(found).password, found.notes) == ("", ())
    assert want(of(), *given).peers == ()


@pytest.mark.parametrize(("data", "count"), [({"md5": encoded(b"hush")}, 1), ({}, 0)])
def test_secret_that_cannot_be_read_says_what_it_said_before(data: dict[str, str], count: int) -> None:
    ref = ObjectRef(kind="Secret", namespace="purelb-system", name="tor")
    unread = Secret(ref=ref, data=data, error="403 forbidden")
    for optional in (False, True):
        seen = replace(snapshot(of(optional=optional)), secrets=(unread,))
        found = desired(seen, HERE, kernel())
        assert isinstance(found, Desired)
        assert len(found.peers) == count
        assert "403 forbidden" in found.notes[0]


def test_secrets_of_a_node_are_those_of_its_own_peers() -> None:
    on_n2 = [{"matchLabels": {"kubernetes.io/hostname": "n2"}}]
    far = peer("far", "10.111.111.252", passwordSecret={"name": "far"}, nodeSelectors=on_n2)
    seen = snapshot(NAMED, far, peer("open", "10.111.111.253"))
    assert {ref.name for ref in secrets_of(seen, HERE)} == {"tor"}
    assert {ref.name for ref in secrets_of(seen, NodeName("n2"))} == {"far", "tor"}
    assert secrets_of(seen, NodeName("nobody")) == frozenset()
    assert secrets_of(seen, HERE) == {SecretKey(namespace="metallb-system", name="tor", key="password").ref}
