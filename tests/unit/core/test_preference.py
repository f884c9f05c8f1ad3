"""preferredNodeSelectors of an L2Advertisement: who comes first, the same for every node, and what is refused."""

from typing import Any

import pytest

from announcer.core.desired import Desired, desired
from announcer.core.dialects import parse
from announcer.core.model import NodeName
from tests.builders import NODES, Raw, endpoints, group, kernel, metallb, node, pool, service, snapshot

VIP, VIP_V6 = "10.111.111.50", "fd00:111::50"
POOL = pool("p", f"{VIP}-10.111.111.60")


def prefer(weight: int, **labels: str) -> Raw:
    return {"weight": weight, "preference": {"matchLabels": labels}}


def name(one: str) -> Raw:
    return {"kubernetes.io/hostname": one}


def l2(called: str, *terms: Raw, **spec: Any) -> Raw:
    return metallb("L2Advertisement", called, preferredNodeSelectors=list(terms), **spec)


def order(*objects: Raw, address: str = VIP, addresses: tuple[str, ...] = (VIP,)) -> tuple[str, ...]:
    """The candidates of an address, which every node has to compute alike."""
    labeled = (node("n1"), node("n2", zone="a", gpu="yes"), node("n3", zone="a"))
    found = set()
    for on in NODES:
        cluster = snapshot(POOL, *labeled, service(addresses=addresses), endpoints(), *objects)
        wanted = desired(cluster, NodeName(on), kernel(on))
        assert isinstance(wanted, Desired)
        found |= {c.candidates for c in wanted.candidacies if str(c.address) == address and c.ifname == "eth0"}
    (agreed,) = found
    return agreed


ONE, THREE = {"matchLabels": name("n1")}, {"matchLabels": name("n3")}
ALL = {"weight": 9, "preference": {}}
ADDED_UP = [l2("l", prefer(60, **name("n3"))), l2("m", prefer(40, **name("n1"))), l2("n", prefer(40, **name("n1")))]


@pytest.mark.parametrize(
    ("ads", "expected"),
    [
        ([l2("l")], "n3 n2 n1"),  # by hash alone
        ([l2("l", prefer(1, **name("n1")))], "n1 n3 n2"),
        ([l2("l", prefer(100, gpu="yes"), prefer(1, **name("n1")))], "n2 n1 n3"),
        ([l2("l", prefer(100, zone="a"))], "n3 n2 n1"),  # the hash decides between equals
        ([l2("l", prefer(60, zone="a"), prefer(50, gpu="yes"))], "n2 n3 n1"),  # weights of one object add up
        (ADDED_UP, "n1 n3 n2"),  # and of several
        ([l2("l", ALL)], "n3 n2 n1"),  # an empty one matches every node
        ([l2("l"), l2("m", ALL, nodeSelectors=[ONE])], "n1 n3 n2"),  # of those that the object itself selects
        ([l2("l"), l2("m", prefer(9, **name("n1")), ipAddressPools=["other"])], "n3 n2 n1"),
        ([l2("l", prefer(9, gpu="yes"), nodeSelectors=[ONE, THREE])], "n3 n1"),  # who may not isn't preferred either
    ],
)
def test_preferred_nodes_come_first(ads: list[Raw], expected: str) -> None:
    assert order(*ads) == tuple(expected.split())


def test_addresses_that_sit_together_have_one_order() -> None:
    """The second address is of another pool, which nobody prefers a node for."""
    other = pool("q", f"{VIP_V6}-fd00:111::60")
    ads = (l2("l", prefer(5, **name("n1")), ipAddressPools=["p"]), l2("m", ipAddressPools=["q"]))
    for address in (VIP, VIP_V6):
        assert order(other, *ads, address=address, addresses=(VIP, VIP_V6)) == ("n1", "n3", "n2")


def test_preference_of_an_advertisement_that_doesn_t_announce_the_pool_counts_nothing() -> None:
    """An advertisement for all pools leaves a ServiceGroup alone, and so do its preferences; one that names it not."""
    local = "10.111.111.100"
    home = group("g", f"{local}-10.111.111.109", "10.111.111.0/24")
    plain = order(home, address=local, addresses=(local,))
    last = plain[-1]
    assert order(home, l2("l", prefer(9, **name(last))), address=local, addresses=(local,)) == plain
    named = l2("l", prefer(9, **name(last)), ipAddressPools=["g"])
    assert order(home, named, address=local, addresses=(local,))[0] == last


@pytest.mark.parametrize(
    ("term", "field", "message"),
    [
        ({"weight": 0, "preference": {}}, "weight", "from 1 to 100"),
        ({"weight": 101, "preference": {}}, "weight", "from 1 to 100"),
        ({"weight": "9", "preference": {}}, "weight", "from 1 to 100"),
        ({"preference": {}}, "weight", "is required and missing"),
        ({"weight": 1}, "preference", "is required and missing"),
        ({"weight": 1, "preference": {"matchLabel": {}}}, "preference.matchLabel", "did you mean matchLabels?"),
        ({"weight": 1, "preference": {}, "wait": 1}, "wait", "is not a field"),
        ({"weight": 1, "preference": []}, "preference", "must be a mapping"),
    ],
)
def test_preference_that_is_wrong_refuses_the_object_and_names_the_field(term: Raw, field: str, message: str) -> None:
    found = parse(l2("l", prefer(1, a="b"), term))
    assert found.value is None
    (problem,) = found.problems
    assert problem.field == f"spec.preferredNodeSelectors[1].{field}"
    assert message in str(problem)
