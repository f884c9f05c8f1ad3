"""Where an address goes: one test per row of the design's table, and every reason for which it doesn't."""

from typing import Any

import pytest

from announcer.core.desired import UNREACHABLE_METRIC, Desired, Mode, Placement, describe_links, desired
from announcer.core.model import (
    PROTOCOL,
    UNKNOWN,
    KernelRoute,
    LinkAddress,
    NodeName,
    ObservedKernel,
    Reason,
    RouteKind,
    Scope,
    SetDevconf,
)
from tests.builders import (
    agent,
    announcement,
    endpoints,
    eth0,
    eth1,
    group,
    held,
    ip,
    kernel,
    metallb,
    net,
    node,
    peer,
    raw,
    route,
    service,
    snapshot,
)

LOCAL, STRAY, VIRTUAL = "10.111.111.100", "10.112.112.100", "10.113.113.100"
POOLS = (
    group("subnet-1", f"{LOCAL}-10.111.111.200", "10.111.111.0/24"),
    group("subnet-2", f"{STRAY}-10.112.112.200", "10.112.112.0/24"),
    group("subnet-3"),
)
EXCLUDE = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}

SHUTDOWN = {
    "type": "Ready",
    "status": "False",
    "reason": "KubeletNotReady",
    "message": "[container runtime is down, node is shutting down]",
}


def want(*objects: dict[str, Any], on: str = "n1", seen: ObservedKernel | None = None) -> Desired:
    found = desired(snapshot(*POOLS, *objects), NodeName(on), seen or kernel(on))
    assert isinstance(found, Desired)
    return found


