"""The order of changes, and that nothing is removed because of what isn't known."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from announcer.core.desired import Desired, unreachable
from announcer.core.model import (
    GRACEFUL_SHUTDOWN,
    UNKNOWN,
    AddVirtualLink,
    AdvertisedRoute,
    AdvertiseRoutes,
    DesiredPeer,
    Guard,
    IfName,
    IPNetwork,
    Link,
    ObservedBgp,
    ObservedKernel,
    ObservedPeer,
    PutAddresses,
    PutRoute,
    RemoveAddresses,
    RemoveGuard,
    RemoveRoute,
    RemoveVirtualLink,
    Route,
    SetDevconf,
    SetPeers,
    WithdrawRoutes,
)
from announcer.core.plan import Pace, Plan, clear, plan
from tests.builders import held, ip, kernel, net, route

TOR = ip("10.111.111.254")
NET, HOST = net("10.113.113.0/24"), net("10.113.113.100/32")
VIRTUAL = ip("10.113.113.100")
KEEP = SetPeers(peers=())
END = unreachable(NET)
WANTED = Desired(addresses=frozenset({VIRTUAL}), routes=frozenset({END}), bgp={TOR: {NET: Route(prefix=NET)}})
LB0 = Link(ifname=IfName("kube-lb0"), ifindex=9, lladdr="02:00:00:00:00:99", kind="bridge")


PEER = DesiredPeer(
    name="tor", my_asn=64512, peer_asn=64513, peer_address=TOR, local_address=TOR, router_id=IPv4Address("10.111.111.2")
)


def with_link(seen: ObservedKernel, *, has_end: bool = True) -> ObservedKernel:
    return replace(seen, links=(*seen.links, LB0), routes=(*seen.routes, *([END] if has_end else [])))


def tor(
    *routes: Route, since: float = 0.0, is_established: bool = True, pending: frozenset[IPNetwork] = frozenset()
) -> ObservedBgp:
    table = {r.prefix: AdvertisedRoute(route=r, since=since) for r in routes}
    return ObservedBgp(
        peers=(ObservedPeer(peer_address=TOR, is_established=is_established, routes=table, pending=pending),)
    )


def make(wanted: Desired, seen: ObservedKernel, bgp: ObservedBgp, now: float = 100.0) -> Plan:
    return plan(wanted, seen, bgp, now, Pace())


def test_plan_makes_ready_before_it_attracts() -> None:
    devconf = SetDevconf(ifname=IfName("eth0"), arp_ignore=1)
    wanted = replace(WANTED, devconf=(devconf,))
    assert make(wanted, kernel(), tor()).actions == (
        AddVirtualLink(ifname=IfName("kube-lb0")),
        devconf,
        PutAddresses(ifname=IfName("kube-lb0"), addresses=(VIRTUAL,)),
        PutRoute(route=END),
        KEEP,
        AdvertiseRoutes(peer_address=TOR, routes=(Route(prefix=NET),)),
    )


def test_plan_does_nothing_when_all_is_there() -> None:
    seen = with_link(kernel(addresses=[held(str(VIRTUAL))]))
    assert make(WANTED, seen, tor(Route(prefix=NET))) == Plan(actions=(KEEP,))


def test_plan_puts_an_address_back_that_the_kernel_would_remove() -> None:
    seen = with_link(kernel(addresses=[held(str(VIRTUAL), valid_seconds=20)]))
    assert PutAddresses(ifname=LB0.ifname, addresses=(VIRTUAL,)) in make(WANTED, seen, tor(Route(prefix=NET))).actions


def test_plan_sets_a_link_up_that_somebody_set_down() -> None:
    seen = replace(kernel(), links=(*kernel().links, replace(LB0, is_up=False)))
    assert make(WANTED, seen, tor()).actions[0] == AddVirtualLink(ifname=LB0.ifname)


def test_session_that_is_to_end_drains_first() -> None:
    old = Route(prefix=HOST)
    draining = replace(old, communities=frozenset({GRACEFUL_SHUTDOWN}))
    seen, kept = (
        with_link(kernel(addresses=[held(str(VIRTUAL))]), has_end=False),
        SetPeers(peers=(), keeps=frozenset({TOR})),
    )
    wanted = Desired(addresses=frozenset({VIRTUAL}))
    assert make(wanted, seen, tor(old)).actions == (kept, AdvertiseRoutes(peer_address=TOR, routes=(draining,)))
    assert make(wanted, seen, tor(draining, since=99.0)).actions[1:] == (
        WithdrawRoutes(peer_address=TOR, routes=(draining,)),
    )
    assert make(wanted, seen, tor(pending=frozenset({HOST}))).actions == (kept,)
    for over in (tor(), tor(old, is_established=False)):
        assert make(wanted, seen, over).actions == (KEEP,)


@pytest.mark.parametrize("seconds", [0.0, 0.99, 301.0, -1.0, float("nan"), float("inf")])
def test_unsafe_drain_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="1 to 300 seconds"):
        Pace.of(seconds)
    assert Pace.of(3.5) == Pace(drain=3.5)


def test_plan_drains_then_withdraws_then_lets_the_address_go() -> None:
    old = Route(prefix=HOST)
    draining = replace(old, communities=frozenset({GRACEFUL_SHUTDOWN}))
    seen = with_link(kernel(addresses=[held(str(VIRTUAL))]), has_end=False)
    gone = replace(Desired(), bgp={TOR: {}})
    first = make(gone, seen, tor(old))
    assert first == Plan(actions=(KEEP, AdvertiseRoutes(peer_address=TOR, routes=(draining,))), again_in=1.0)
    assert make(gone, seen, tor(draining, since=99.5)) == Plan(actions=(KEEP,), again_in=0.5)
    second = make(gone, seen, tor(draining, since=99.0))
    assert second.actions == (KEEP, WithdrawRoutes(peer_address=TOR, routes=(draining,)))
    third = make(gone, seen, tor())
    assert third.actions == (KEEP, PutAddresses(ifname=LB0.ifname, addresses=(VIRTUAL,), valid_seconds=30))


def test_plan_lets_an_address_go_under_an_aggregate_that_stays() -> None:
    stays = replace(WANTED, addresses=frozenset())
    seen = with_link(kernel(addresses=[held(str(VIRTUAL))]))
    actions = make(stays, seen, tor(Route(prefix=NET))).actions
    assert actions == (KEEP, PutAddresses(ifname=LB0.ifname, addresses=(VIRTUAL,), valid_seconds=30))


def test_plan_takes_a_draining_route_back_that_is_wanted_again() -> None:
    draining = Route(prefix=NET, communities=frozenset({GRACEFUL_SHUTDOWN}))
    actions = make(WANTED, with_link(kernel(addresses=[held(str(VIRTUAL))])), tor(draining)).actions
    assert actions == (KEEP, AdvertiseRoutes(peer_address=TOR, routes=(Route(prefix=NET),)))


def test_plan_writes_nothing_to_a_session_that_is_down_or_a_route_in_flight() -> None:
    seen = with_link(kernel(addresses=[held(str(VIRTUAL))]))
    assert make(WANTED, seen, tor(is_established=False)).actions == (KEEP,)
    assert make(WANTED, seen, tor(pending=frozenset({NET}))).actions == (KEEP,)


def test_plan_advertises_nothing_that_the_session_does_not_carry() -> None:
    seen = with_link(kernel(addresses=[held(str(VIRTUAL))]))
    (peer,) = tor().peers
    assert make(WANTED, seen, ObservedBgp(peers=(replace(peer, families=frozenset({6})),))).actions == (KEEP,)


@pytest.mark.parametrize(
    "peers", [{"peers": (PEER,)}, {"keep_peers": frozenset({TOR})}, {"are_peers_known": False, "bgp": {}}]
)
def test_plan_removes_nothing_while_the_sidecar_is_silent(peers: dict[str, Any]) -> None:
    leftovers = with_link(kernel(addresses=[held("10.113.113.9")], routes=[route("10.8.0.0/24", "eth1", protocol=201)]))
    silent = plan(replace(WANTED, **peers), leftovers, UNKNOWN, 0.0, Pace()).actions
    assert not any(isinstance(a, RemoveRoute) or (isinstance(a, PutAddresses) and a.valid_seconds) for a in silent)


def test_plan_ends_what_exabgp_has_brought_back_though_nobody_wants_it() -> None:
    draining = replace(Route(prefix=NET), communities=frozenset({GRACEFUL_SHUTDOWN}))
    gone = replace(Desired(), bgp={TOR: {}})
    drain = AdvertiseRoutes(peer_address=TOR, routes=(draining,))
    assert make(gone, kernel(), tor(Route(prefix=NET))).actions == (PutRoute(route=END), KEEP, drain)
    host = Route(prefix=HOST)
    assert make(gone, kernel(), tor(host)) == Plan(actions=(KEEP, WithdrawRoutes(peer_address=TOR, routes=(host,))))


def test_plan_keeps_the_end_of_an_aggregate_that_is_on_its_way() -> None:
    gone = replace(Desired(), bgp={TOR: {}})
    seen = with_link(kernel())
    assert make(gone, seen, tor(pending=frozenset({NET}))).actions == (KEEP,)
    assert make(gone, seen, tor()).actions == (KEEP, RemoveRoute(route=END))


def test_plan_removes_leftover_routes_of_ours_only() -> None:
    ours, theirs = route("10.8.0.0/24", "eth1", protocol=201), route("10.7.0.0/24", "eth1", protocol=4)
    actions = make(Desired(), kernel(routes=[ours, theirs]), ObservedBgp()).actions
    assert actions == (KEEP, RemoveRoute(route=ours))


def test_plan_keeps_a_return_route_while_an_address_whose_answers_take_it_is_there() -> None:
    way = route("10.112.112.0/24", "eth1", protocol=201)
    for there in (held("10.112.112.100", ifname="eth1", valid_seconds=9), held("10.112.112.100", valid_seconds=29)):
        assert make(Desired(), kernel(addresses=[there], routes=[way]), ObservedBgp()).actions == (KEEP,)
    other = held("10.113.113.9", valid_seconds=29)
    actions = make(Desired(), kernel(addresses=[other], routes=[way]), ObservedBgp()).actions
    assert actions == (KEEP, RemoveRoute(route=way))


def test_plan_never_names_an_address_without_our_mark() -> None:
    seen = with_link(kernel(addresses=[held("10.113.113.9", protocol=0)]), has_end=False)
    assert make(Desired(), seen, ObservedBgp()).actions == (KEEP,)


def test_plan_keeps_address_and_route_of_what_cannot_be_judged() -> None:
    seen = with_link(kernel(addresses=[held(str(VIRTUAL))], routes=[route("10.113.113.0/24", "eth1", protocol=201)]))
    unsure = Desired(keep=frozenset({VIRTUAL}), bgp={TOR: {}})
    assert make(unsure, seen, tor(Route(prefix=NET))).actions == (KEEP,)


def test_plan_keeps_a_peer_whose_password_is_not_known_and_its_routes() -> None:
    unsure = replace(WANTED, peers=(), keep_peers=frozenset({TOR}))
    actions = plan(unsure, kernel(), tor(Route(prefix=NET)), 0.0, Pace()).actions
    found = [a for a in actions if isinstance(a, SetPeers | AdvertiseRoutes | WithdrawRoutes)]
    assert found == [SetPeers(peers=(), keeps=frozenset({TOR}))]


def test_plan_withdraws_nothing_from_a_peer_of_which_nobody_can_say_what_it_is_to_have() -> None:
    unsure = replace(WANTED, bgp={}, keep_peers=frozenset({TOR}))
    seen = tor(Route(prefix=NET), Route(prefix=HOST))
    actions = plan(unsure, kernel(), seen, 0.0, Pace()).actions
    found = [a for a in actions if isinstance(a, SetPeers | AdvertiseRoutes | WithdrawRoutes)]
    assert found == [SetPeers(peers=(), keeps=frozenset({TOR}))]


def test_plan_takes_no_peer_and_no_route_away_while_a_peer_cannot_be_understood() -> None:
    unsure = replace(WANTED, are_peers_known=False, peers=(), bgp={})
    keeping = SetPeers(peers=(), keeps_others=True)
    for seen in (tor(Route(prefix=NET)), ObservedBgp(), UNKNOWN):
        actions = plan(unsure, kernel(), seen, 0.0, Pace()).actions
        assert [a for a in actions if isinstance(a, SetPeers | AdvertiseRoutes | WithdrawRoutes)] == [keeping]


def test_clear_names_all_that_is_ours_and_nothing_else() -> None:
    seen = with_link(kernel())
    mine = replace(LB0, ifname=IfName("kube-lb1"), is_ours=True)
    addresses = (
        held("10.113.113.101"),
        held("10.113.113.100"),
        held("10.1.1.1", "eth0", 300),
        held("10.9.9.9", protocol=0),
    )
    seen = replace(seen, links=(*seen.links, mine), addresses=(*seen.addresses, *addresses), guard=Guard())
    assert clear(seen) == (
        RemoveAddresses(ifname=IfName("eth0"), addresses=(ip("10.1.1.1"),)),
        RemoveAddresses(ifname=IfName("kube-lb0"), addresses=(ip("10.113.113.100"), ip("10.113.113.101"))),
        RemoveRoute(route=END),
        RemoveVirtualLink(ifname=IfName("kube-lb1")),
        RemoveGuard(),
    )
