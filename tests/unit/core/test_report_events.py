"""Events: once per change of state, by what the status said before; MetalLB's status objects."""

import json
from typing import Any

import pytest

from announcer.core.allocate import allocate
from announcer.core.desired import Desired, Mode, Placement
from announcer.core.model import MANAGED_BY, MANAGER, UNKNOWN, IfName, NodeName, ObjectRef, Reason, ServiceKey, Snapshot
from announcer.core.own import Ownership
from announcer.core.report import Note, mirrors, node_status, node_tell, rows, surplus, writings
from announcer.core.report import changes as node_changes
from tests.builders import Raw, agent, group, ip, metallb, node, peer, pool, raw, service, snapshot

VIP = "10.113.113.100"
METALLB = pool("m", "10.0.0.0/24")
NAMESPACE = "announcer-system"


def said(found: Snapshot, name: str, before: Any = None) -> list[tuple[str, str]]:
    """Reasons and messages of what is written to an object, when `before` stands there."""
    (one,) = [w for w in writings(found, allocate(found)) if w.ref.name == name]
    return [(note.reason, note.message) for note in one.tell(before or {})]


def reasons(found: Snapshot, name: str, before: Any = None) -> list[str]:
    return [reason for reason, _ in said(found, name, before)]


def written(found: Snapshot, name: str) -> Any:
    (one,) = [w for w in writings(found, allocate(found)) if w.ref.name == name]
    return one.status


def placed(*fates: tuple[str, str, str]) -> Raw:
    """NodeAnnouncement.status with (`who`, mode, reason) each."""
    return {"addresses": [{"services": [w], "mode": m, "reason": r, "link": "eth0"} for w, m, r in fates]}


@pytest.mark.parametrize(("home", "reason"), [(group(), "AddressAssigned"), (METALLB, "IPAllocated")])
def test_new_address_is_told_in_the_words_of_the_pool_s_project(home: Raw, reason: str) -> None:
    assert reasons(snapshot(home, service("a")), "a") == [reason]


def test_address_that_stays_is_told_to_nobody_whoever_gave_it() -> None:
    found = snapshot(group(), service("a", addresses=[VIP]))
    assert reasons(found, "a", {"loadBalancer": {"ingress": [{"ip": VIP}]}}) == []


def test_refusal_is_told_once_and_again_for_another_reason() -> None:
    found = snapshot(group(), service("a", pool="none"))
    assert reasons(found, "a") == ["AllocationFailed"]
    assert reasons(found, "a", written(found, "a")) == []
    assert reasons(found, "a", written(snapshot(service("a")), "a")) == ["AllocationFailed"]


def test_annotation_without_effect_is_a_warning_of_its_own() -> None:
    odd = service("a", annotations={"purelb.io/no-such-thing": "x"}, addresses=[VIP])
    found = snapshot(group(), odd)
    assert reasons(found, "a", odd["status"]) == ["ConfigurationWarning"]
    assert reasons(found, "a", written(found, "a")) == []


@pytest.mark.parametrize(
    ("home", "address", "reason"), [(group(), VIP, "AddressReleased"), (METALLB, "10.0.0.1", "ClearAssignment")]
)
def test_service_that_is_no_load_balancer_any_more_gives_its_address_back(home: Raw, address: str, reason: str) -> None:
    found = snapshot(home, service("a", type="ClusterIP", addresses=[address]))
    assert reasons(found, "a") == [reason]
    assert written(found, "a") == {"loadBalancer": {"ingress": []}}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (group("x", "10.0-0.1-10.0.0.9"), "ParseFailed"),
        (agent(localint=5) | {"metadata": {"name": "x", "namespace": "p"}}, "ConfigError"),
        (pool("x", "nonsense"), "InvalidValue"),
    ],
)
def test_mistake_is_told_once(wrong: Raw, reason: str) -> None:
    found = snapshot(wrong)
    assert reasons(found, "x") == [reason]
    assert reasons(found, "x", written(found, "x")) == []


def test_object_that_is_right_again_says_so_and_a_group_also_when_it_is_new() -> None:
    bad = written(snapshot(group("x", "10.0-0.1-10.0.0.9")), "x")
    good = snapshot(group("x"), pool("m", "10.0.0.0/24"))
    assert reasons(good, "x", bad) == ["Parsed"]
    assert reasons(good, "x") == ["Parsed"]
    assert reasons(good, "x", written(good, "x")) == []
    assert reasons(good, "m") == []
    assert reasons(good, "m", bad) == ["Accepted"]