def web(address: str, **spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return service(addresses=[address], **spec), endpoints()


def only(found: Desired) -> Placement:
    assert len(found.placements) == 1
    return found.placements[0]


def test_auto_address_in_the_local_subnet_is_local_there() -> None:
    found = want(*web(LOCAL))
    (candidacy,) = found.candidacies
    assert (candidacy.ifname, candidacy.address) == ("eth0", ip(LOCAL))
    assert set(candidacy.candidates) == {"n1", "n2", "n3"}
    assert {m: n.node for m, n in found.neighbors.items() if m[12:14] == "00"} == {
        f"02:00:00:00:00:0{i}": f"n{i - 1}" for i in (3, 4)
    }
    assert found.addresses == {ip(LOCAL)}
    assert (found.routes, found.bgp) == (frozenset(), {})


def test_every_node_computes_the_same_order() -> None:
    orders = [want(*web(LOCAL), on=name).candidacies[0] for name in ("n1", "n2", "n3")]
    assert len({c.candidates for c in orders}) == 1
    assert sorted(c.position for c in orders) == [0, 1, 2]


def test_auto_address_elsewhere_is_virtual_and_advertised_as_its_subnet() -> None:
    found = want(*web(VIRTUAL), peer())
    assert only(found).mode is Mode.VIRTUAL
    assert found.addresses == {ip(VIRTUAL)}
    assert list(found.bgp[ip("10.111.111.254")]) == [net("10.113.113.0/24")]
    assert found.routes == {
        KernelRoute(
            destination=net("10.113.113.0/24"), kind=RouteKind.UNREACHABLE, metric=UNREACHABLE_METRIC, protocol=PROTOCOL
        )
    }


def test_virtual_address_without_a_peer_is_on_the_node_and_says_so() -> None:
    found = want(*web(VIRTUAL))
    assert found.addresses == {ip(VIRTUAL)}
    assert only(found).reason is Reason.NO_PEER


def test_auto_address_goes_to_extlbint_where_that_is_a_real_link() -> None:
    found = want(*web(STRAY), agent(extlbint="eth1"))
    assert [(c.ifname, c.address) for c in found.candidacies] == [("eth1", ip(STRAY))]
    assert found.routes == {route("10.112.112.0/24", "eth1", prefsrc=ip("10.111.111.2"), protocol=PROTOCOL)}
    assert found.virtual_link == "kube-lb0"


def test_return_route_of_ipv6_is_wanted_as_the_kernel_shows_it() -> None:
    v6 = group("v6", "fd00:112::100-fd00:112::1ff", "fd00:112::/64")
    found = want(v6, *web("fd00:112::100"), agent(extlbint="eth1"))
    assert found.routes == {route("fd00:112::/64", "eth1", metric=1024, protocol=PROTOCOL)}


def test_auto_address_stays_virtual_where_extlbint_is_no_real_link() -> None:
    found = want(*web(STRAY), agent(extlbint="lb7"))
    assert (only(found).mode, found.virtual_link) == (Mode.VIRTUAL, "lb7")


def test_auto_address_is_virtual_where_an_advertisement_names_its_pool() -> None:
    named = metallb("BGPAdvertisement", "b", ipAddressPools=["subnet-3"], aggregationLength=25, communities=["1:2"])
    found = want(*web(VIRTUAL), agent(extlbint="eth1"), named, peer())
    (advertised,) = found.bgp[ip("10.111.111.254")].values()
    assert advertised.prefix == net("10.113.113.0/25")
    assert advertised.communities == {"1:2"}
    assert found.candidacies == ()


def test_auto_address_ignores_an_advertisement_for_all_pools() -> None:
    found = want(*web(LOCAL), metallb("BGPAdvertisement", "all"), peer())
    assert only(found).mode is Mode.LOCAL


def test_local_pool_without_a_link_of_its_subnet_is_not_announced() -> None:
    body = {"v4pool": {"subnet": "10.9.0.0/24", "pool": "10.9.0.1-10.9.0.9"}}
    found = want(raw("purelb.io/v2", "ServiceGroup", "g", spec={"local": body}), *web("10.9.0.1"))
    assert (only(found).mode, only(found).reason) == (Mode.LOCAL, Reason.NO_LINK)


def test_remote_pool_is_virtual_even_in_the_local_subnet() -> None:
    body = {"v4pool": {"subnet": "10.111.111.0/24", "pool": "10.111.111.50-10.111.111.60", "aggregation": "/32"}}
    found = want(raw("purelb.io/v2", "ServiceGroup", "g", spec={"remote": body}), *web("10.111.111.50"), peer())
    assert list(found.bgp[ip("10.111.111.254")]) == [net("10.111.111.50/32")]
    assert found.candidacies == ()


def test_both_advertisements_make_an_address_local_and_virtual() -> None:
    pool = metallb("IPAddressPool", "p", addresses=["10.111.111.50-10.111.111.60"])
    ads = (metallb("L2Advertisement", "l"), metallb("BGPAdvertisement", "b"))
    found = want(pool, *ads, *web("10.111.111.50"), peer())
    assert {p.mode for p in found.placements} == {Mode.LOCAL, Mode.VIRTUAL}
    assert list(found.bgp[ip("10.111.111.254")]) == [net("10.111.111.50/32")]


def test_pool_without_an_advertisement_is_not_announced() -> None:
    found = want(metallb("IPAddressPool", "p", addresses=["10.9.0.0/24"]), *web("10.9.0.1"))
    assert only(found).reason is Reason.NO_ADVERTISEMENT


@pytest.mark.parametrize(
    ("more", "spec", "links"),
    [
        ((), {"interfaces": ["eth1"]}, ["eth1"]),
        ((), {}, ["eth0", "eth1"]),  # nothing reaches it: every link, as MetalLB does
        ((route("10.9.0.0/24", "eth1"),), {}, ["eth1"]),  # the return route of the customer's document
    ],
)
def test_l2_advertisement_picks_links(more: tuple[KernelRoute, ...], spec: dict[str, Any], links: list[str]) -> None:
    pool = metallb("IPAddressPool", "p", addresses=["10.9.0.0/24"])
    found = want(pool, metallb("L2Advertisement", "l", **spec), *web("10.9.0.1"), seen=kernel(routes=more))
    assert [c.ifname for c in found.candidacies] == links


def test_l2_advertisement_selects_nodes() -> None:
    pool = metallb("IPAddressPool", "p", addresses=["10.111.111.50/32"])
    selectors = [{"matchLabels": {"kubernetes.io/hostname": name}} for name in ("n2", "n3")]
    ad = metallb("L2Advertisement", "l", nodeSelectors=selectors)
    assert only(want(pool, ad, *web("10.111.111.50"))).reason is Reason.NO_LINK
    assert set(want(pool, ad, *web("10.111.111.50"), on="n2").candidacies[0].candidates) == {"n2", "n3"}


def test_route_advertisement_selects_nodes_and_peers() -> None:
    pool = metallb("IPAddressPool", "p", addresses=["10.9.0.0/24"])
    here = [{"matchLabels": {"kubernetes.io/hostname": "n1"}}]
    ad = metallb("BGPAdvertisement", "b", nodeSelectors=here, peers=["second"])
    two = (peer(), peer("second", "10.111.111.253"))
    found = want(pool, ad, *web("10.9.0.1"), *two)
    assert {str(address): len(table) for address, table in found.bgp.items()} == {
        "10.111.111.254": 0,
        "10.111.111.253": 1,
    }
    assert only(want(pool, ad, *web("10.9.0.1"), *two, on="n2")).reason is Reason.NODE_NOT_SELECTED


def test_policy_local_is_advertised_as_a_host_route_from_nodes_with_endpoints() -> None:
    objects = (service(addresses=[VIRTUAL], externalTrafficPolicy="Local"), endpoints(nodes=["n2"]), peer())
    assert only(want(*objects)).reason is Reason.NO_LOCAL_ENDPOINTS
    assert list(want(*objects, on="n2").bgp[ip("10.111.111.254")]) == [net(f"{VIRTUAL}/32")]


def test_local_pref_goes_to_ibgp_peers_only() -> None:
    ad = metallb("BGPAdvertisement", "b", ipAddressPools=["subnet-3"], localPref=300)
    inside = peer("inside", "10.111.111.253", peerASN=64512)
    found = want(*web(VIRTUAL), ad, peer(), inside)
    prefs = {str(a): next(iter(t.values())).local_pref for a, t in found.bgp.items()}
    assert prefs == {"10.111.111.254": None, "10.111.111.253": 300}


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"ready": True}, None),
        ({"ready": False, "serving": True, "terminating": True}, None),
        ({"ready": False, "serving": False}, Reason.NO_ENDPOINTS),
    ],
)
def test_endpoint_conditions_decide(conditions: dict[str, Any], reason: Reason | None) -> None:
    found = want(service(addresses=[VIRTUAL]), endpoints(**conditions), peer())
    assert only(found).reason is reason


