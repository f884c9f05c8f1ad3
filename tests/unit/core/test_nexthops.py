"""Bounded next-hop sets: which nodes advertise a route where its pool says how many may."""

from functools import partial
from typing import Any

from announcer.core.desired import desired
from announcer.core.elect import elect
from announcer.core.model import NodeName, Reason, Snapshot
from tests.builders import NODES, endpoints, group, ip, kernel, metallb, node, peer, pool, service, snapshot
from tests.unit.core.test_allocate_cost import operations
from tests.unit.core.test_desired import only, want, web


def bounded(most: int, one: dict[str, Any] | None = None) -> dict[str, Any]:
    made = one or group()
    return made | {"metadata": made["metadata"] | {"annotations": {"announcer.io/max-next-hops": str(most)}}}


def advertisers(*objects: dict[str, Any], to: str = "10.111.111.254") -> dict[str, set[str]]:
    """Which nodes advertise each prefix to a peer."""
    found: dict[str, set[str]] = {}
    for node_name in NODES:
        for prefix in want(*objects, on=node_name, seen=kernel(node_name)).bgp.get(ip(to), {}):
            found.setdefault(str(prefix), set()).add(node_name)
    return found


def unready(name: str) -> dict[str, Any]:
    return node(name) | {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}


def test_bounded_route_goes_out_from_the_first_nodes_of_its_order() -> None:
    order = elect([NodeName(name) for name in NODES], ip("10.113.113.0"))
    made = (bounded(2), peer(), *web("10.113.113.100"))
    assert advertisers(*made) == {"10.113.113.0/24": set(order[:2])}
    last = want(*made, on=order[2], seen=kernel(order[2]))
    assert (only(last).reason, last.addresses, last.routes) == (
        Reason.ENOUGH_NEXT_HOPS,
        frozenset({ip("10.113.113.100")}),
        frozenset(),
    )


def test_services_of_an_aggregate_have_the_same_next_hops() -> None:
    services = [*web("10.113.113.100"), service("too", addresses=["10.113.113.101"]), endpoints("too", ["n1"])]
    assert [len(nodes) for nodes in advertisers(bounded(1), peer(), *services).values()] == [1]


def test_host_routes_of_policy_local_have_next_hops_among_nodes_with_endpoints() -> None:
    local = service("web", addresses=["10.113.113.100"], externalTrafficPolicy="Local")
    found = advertisers(bounded(1), peer(), local, endpoints("web", ["n2", "n3"]))
    assert set(found) == {"10.113.113.100/32"}
    assert found["10.113.113.100/32"] < {"n2", "n3"}


def test_node_that_is_not_ready_is_a_next_hop_only_where_no_other_is() -> None:
    order = elect([NodeName(name) for name in NODES], ip("10.113.113.0"))
    made = (peer(), unready(order[0]), *web("10.113.113.100"))
    assert advertisers(bounded(2), *made) == {"10.113.113.0/24": set(order[1:])}
    assert advertisers(bounded(3), *made) == {"10.113.113.0/24": set(order)}
    assert advertisers(bounded(2), *made, *map(unready, order[1:])) == {"10.113.113.0/24": set(order[:2])}


def test_bound_is_of_each_router() -> None:
    """One that only one node has a session with gets its route from there, whoever else is chosen for others."""
    order = elect([NodeName(name) for name in NODES], ip("10.113.113.0"))
    only_last = {"nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": order[-1]}}]}
    made = (bounded(1), peer(), peer("second", "10.111.111.253", **only_last), *web("10.113.113.100"))
    assert advertisers(*made) == {"10.113.113.0/24": {order[0]}}
    assert advertisers(*made, to="10.111.111.253") == {"10.113.113.0/24": {order[-1]}}


def test_bound_counts_the_nodes_of_all_advertisements_of_a_prefix() -> None:
    hosts = [{"matchLabels": {"kubernetes.io/hostname": name}} for name in NODES]
    ads = [metallb("BGPAdvertisement", f"ad{i}", nodeSelectors=[one]) for i, one in enumerate(hosts)]
    found = advertisers(bounded(2, pool("metal", "10.114.0.0/24")), peer(), *ads, *web("10.114.0.1"))
    assert [len(nodes) for nodes in found.values()] == [2]


def on(*names: str) -> list[dict[str, Any]]:
    return [{"matchLabels": {"kubernetes.io/hostname": name}} for name in names]


def first(address: str, *names: str) -> set[NodeName]:
    return {elect([NodeName(name) for name in names], ip(address))[0]}


def test_services_that_other_advertisements_are_for_have_other_next_hops() -> None:
    colors = {"blue": ("n1", "n2"), "green": ("n2", "n3")}
    objects = []
    for color, nodes in colors.items():
        mine = [{"matchLabels": {"color": color}}]
        objects.append(metallb("BGPAdvertisement", color, nodeSelectors=on(*nodes), serviceSelectors=mine))
    wanted = {}
    for number in range(1, 9):
        color, address = ("blue", "green")[number % 2], f"10.114.0.{number}"
        made = service(f"s{number}", addresses=[address])
        made["metadata"]["labels"] = {"color": color}
        objects += [made, endpoints(f"s{number}")]
        wanted[f"{address}/32"] = first(address, *colors[color])
    assert advertisers(bounded(1, pool("metal", "10.114.0.0/24")), peer(), *objects) == wanted


def test_host_routes_of_policy_local_have_next_hops_on_the_nodes_of_aggregates_too() -> None:
    wide = metallb("BGPAdvertisement", "wide", nodeSelectors=on("n1"), aggregationLength=24)
    host = metallb("BGPAdvertisement", "host", nodeSelectors=on("n2", "n3"))
    objects, wanted = [wide, host], {"10.114.0.0/24": {"n1"}}
    for number in range(1, 9):
        is_local, address = number % 2 == 0, f"10.114.0.{number}"
        policy: dict[str, Any] = {"externalTrafficPolicy": "Local"} if is_local else {}
        objects += [service(f"s{number}", addresses=[address], **policy), endpoints(f"s{number}", NODES)]
        wanted[f"{address}/32"] = set(first(address, *(NODES if is_local else ("n2", "n3"))))
    assert advertisers(bounded(1, pool("metal", "10.114.0.0/24")), peer(), *objects) == wanted


def many(count: int, made: dict[str, Any]) -> Snapshot:
    names = [(f"s{i}", f"10.114.0.{i}") for i in range(1, count + 1)]
    services = [one for name, address in names for one in (service(name, addresses=[address]), endpoints(name))]
    ad = metallb("BGPAdvertisement", "ad", nodeSelectors=on(*NODES), aggregationLength=24)
    return snapshot(made, ad, peer(), *services)


def test_bound_costs_a_service_little() -> None:
    """In bytecode operations: which nodes would advertise a prefix is found once, however many Services there are."""
    work = partial(desired, node=NodeName("n1"), kernel=kernel())
    free, limited = pool("metal", "10.114.0.0/24"), bounded(3, pool("metal", "10.114.0.0/24"))
    one, other = (operations(many(60, made), work) - operations(many(20, made), work) for made in (free, limited))
    assert other < 1.3 * one