# -- what a node says ------------------------------------------------------------------------------------------------


def changes(before: Raw, after: Raw, *pools: Raw) -> list[Note]:
    return list(node_tell(NodeName("n1"), after, snapshot(*(pools or (group(),))).pools)(before))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ([], [("local", "Holding")], "AnnouncingLocal"),
        ([], [("virtual", "Advertised")], "AnnouncingNonLocal"),
        ([("local", "Claiming")], [("local", "Holding")], "AnnouncingLocal"),
        ([("local", "Holding")], [("local", "Holding")], None),
        ([("local", "Holding")], [("local", "HeldByAnotherNode")], "Withdrawn"),
        ([("local", "Holding")], [], "Withdrawn"),
        ([("virtual", "Advertised")], [("virtual", "NoLocalEndpoints")], "Withdrawn"),
        ([("virtual", "Advertised")], [("virtual", "PeerNotEstablished")], None),
        ([("virtual", "RoutePending")], [], None),
        ([], [("local", "AddressHeldByForeignHost")], "AnnouncementFailed"),
    ],
)
def test_node_tells_what_begins_and_ends(
    before: list[tuple[str, str]], after: list[tuple[str, str]], reason: str | None
) -> None:
    who = f"test/web {VIP}"
    found = changes(placed(*((who, *b) for b in before)), placed(*((who, *a) for a in after)))
    assert [note.reason for note in found] == ([reason] if reason else [])
    assert all(note.ref == ObjectRef(kind="Service", namespace="test", name="web") for note in found)


def test_node_speaks_metallb_s_words_for_its_pools() -> None:
    (note,) = changes({}, placed(("test/web 10.0.0.1", "virtual", "Advertised")), METALLB)
    assert (note.reason, note.message) == ("nodeAssigned", 'announcing from node "n1" with protocol "bgp"')
    (note,) = changes({}, placed(("test/web 10.0.0.1", "local", "AddressHeldByForeignHost")), METALLB)
    assert note.reason == "announceFailed"


def test_thousands_of_changes_are_a_few_events_and_a_sum() -> None:
    after = placed(*((f"test/s{n} {VIP}", "virtual", "Advertised") for n in range(1000)))
    found = changes({}, after)
    assert len(found) == node_changes.NOTES_MOST + 1
    assert (found[-1].ref.kind, found[-1].message[:3]) == ("Node", "980")
    assert changes(after, after) == []


def test_report_of_ten_thousand_services_fits_into_etcd_and_says_what_it_leaves_out() -> None:
    def status(name: str, count: int) -> Any:
        vip, service_key = ip("2001:db8::ffff:ffff:1"), f"{'n' * 30}/{name}"
        placements = tuple(
            Placement(
                service=ServiceKey(f"{service_key}-{i}"),
                address=vip,
                mode=Mode.LOCAL,
                ifname=IfName("eth0"),
                reason=Reason.NO_CARRIER if i % 2 else None,
            )
            for i in range(count)
        )
        return node_status((), Desired(placements=placements), Ownership(), UNKNOWN)

    usual = status("a-name", 10_000)
    assert len(json.dumps(usual)) < 1_000_000
    assert usual["errors"] == []
    most = status("a" * 55, 20_000)
    assert len(json.dumps(most)) < 1_200_000
    shown = sum(len(one["services"]) for one in most["addresses"])
    assert most["errors"] == [f"this report would be too large: {20_000 - shown} addresses are left out"]


# -- MetalLB's status objects ----------------------------------------------------------------------------------------


def reported(name: str, address: str, mode: str, reason: str) -> Raw:
    one = {"services": [f"test/web {address}"], "mode": mode, "link": "eth0", "reason": reason}
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status={"addresses": [one]})


def made(*objects: Raw) -> dict[str, Any]:
    found = snapshot(service(addresses=["10.0.0.1"], pool="m"), *objects)
    return {w.ref.kind: (w.status, w.labels, w.ref) for w in mirrors(found, allocate(found), NAMESPACE)}


def test_holder_of_a_metallb_address_has_a_service_l2_status() -> None:
    status, labels, ref = made(METALLB, reported("n2", "10.0.0.1", "local", "Holding"))["ServiceL2Status"]
    assert status == {
        "node": "n2",
        "serviceName": "web",
        "serviceNamespace": "test",
        "interfaces": [{"name": "eth0"}],
    }
    assert labels == {
        MANAGED_BY: MANAGER,
        "metallb.io/node": "n2",
        "metallb.io/service-name": "web",
        "metallb.io/service-namespace": "test",
    }
    assert ref.namespace == NAMESPACE


