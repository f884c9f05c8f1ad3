"""Weights: how much of a Service's traffic each node's path asks for."""

from typing import Any

import pytest

from announcer.core.desired.weights import weight
from announcer.core.model import LinkBandwidth, Route
from tests.builders import NODES, Raw, endpoints, group, ip, kernel, peer, service
from tests.unit.core.test_desired import want


@pytest.mark.parametrize(
    ("endpoint_count", "expected"),
    [(0, 1), (1, 2), (2, 4), (3, 4), (4, 8), (7, 8), (8, 16), (511, 512), (512, 1024), (10**6, 1024)],
)
def test_weights_go_in_powers_of_two_and_end(endpoint_count: int, expected: int) -> None:
    assert weight(endpoint_count) == expected


def weighted(one: Raw, **notes: str) -> Raw:
    text = {f"announcer.io/{name.replace('_', '-')}": value for name, value in notes.items()}
    return one | {"metadata": one["metadata"] | {"annotations": text}}


def routes(*objects: Raw, tor: Raw | None = None) -> list[Route | None]:
    """What each node advertises, of one prefix."""
    found = []
    for name in NODES:
        table = want(tor or peer(), *objects, on=name, seen=kernel(name)).bgp[ip("10.111.111.254")]
        found.append(next(iter(table.values()), None))
    return found


def megabits(*objects: Raw, **more: Any) -> list[int | None]:
    """The weight of each node's path, None for none."""
    bandwidths = [route.link_bandwidth if route else None for route in routes(*objects, **more)]
    return [one.bytes_per_second // 125_000 if one else None for one in bandwidths]


HOSTS = group("hosts", "10.115.0.1-10.115.0.9", "10.115.0.0/24", aggregation="/32")
GROUP = weighted(group("agg", "10.116.0.1-10.116.0.9", "10.116.0.0/24"), weight_by="endpoints")
MANY = endpoints(nodes=["n1", *5 * ["n2"]])


def test_every_node_says_a_weight_also_one_without_endpoints() -> None:
    web = service(addresses=["10.115.0.1"])
    assert megabits(weighted(HOSTS, weight_by="endpoints"), web, MANY) == [2, 8, 1]
    assert megabits(HOSTS, web, MANY) == [None, None, None]


def test_endpoints_that_terminate_weigh_where_traffic_goes_to_them() -> None:
    """With policy Cluster, kube-proxy has none of them while any endpoint is ready."""
    leaving = endpoints(nodes=["n1"], ready=False, serving=True, terminating=True)
    leaving["metadata"]["name"] = "leaving"
    for policy, expected in (("Cluster", [1, 2, 1]), ("Local", [2, 2, None])):
        web = service(addresses=["10.115.0.1"], externalTrafficPolicy=policy)
        assert megabits(weighted(HOSTS, weight_by="endpoints"), web, leaving, endpoints(nodes=["n2"])) == expected


def test_policy_local_has_weights_and_an_aggregate_has_none() -> None:
    local = service(addresses=["10.116.0.1"], externalTrafficPolicy="Local")
    assert megabits(GROUP, local, MANY) == [2, 8, None]
    assert routes(GROUP, local, MANY)[2] is None
    assert megabits(GROUP, service(addresses=["10.116.0.1"]), MANY) == [None, None, None]


def test_services_that_share_an_address_have_the_greatest_weight() -> None:
    few, many = (service(name, addresses=["10.115.0.1"]) for name in ("few", "many"))
    ends = endpoints("few", ["n1"]), endpoints("many", [*5 * ["n1"], "n2"])
    for order in ((few, many), (many, few)):
        assert megabits(weighted(HOSTS, weight_by="endpoints"), *order, *ends) == [8, 2, 1]


@pytest.mark.parametrize(
    ("kind", "asn", "expected"),
    [
        ("transitive", 64512, LinkBandwidth(asn=64512, bytes_per_second=250_000, is_transitive=True)),
        ("non-transitive", 64512, LinkBandwidth(asn=64512, bytes_per_second=250_000, is_transitive=False)),
        ("transitive", 4200000000, LinkBandwidth(asn=23456, bytes_per_second=250_000, is_transitive=True)),
        ("none", 64512, None),
    ],
)
def test_peer_chooses_the_form(kind: str, asn: int, expected: LinkBandwidth | None) -> None:
    tor = weighted(peer(myASN=asn), link_bandwidth=kind)
    (route, *_) = routes(weighted(HOSTS, weight_by="endpoints"), service(addresses=["10.115.0.1"]), MANY, tor=tor)
    assert route is not None
    assert route.link_bandwidth == expected
