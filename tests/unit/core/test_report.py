"""What people and other nodes are told."""

import json
from dataclasses import replace
from typing import Any

import pytest

from announcer.core.allocate import Assignment, Refusal
from announcer.core.desired import Desired, Mode, Placement, describe_links
from announcer.core.model import (
    UNKNOWN,
    AdvertisedRoute,
    IfName,
    ObjectRef,
    ObservedBgp,
    ObservedPeer,
    Problem,
    Reason,
    Route,
    ServiceKey,
    Unknown,
)
from announcer.core.own import Entry, Ownership, Phase
from announcer.core.report import node_status, object_status, rows, service_status
from tests.builders import endpoints, group, ip, kernel, net, raw, service, snapshot

WEB, ETH0, TOR = ServiceKey("test/web"), IfName("eth0"), ip("10.111.111.254")
VIP, NET = ip("10.113.113.100"), net("10.113.113.0/24")
LOCAL = Placement(service=WEB, address=VIP, mode=Mode.LOCAL, ifname=ETH0)
VIRTUAL = Placement(service=WEB, address=VIP, mode=Mode.VIRTUAL, ifname=IfName("kube-lb0"), prefix=NET)
PROBLEM = Problem(ref=ObjectRef(kind="Service", name="web"), field="spec", value="", message="is wrong")


def told(
    placement: Placement, ownership: Ownership = Ownership(), bgp: ObservedBgp | Unknown = UNKNOWN
) -> tuple[str, str]:
    table = {TOR: {NET: Route(prefix=NET)}}
    wanted = Desired(placements=(placement,), bgp=table, node_lladdrs=frozenset({"02:00:00:00:00:03"}))
    status: Any = node_status((), wanted, ownership, bgp)
    (one,) = status["addresses"]
    return one["reason"], one["message"]


def holding(phase: Phase, holder: str = "") -> Ownership:
    return Ownership(entries={(ETH0, VIP): Entry(phase=phase, due=0, since=0, holder=holder)})


def tor(*, has_route: bool = True, is_pending: bool = False, **more: Any) -> ObservedBgp:
    is_there = has_route and not more.get("families")
    routes = {NET: AdvertisedRoute(route=Route(prefix=NET), since=0.0)} if is_there else {}
    pending = frozenset({NET} if is_pending else ())
    peer = ObservedPeer(peer_address=TOR, is_established=True, routes=routes, pending=pending)
    return ObservedBgp(peers=(replace(peer, **more),))


@pytest.mark.parametrize(
    ("wanted", "phase", "bgp", "expected"),
    [
        ({}, Phase.WATCHING, tor(has_route=False), True),
        ({"is_in_service": True}, Phase.WATCHING, tor(has_route=False), False),
        ({}, Phase.LEAVING, tor(has_route=False), False),
        ({}, Phase.WATCHING, tor(), False),
        ({}, Phase.WATCHING, tor(has_route=False, is_pending=True), False),
        ({}, Phase.WATCHING, tor(has_route=False, is_established=False, is_learned=False), False),
        ({}, Phase.WATCHING, UNKNOWN, True),
        ({"bgp": {TOR: {}}}, Phase.WATCHING, UNKNOWN, False),
        ({"keep_peers": frozenset({TOR})}, Phase.WATCHING, UNKNOWN, False),
        ({"are_peers_known": False}, Phase.WATCHING, UNKNOWN, False),
    ],
)
def test_node_is_drained_once_nothing_draws_traffic_to_it(
    wanted: dict[str, Any], phase: Phase, bgp: ObservedBgp | Unknown, expected: bool
) -> None:
    found = node_status((), Desired(**{"is_in_service": False} | wanted), holding(phase), bgp)
    assert found["isDrained"] is expected


@pytest.mark.parametrize(
    ("phase", "holder", "reason"),
    [
        (Phase.WAITING, "", Reason.CLAIMING),
        (Phase.HOLDING, "", Reason.HOLDING),
        (Phase.LEAVING, "", Reason.HOLDING),
        (Phase.WATCHING, "02:00:00:00:00:03", Reason.HELD_ELSEWHERE),
        (Phase.WATCHING, "02:00:00:00:00:99", Reason.FOREIGN_HOST),
    ],
)
def test_local_address_tells_its_state(phase: Phase, holder: str, reason: Reason) -> None:
    found, message = told(LOCAL, holding(phase, holder))
    assert found == reason
    assert holder in message