@pytest.mark.parametrize("reason", ["Advertised", "RoutePending", "PeerNotEstablished"])
def test_service_bgp_status_names_the_peers_meant_whatever_their_sessions_do(reason: str) -> None:
    ads = [metallb("BGPAdvertisement", "ad", ipAddressPools=["m"], peers=["tor"])]
    peers = [peer(), peer("other", "10.111.111.253"), peer("six", "fd00::1")]
    status, _, _ = made(METALLB, *ads, *peers, reported("n1", "10.0.0.1", "virtual", reason))["ServiceBGPStatus"]
    assert status == {"node": "n1", "serviceName": "web", "serviceNamespace": "test", "peers": ["tor"]}


@pytest.mark.parametrize(
    "objects",
    [
        [METALLB, reported("n1", "10.0.0.1", "local", "Claiming")],
        [METALLB, reported("n1", "10.0.0.1", "virtual", "Advertised")],  # to no peer: nothing selects the pool
        [group("m", "10.0.0.0-10.0.0.9", "10.0.0.0/24"), reported("n1", "10.0.0.1", "local", "Holding")],
    ],
)
def test_nothing_is_made_where_nothing_is_announced_or_the_pool_is_not_metallb_s(objects: list[Raw]) -> None:
    assert made(*objects) == {}


def test_surplus_is_what_carries_our_mark_and_is_not_wanted() -> None:
    holding = (METALLB, reported("n1", "10.0.0.1", "local", "Holding"))
    wanted = made(*holding)["ServiceL2Status"][2]

    def mirror(name: str, **labels: str) -> Raw:
        metadata = {"labels": labels}
        return raw("metallb.io/v1beta1", "ServiceL2Status", name, namespace=NAMESPACE, metadata=metadata)

    ours = {MANAGED_BY: MANAGER}
    there = [mirror(wanted.name, **ours), mirror("l2-old", **ours), mirror("l2-theirs")]
    found = snapshot(service(addresses=["10.0.0.1"], pool="m"), *holding, *there)
    assert [r.name for r in surplus(found, mirrors(found, allocate(found), NAMESPACE))] == ["l2-old"]
    assert found.problems == ()


@pytest.mark.parametrize("lost", [pool("m", "10.0.0-0/24"), METALLB])
def test_what_marks_a_service_stays_while_it_or_its_pool_is_not_understood(lost: Raw) -> None:
    labels = {MANAGED_BY: MANAGER, "metallb.io/service-name": "web", "metallb.io/service-namespace": "test"}
    there = raw("metallb.io/v1beta1", "ServiceL2Status", "l2-x", namespace=NAMESPACE, metadata={"labels": labels})
    brands = {"metallb.io/ip-allocated-from-pool": "m", "purelb.io/announcing-IPv4": "n1,eth0,10.0.0.1"}
    is_refused = lost is METALLB
    spec: Raw = {"ports": []} if is_refused else {}
    web = service(addresses=["10.0.0.1"], annotations=brands, **spec)
    found = snapshot(lost, web, there)
    assert surplus(found, mirrors(found, allocate(found), NAMESPACE)) == []
    marks = [dict(w.annotations) for w in writings(found, allocate(found)) if w.ref.name == "web"]
    assert marks == ([] if is_refused else [brands])
    gone = snapshot(METALLB, there)
    assert [r.name for r in surplus(gone, mirrors(gone, allocate(gone), NAMESPACE))] == ["l2-x"]


def test_stale_announcing_annotation_is_not_wanted_any_more() -> None:
    found = snapshot(group(), service(addresses=[VIP]), reported("n1", VIP, "local", "Holding"))
    (one,) = [w for w in writings(found, allocate(found)) if w.ref.name == "web"]
    assert one.annotations["purelb.io/announcing-IPv4"] == f"n1,eth0,{VIP}"
    found = snapshot(group(), service(addresses=[VIP]), reported("n1", VIP, "local", "HeldByAnotherNode"))
    (one,) = [w for w in writings(found, allocate(found)) if w.ref.name == "web"]
    assert "purelb.io/announcing-IPv4" not in one.annotations


def test_errors_of_a_node_come_back_in_its_report() -> None:
    broken = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"errors": ["store: held"]})
    found = snapshot(broken, node("n1"))
    assert next(r for r in found.reports if r.node == "n1").errors == ("store: held",)
    assert rows(found, {}) == ()