def test_terminating_endpoints_keep_the_route_of_their_node_until_they_are_done() -> None:
    """Whatever there is elsewhere: connections end with the pod that has them."""
    local, elsewhere = service(addresses=[VIRTUAL], externalTrafficPolicy="Local"), endpoints(nodes=["n2"])
    for is_serving, reason in ((True, None), (False, Reason.NO_LOCAL_ENDPOINTS)):
        leaving = endpoints(nodes=["n1"], ready=False, serving=is_serving, terminating=True)
        leaving["metadata"]["name"] = "leaving"
        assert only(want(local, peer(), leaving, elsewhere)).reason is reason
        assert only(want(local, peer(), leaving, elsewhere, on="n2")).reason is None


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (node("n1", **EXCLUDE), Reason.NODE_EXCLUDED),
        (
            node("n1") | {"status": {"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}},
            Reason.NODE_NETWORK_UNAVAILABLE,
        ),
        (node("n1") | {"status": {"conditions": [SHUTDOWN]}}, Reason.NODE_SHUTTING_DOWN),
    ],
)
def test_node_out_of_service_has_nothing_and_is_no_candidate(own: dict[str, Any], reason: Reason) -> None:
    found = want(*web(LOCAL), own)
    assert (found.addresses, found.candidacies, only(found).reason) == (frozenset(), (), reason)
    assert not found.is_in_service
    assert len(want(*web(LOCAL), own, on="n2").candidacies[0].candidates) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"message": "container runtime is down"},
        {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."},
        {"status": "True", "message": "kubelet is posting ready status"},
    ],
)
def test_node_that_is_not_ready_is_in_service_unless_it_shuts_down(other: dict[str, str]) -> None:
    found = want(*web(LOCAL), node("n1") | {"status": {"conditions": [SHUTDOWN | other]}})
    assert found.is_in_service
    assert len(found.candidacies[0].candidates) == 3


def test_link_without_carrier_is_no_candidate() -> None:
    found = want(*web(LOCAL), announcement("n2", eth0("n2", hasCarrier=False)))
    assert set(found.candidacies[0].candidates) == {"n1", "n3"}


def test_extlbint_node_without_the_link_is_no_candidate() -> None:
    found = want(*web(STRAY), agent(extlbint="eth1"), announcement("n2", eth0("n2")))
    assert set(found.candidacies[0].candidates) == {"n1", "n3"}


def test_unknown_own_node_decides_nothing() -> None:
    assert desired(snapshot(*POOLS, *web(LOCAL)), NodeName("n9"), kernel()) is UNKNOWN


def test_address_of_a_pool_that_cannot_be_understood_is_kept() -> None:
    found = want(group("broken", "10.9.0-1-10.9.0.9", "10.9.0.0/24"), *web("10.9.0.1"))
    assert only(found).reason is Reason.POOL_UNKNOWN
    assert found.keep == {ip("10.9.0.1")}


def test_address_outside_every_pool_is_not_kept_when_all_pools_are_known() -> None:
    assert want(*web("10.9.0.1")).keep == frozenset()


def test_address_whose_advertisement_cannot_be_understood_is_kept() -> None:
    pool = metallb("IPAddressPool", "p", addresses=["10.9.0.0/24"])
    found = want(pool, metallb("BGPAdvertisement", "b", aggregationLength=77), *web("10.9.0.1"))
    assert found.keep == {ip("10.9.0.1")}


BROKEN = agent(localint="eth(") | {"metadata": {"name": "wrong", "namespace": "purelb-system"}}
ONLY_N1 = {"matchLabels": {"kubernetes.io/hostname": "n1"}}
OTHER = raw("purelb.io/v2", "LBNodeAgent", "n1", namespace="purelb-system", spec={"nodeSelector": ONLY_N1})


