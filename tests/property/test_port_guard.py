"""The port guard: nothing that is desired is ever blocked, whatever is known and whatever was there."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from announcer.core.desired import Desired, desired
from announcer.core.model import UNKNOWN, Guard, LinkAddress, NodeName, Port, Snapshot, Unknown
from tests.builders import Raw, held, ip, kernel, snapshot
from tests.property.strategies import ADDRESSES, clusters

PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.sampled_from([53, 80, 443])},
        optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP", "OTHER"])},
    ),
    min_size=1,
)
EXTERNAL = st.lists(ADDRESSES, max_size=1)
BROKEN: st.SearchStrategy[Raw] = st.sampled_from([{}, {"loadBalancerClass": 7}])
HERE = st.lists(ADDRESSES, unique=True).map(lambda found: [held(one) for one in found])


@st.composite
def guarding(draw: st.DrawFn) -> list[Raw]:
    """Clusters whose Services have ports of their own, externalIPs, and now and then a field that nobody knows."""
    out = []
    for one in draw(clusters()):
        if one["kind"] != "Service":
            out.append(one)
            continue
        more: Raw = {"ports": draw(PORTS), "externalIPs": draw(EXTERNAL)}
        out.append(one | {"spec": one["spec"] | more | draw(BROKEN)})
    return out


def guards() -> st.SearchStrategy[Guard | Unknown | None]:
    opened = st.lists(st.tuples(ADDRESSES, st.sampled_from(["TCP", "UDP"]), st.sampled_from([80, 8080])), min_size=1)
    made = opened.map(
        lambda ports: Guard(
            addresses=frozenset(ip(address) for address, _, _ in ports),
            ports=frozenset((ip(address), protocol, port) for address, protocol, port in ports),
        )
    )
    return st.one_of(st.none(), st.just(UNKNOWN), made)


def blocks(guard: Guard | None, port: Port) -> bool:
    return guard is not None and port[0] in guard.addresses and port not in guard.ports


def decided(found: Snapshot, addresses: list[LinkAddress], before: Guard | Unknown | None) -> Guard | None:
    wanted = desired(found, NodeName("n1"), replace(kernel(addresses=addresses), guard=before))
    assert isinstance(wanted, Desired)
    return wanted.guard


@given(guarding(), HERE, guards())
def test_no_port_of_a_service_is_blocked(
    objects: list[Raw], addresses: list[LinkAddress], before: Guard | Unknown | None
) -> None:
    found = snapshot(*objects)
    guard = decided(found, addresses, before)
    for service in found.services:
        for address in (*service.status_addresses, *service.external_addresses):
            assert not any(blocks(guard, (address, *port)) for port in service.ports)
    if guard is not None:
        assert not found.in_use & guard.addresses
        assert {address for address, _, _ in guard.ports} <= guard.addresses


@settings(max_examples=3 * settings().max_examples)
@given(guarding(), HERE, guards())
def test_what_was_open_closes_only_where_all_services_are_known(
    objects: list[Raw], addresses: list[LinkAddress], before: Guard | Unknown | None
) -> None:
    found = snapshot(*objects)
    guard = decided(found, addresses, before)
    named = {a for s in found.services for a in (*s.status_addresses, *s.external_addresses)}
    is_sure = not any(ref.kind == "Service" for ref in found.refused)
    for port in before.ports if isinstance(before, Guard) else ():
        assert not blocks(guard, port) or (port[0] in named and is_sure)
    if guard is not None and not isinstance(before, Guard):
        assert guard.addresses <= named


@given(guarding(), HERE)
def test_same_guard_again_changes_nothing(objects: list[Raw], addresses: list[LinkAddress]) -> None:
    found = snapshot(*objects)
    guard = decided(found, addresses, None)
    assert decided(found, addresses, guard) == guard