@pytest.mark.parametrize(
    ("bgp", "reason"),
    [
        (tor(), Reason.ADVERTISED),
        (tor(has_route=False), Reason.ROUTE_PENDING),
        (tor(is_pending=True), Reason.ROUTE_PENDING),
        (tor(is_established=False), Reason.PEER_NOT_ESTABLISHED),
        (tor(families=frozenset({6})), Reason.ROUTE_REFUSED),
        (UNKNOWN, Reason.ROUTE_PENDING),
    ],
)
def test_virtual_address_is_advertised_only_when_proven(bgp: ObservedBgp, reason: Reason) -> None:
    assert told(VIRTUAL, bgp=bgp)[0] == reason


def test_refused_route_says_by_whom() -> None:
    assert told(VIRTUAL, bgp=tor(families=frozenset({6})))[1] == f"{TOR} has not agreed to take IPv4 routes"
    refused = tor(has_route=False, is_pending=True, refused=frozenset({NET}), last_error="no")
    assert told(VIRTUAL, bgp=refused) == (Reason.ROUTE_REFUSED, f"ExaBGP doesn't take it for {TOR}: no")


def test_virtual_address_without_a_peer_of_its_family_says_so() -> None:
    assert told(replace(VIRTUAL, prefix=net("fd00::/64")))[0] == Reason.NO_PEER


def test_placement_with_a_reason_keeps_it() -> None:
    assert told(replace(LOCAL, ifname=None, reason=Reason.NO_LINK))[0] == Reason.NO_LINK


def test_node_status_is_plain_json_and_comes_back_as_a_report() -> None:
    status = node_status(describe_links(kernel()), Desired(placements=(LOCAL,)), holding(Phase.HOLDING), tor())
    assert json.loads(json.dumps(status)) == status
    cluster = snapshot(raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status=status))
    report = next(r for r in cluster.reports if r.node == "n1")
    assert report.links == describe_links(kernel())
    assert report.addresses[0].reason == Reason.HOLDING


def test_service_status_has_ingress_and_conditions() -> None:
    given = service_status(Assignment(service=WEB, addresses=(VIP,), pool="p"), ())
    assert given["loadBalancer"] == {"ingress": [{"ip": str(VIP), "ipMode": "VIP"}]}
    refused = service_status(Refusal(service=WEB, reason=Reason.NO_POOL, message="m"), (PROBLEM,))
    assert refused["loadBalancer"] == {"ingress": []}
    assert [c["status"] for c in refused["conditions"]] == ["False", "True"]  # type: ignore[attr-defined]


def test_object_status_says_accepted_or_why_not() -> None:
    fine: Any = object_status((), is_used=True)
    assert fine["conditions"][0]["status"] == "True"
    wrong: Any = object_status([PROBLEM], is_used=False)["conditions"]
    assert (wrong[0]["status"], "is wrong" in wrong[0]["message"]) == ("False", True)


def announced(name: str, reason: Reason, *, mode: str = "virtual") -> dict[str, object]:
    one = {"services": [f"{WEB} {VIP}"], "mode": mode, "link": "eth0", "prefix": str(NET), "reason": str(reason)}
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status={"addresses": [one]})


def test_rows_name_the_nodes_that_advertise() -> None:
    nodes = [
        announced("n1", Reason.ADVERTISED),
        announced("n2", Reason.ROUTE_PENDING),
        announced("n3", Reason.ADVERTISED),
    ]
    (row,) = rows(snapshot(group(), service(addresses=[str(VIP)]), endpoints(), *nodes), {})
    assert (row.mode, row.nodes, row.via, row.reason) == ("virtual", ("n1", "n3"), str(NET), "")


def test_rows_say_why_no_node_does() -> None:
    (row,) = rows(snapshot(service(addresses=[str(VIP)]), announced("n1", Reason.NO_ENDPOINTS)), {})
    assert (row.nodes, row.reason) == ((), "NoEndpoints (n1)")


def test_rows_say_why_there_is_no_address() -> None:
    (row,) = rows(snapshot(service()), {WEB: "NoPool: none"})
    assert row.reason == "NoPool: none"


def test_rows_say_when_nobody_has_reported() -> None:
    (row,) = rows(snapshot(service(addresses=[str(VIP)])), {})
    assert row.reason == "no agent has reported on it"
