"""plan: applying it to observed gives desired; equal states give nothing; unmarked objects are never named; unknown
removes nothing; after any prefix of the Actions no advertised address is missing from the node.
"""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from announcer.core.desired import Desired, desired
from announcer.core.model import (
    UNKNOWN,
    Action,
    AddVirtualLink,
    AdvertisedRoute,
    AdvertiseRoutes,
    IfName,
    KernelRoute,
    Link,
    LinkAddress,
    NodeName,
    ObservedBgp,
    ObservedKernel,
    ObservedPeer,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveGuard,
    RemoveRoute,
    SetDevconf,
    SetPeers,
    Snapshot,
    WithdrawRoutes,
)
from announcer.core.plan import Pace, plan
from tests.builders import Raw, held, kernel, route, snapshot
from tests.property.strategies import clusters

LB0 = IfName("kube-lb0")
LEFTOVERS = st.lists(
    st.sampled_from([held("10.113.113.100"), held("10.8.8.8"), held("10.7.7.7", protocol=0), held("10.111.111.101")]),
    unique_by=lambda a: a.address,
)
ROUTES = st.lists(
    st.sampled_from([route("10.8.0.0/16", "eth1", protocol=201), route("10.7.0.0/16", "eth1", protocol=4)]),
    unique_by=lambda r: r.destination,
)


def world(addresses: list[LinkAddress], routes: list[KernelRoute]) -> ObservedKernel:
    seen = kernel(addresses=addresses, routes=routes)
    return replace(seen, links=(*seen.links, Link(ifname=LB0, ifindex=9, lladdr="02:00:00:00:00:99", kind="bridge")))


def wanted(cluster: Snapshot, seen: ObservedKernel) -> Desired:
    found = desired(cluster, NodeName("n1"), seen)
    assert isinstance(found, Desired)
    return found


def up(found: Desired) -> ObservedBgp:
    return ObservedBgp(peers=tuple(ObservedPeer(peer_address=p.peer_address, is_established=True) for p in found.peers))


def apply(action: Action, seen: ObservedKernel, bgp: ObservedBgp, now: float) -> tuple[ObservedKernel, ObservedBgp]:
    """What the edges would make of one Action."""
    match action:
        case AddVirtualLink():
            others = tuple(ln for ln in seen.links if ln.ifname != action.ifname)
            made = Link(ifname=action.ifname, ifindex=99, lladdr="02:00:00:00:00:98", kind="bridge")
            return replace(seen, links=(*others, made)), bgp
        case SetDevconf():
            links = tuple(_devconf(ln, action) if ln.ifname == action.ifname else ln for ln in seen.links)
            return replace(seen, links=links), bgp
        case PutGuard():
            return replace(seen, guard=action.guard), bgp
        case RemoveGuard():
            return replace(seen, guard=None), bgp
        case PutAddresses():
            kept = tuple(a for a in seen.addresses if a.ifname != action.ifname or a.address not in action.addresses)
            new = tuple(held(str(a), action.ifname, action.valid_seconds) for a in action.addresses)
            return replace(seen, addresses=kept + new), bgp
        case PutRoute():
            return replace(seen, routes=(*(r for r in seen.routes if r != action.route), action.route)), bgp
        case RemoveRoute():
            return replace(seen, routes=tuple(r for r in seen.routes if r != action.route)), bgp
        case AdvertiseRoutes() | WithdrawRoutes():
            return seen, ObservedBgp(peers=tuple(_bgp(p, action, now) for p in bgp.peers))
        case SetPeers():
            return seen, bgp
        case _:
            raise AssertionError(action)


def _devconf(link: Link, action: SetDevconf) -> Link:
    values = {n: getattr(action, n) for n in ("arp_ignore", "arp_announce", "rp_filter")}
    assert link.devconf is not None
    return replace(link, devconf=replace(link.devconf, **{n: v for n, v in values.items() if v is not None}))


def _bgp(peer: ObservedPeer, action: AdvertiseRoutes | WithdrawRoutes, now: float) -> ObservedPeer:
    if peer.peer_address != action.peer_address:
        return peer
    table = dict(peer.routes)
    for one in action.routes:
        if isinstance(action, AdvertiseRoutes):
            table[one.prefix] = AdvertisedRoute(route=one, since=now)
        else:
            del table[one.prefix]
    return replace(peer, routes=table)


def settle(cluster: Snapshot, seen: ObservedKernel) -> tuple[Desired, ObservedKernel, ObservedBgp]:
    """Passes until nothing but the peers' own Action is left, six at most; before the last two, lifetimes end."""
    bgp = up(wanted(cluster, seen))
    for now in range(6):
        if now == 4:
            seen = replace(seen, addresses=tuple(a for a in seen.addresses if a.valid_seconds is None))
        found = wanted(cluster, seen)
        for action in plan(found, seen, bgp, float(now), Pace()).actions:
            seen, bgp = apply(action, seen, bgp, float(now))
            check_advertised(seen, bgp, found)
    return wanted(cluster, seen), seen, bgp


def check_advertised(seen: ObservedKernel, bgp: ObservedBgp, found: Desired) -> None:
    there = {a.address for a in seen.addresses if a.ifname == found.virtual_link}
    for peer in bgp.peers:
        for prefix, advertised in peer.routes.items():
            covered = {a for a in found.addresses if a in prefix}
            is_draining = advertised.route.is_draining
            assert is_draining or covered <= there


@given(clusters(), st.builds(world, LEFTOVERS, ROUTES))
def test_applying_the_plan_gives_what_is_desired(objects: list[Raw], seen: ObservedKernel) -> None:
    found, seen, bgp = settle(snapshot(*objects), seen)
    lasting = {a.address for a in seen.addresses if a.is_ours and a.valid_seconds is None}
    assert lasting - found.keep == found.addresses - found.keep
    assert {r for r in seen.routes if r.is_ours} == found.routes
    for peer in bgp.peers:
        assert {p: a.route for p, a in peer.routes.items()} == found.bgp[peer.peer_address]


@given(clusters(), st.builds(world, LEFTOVERS, ROUTES))
def test_equal_states_give_nothing(objects: list[Raw], seen: ObservedKernel) -> None:
    found, seen, bgp = settle(snapshot(*objects), seen)
    assert [a for a in plan(found, seen, bgp, 99.0, Pace()).actions if not isinstance(a, SetPeers)] == []


@given(clusters(), st.builds(world, LEFTOVERS, ROUTES))
def test_nothing_without_our_mark_is_named(objects: list[Raw], seen: ObservedKernel) -> None:
    found = wanted(snapshot(*objects), seen)
    foreign = {a.address for a in seen.addresses if not a.is_ours}
    for action in plan(found, seen, up(found), 0.0, Pace()).actions:
        if isinstance(action, PutAddresses):
            assert not foreign & set(action.addresses) - found.addresses
        if isinstance(action, RemoveRoute):
            assert action.route.is_ours


@given(clusters(), st.builds(world, LEFTOVERS, ROUTES))
def test_silent_sidecar_removes_nothing(objects: list[Raw], seen: ObservedKernel) -> None:
    found = wanted(snapshot(*objects), seen)
    if found.peers:
        actions = plan(found, seen, UNKNOWN, 0.0, Pace()).actions
        assert not any(isinstance(a, RemoveRoute) or (isinstance(a, PutAddresses) and a.valid_seconds) for a in actions)


@given(clusters())
def test_desired_does_not_depend_on_the_order_of_objects(objects: list[Raw]) -> None:
    assert wanted(snapshot(*objects), kernel()) == wanted(snapshot(*objects[::-1]), kernel())