@pytest.mark.parametrize("address", [LOCAL, STRAY, VIRTUAL])
@pytest.mark.parametrize("more", [(), (OTHER,)])  # the node's own links are known, its rivals' aren't
def test_address_whose_links_an_agent_that_cannot_be_understood_may_name_is_kept(
    address: str, more: tuple[dict[str, Any], ...]
) -> None:
    found = want(*web(address), BROKEN, *more, peer())
    assert only(found).reason is Reason.LINKS_UNKNOWN
    assert found.keep == {ip(address)}
    assert (found.addresses, found.candidacies, found.routes) == (frozenset(), (), frozenset())
    assert not any(found.bgp.values())


def test_l2_advertisement_that_leaves_the_links_to_an_agent_that_cannot_be_understood_places_nothing() -> None:
    ad = metallb("L2Advertisement", "l", ipAddressPools=["subnet-2"])
    assert want(*web(STRAY), BROKEN, ad).keep == {ip(STRAY)}
    named = metallb("L2Advertisement", "l", ipAddressPools=["subnet-2"], interfaces=["eth1"])
    assert only(want(*web(STRAY), BROKEN, named)).ifname == "eth1"


def test_agent_that_cannot_be_understood_hurts_nobody_whose_links_are_known() -> None:
    assert only(want(*web(STRAY), BROKEN, agent(extlbint="eth1"))).ifname == "eth1"
    remote = {"v4pool": {"subnet": "10.9.0.0/24", "pool": "10.9.0.1-10.9.0.9"}}
    far = raw("purelb.io/v2", "ServiceGroup", "far", spec={"remote": remote})
    assert want(far, *web("10.9.0.1"), BROKEN).addresses == {ip("10.9.0.1")}


def test_service_without_an_address_says_so() -> None:
    assert only(want(service(), endpoints())).reason is Reason.NO_ADDRESS


@pytest.mark.parametrize(
    ("now", "change"),
    [
        ({}, SetDevconf(ifname=eth0("n1")["ifname"], arp_ignore=1, arp_announce=2)),
        ({"arp_ignore": 2, "arp_announce": 2}, None),
    ],
)
def test_devconf_is_made_strict_and_never_laxer(now: dict[str, Any], change: SetDevconf | None) -> None:
    found = want(*web(VIRTUAL), seen=kernel(**now)).devconf
    assert (found[0] if found else None) == change


def test_strict_rp_filter_is_loosened_only_where_an_address_has_no_subnet() -> None:
    found = want(*web(STRAY), agent(extlbint="eth1"), seen=kernel(rp_filter=1)).devconf
    assert {change.ifname: change.rp_filter for change in found} == {"eth0": None, "eth1": 2}


def test_describe_links_reports_real_links_with_subnets_that_are_not_ours() -> None:
    links = describe_links(kernel(addresses=[held(LOCAL, "eth0", 10)], routes=[route("10.9.0.0/24", "eth1")]))
    assert [link.ifname for link in links] == ["eth0", "eth1"]
    assert links[0].subnets == (net("10.111.111.0/24"),)
    assert links[0].default_for == {4}
    assert links[1].on_link == (net("10.9.0.0/24"),)
    assert eth1("n1")["lladdr"] == links[1].lladdr


def test_ipv6_address_is_local_on_the_link_of_the_default_route_of_either_family() -> None:
    own = LinkAddress(ifname=kernel().links[1].ifname, address=ip("fd00:111::2"), prefixlen=64, scope=Scope.GLOBAL)
    v6 = group("v6", "fd00:111::100-fd00:111::1ff", "fd00:111::/64")
    found = want(v6, *web("fd00:111::100"), seen=kernel(addresses=[own]))
    assert [(c.ifname, str(c.address)) for c in found.candidacies] == [("eth0", "fd00:111::100")]


def test_l2_advertisement_that_names_a_purelb_pool_leaves_the_links_to_its_agent() -> None:
    ad = metallb("L2Advertisement", "l", ipAddressPools=["subnet-1", "subnet-2"])
    found = want(*web(STRAY), agent(extlbint="eth1"), ad)
    assert [c.ifname for c in found.candidacies] == ["eth1"]
    assert [r.ifname for r in found.routes] == ["eth1"]


def test_address_on_several_links_gets_no_return_route() -> None:
    ad = metallb("L2Advertisement", "l", ipAddressPools=["subnet-2"], interfaces=["eth0", "eth1"])
    found = want(*web(STRAY), ad)
    assert [c.ifname for c in found.candidacies] == ["eth0", "eth1"]
    assert found.routes == frozenset()
