"""Which ports are open on which of a node's addresses, and when the guard is put and removed."""

from dataclasses import replace
from typing import Any

from announcer.core.desired import Desired, desired
from announcer.core.model import (
    UNKNOWN,
    AddVirtualLink,
    AdvertiseRoutes,
    Guard,
    NodeName,
    ObservedBgp,
    ObservedKernel,
    ObservedPeer,
    PutAddresses,
    PutGuard,
    RemoveGuard,
    Unknown,
)
from announcer.core.plan import Pace, plan
from tests.builders import endpoints, group, held, ip, kernel, peer, raw, service, snapshot

ADDRESS, SECOND = "10.113.113.100", "10.113.113.101"
WEB = {"port": 80}
POOL = group("subnet-3")
LEFT = Guard(addresses=frozenset({ip(ADDRESS)}), ports=frozenset({(ip(ADDRESS), "TCP", 7)}))


def want(*objects: dict[str, Any], seen: ObservedKernel | None = None, guards_ports: bool = True) -> Desired:
    found = desired(snapshot(POOL, *objects), NodeName("n1"), seen or kernel(), guards_ports=guards_ports)
    assert isinstance(found, Desired)
    return found


def web(name: str = "web", *ports: dict[str, Any], at: str = ADDRESS, **spec: Any) -> list[dict[str, Any]]:
    return [service(name, addresses=[at], ports=list(ports or [WEB]), **spec), endpoints(name)]


def opened(found: Desired) -> dict[str, set[tuple[str, int]]]:
    assert found.guard is not None
    by_address: dict[str, set[tuple[str, int]]] = {str(a): set() for a in found.guard.addresses}
    for address, protocol, port in found.guard.ports:
        by_address[str(address)].add((protocol, port))
    return by_address


def leftover(guard: Guard | Unknown | None = LEFT) -> ObservedKernel:
    return replace(kernel(addresses=[held(ADDRESS)]), guard=guard)


def test_ports_of_a_service_are_open_and_of_sharers_as_well() -> None:
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 9, "protocol": "SCTP"}]
    found = want(*web(), *web("dns", *dns), *web("other", at=SECOND))
    assert opened(found) == {
        ADDRESS: {("TCP", 80), ("UDP", 53), ("TCP", 53), ("SCTP", 9)},
        SECOND: {("TCP", 80)},
    }


def test_ports_of_services_that_are_not_ours_are_open_on_our_address() -> None:
    """By externalIPs, and by another load balancer's class."""
    extra = raw("v1", "Service", "extra", namespace="test", spec={"ports": [{"port": 25}], "externalIPs": [ADDRESS]})
    theirs = service("theirs", addresses=[ADDRESS], ports=[{"port": 26}], loadBalancerClass="example.com/theirs")
    assert opened(want(*web(), extra, theirs)) == {ADDRESS: {("TCP", 80), ("TCP", 25), ("TCP", 26)}}


def test_address_that_nobody_wants_any_more_keeps_its_ports_while_it_is_here() -> None:
    assert opened(want(seen=leftover())) == {ADDRESS: {("TCP", 7)}}
    assert want(seen=replace(kernel(), guard=LEFT)).guard is None


def test_address_of_which_nothing_was_known_stays_open() -> None:
    for guard in (None, UNKNOWN):
        assert want(seen=leftover(guard)).guard is None


def test_port_that_a_service_gave_up_closes() -> None:
    assert opened(want(*web(), seen=leftover())) == {ADDRESS: {("TCP", 80)}}


def test_while_a_service_can_not_be_understood_no_port_closes() -> None:
    broken = service("broken", addresses=[SECOND], ports=[{"port": "many"}])
    assert opened(want(*web(), broken, seen=leftover())) == {ADDRESS: {("TCP", 80), ("TCP", 7)}}


def test_address_of_a_service_that_can_not_be_understood_stays_open() -> None:
    broken = service("broken", addresses=[ADDRESS], ports=[{"port": "many"}])
    assert want(*web(), broken, seen=leftover()).guard is None


def test_address_with_a_port_that_nobody_can_match_stays_open() -> None:
    assert want(*web("web", {"port": 80, "protocol": "DCCP"})).guard is None


def test_address_that_is_somebody_elses_on_this_node_is_not_guarded() -> None:
    own = kernel(addresses=[held(ADDRESS, "eth0", protocol=0)])
    assert want(*web(), seen=own).guard is None


def test_off_means_no_guard() -> None:
    assert want(*web(), guards_ports=False).guard is None


def test_guard_comes_before_the_address_and_before_what_attracts() -> None:
    found = want(*web(), peer())
    up = ObservedBgp(peers=(ObservedPeer(peer_address=found.peers[0].peer_address, is_established=True),))
    kinds = [type(action) for action in plan(found, kernel(), up, 0.0, Pace()).actions]
    assert kinds[0] is PutGuard
    assert {AddVirtualLink, PutAddresses, AdvertiseRoutes} <= set(kinds[1:])


def test_guard_that_is_there_is_left_alone_and_any_other_replaced() -> None:
    found = want(*web())
    assert found.guard is not None
    for seen in (None, UNKNOWN, LEFT, replace(found.guard, is_whole=False), found.guard):
        actions = plan(found, replace(kernel(), guard=seen), ObservedBgp(), 0.0, Pace()).actions
        puts = [a for a in actions if isinstance(a, PutGuard)]
        assert puts == ([] if seen == found.guard else [PutGuard(guard=found.guard)])


def test_guard_goes_last_and_only_where_there_is_one() -> None:
    for seen, gone in ((LEFT, [RemoveGuard()]), (None, [])):
        actions = plan(want(), replace(kernel(), guard=seen), ObservedBgp(), 0.0, Pace()).actions
        assert [a for a in actions if isinstance(a, RemoveGuard)] == gone
        assert list(actions[len(actions) - len(gone) :]) == gone
