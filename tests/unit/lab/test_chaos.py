"""What counts at a proven moment of the chaos, and what differs then."""

import pytest

from tests.e2e.chaos.judge import Claim, differences, is_at_rest, proven
from tests.e2e.chaos.world import Peer, World

END = ("10.111.111.254", "10.111.111.2")
AT_REST = {"established": 1.0, "proven": 2.0, "pending": 0.0, "refused": 0.0}


def row(prefix: str, *services: str, peers: tuple[str, ...] = (END[0],), reason: str = "Advertised") -> object:
    return {"mode": "virtual", "prefix": prefix, "peers": list(peers), "services": list(services), "reason": reason}


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (["10.1.0.1/32", "10.1.0.2/32"], None),
        (["10.1.0.1/32"], "lacks of 10.111.111.2 ['10.1.0.2/32'], and has beside them []"),
        (["10.1.0.1/32", "10.1.0.2/32 draining"], "['10.1.0.2/32'], and has beside them ['10.1.0.2/32 draining']"),
        (["10.1.0.1/32", "10.1.0.2/32", "10.1.0.3/32"], "[], and has beside them ['10.1.0.3/32']"),
    ],
)
def test_router_has_exactly_what_is_claimed(there: list[str], text: str | None) -> None:
    claimed = Claim(
        prefixes=frozenset({"10.1.0.1/32", "10.1.0.2/32"}), connection=("a:1", "b:179"), told_at=1, said=(("x",),)
    )
    found = differences({END: claimed}, {END: frozenset(there)})
    assert (text is None) == (found == {})
    assert text is None or text in found[END]


@pytest.mark.parametrize(
    ("change", "is_so"),
    [
        ({}, True),
        ({"pending": 1.0}, False),
        ({"refused": 1.0}, False),
        ({"established": 0.0}, False),
        ({"proven": 3.0}, False),
    ],
)
def test_session_is_at_rest_once_all_is_proven_as_the_report_says(change: dict[str, float], *, is_so: bool) -> None:
    assert is_at_rest(AT_REST | change, 2) is is_so


def test_session_that_is_not_told_of_is_not_at_rest() -> None:
    assert not is_at_rest({}, 0)


def test_what_is_proven_to_a_peer_is_in_the_rows_that_name_it() -> None:
    rows = [
        row("10.2.0.0/24", "test/a 10.2.0.1", "test/b 10.2.0.2"),
        row("host", "test/c 10.3.0.1", "test/d fd00::1", reason="RoutePending"),
        row("host", "test/e 10.3.0.2", peers=("10.9.9.9",)),
    ]
    assert set(proven({"addresses": rows}, END[0])) == {"10.2.0.0/24", "10.3.0.1/32", "fd00::1/128"}


def test_world_expects_what_services_nodes_and_peers_say() -> None:
    world = World(services={"chaos-1": (frozenset({"ann-n1"}), True), "chaos-v6-2": (frozenset({"ann-n2"}), False)})
    world.excluded = frozenset({"ann-n3"})
    world.peers = {"tor": Peer(name="tor", address=END[0]), "six": Peer(name="six", address="fd00::fe")}
    world.change("six", is_there=False)
    assert world.expected() == {
        ("10.111.111.254", "10.111.111.2"): {"10.113.113.0/24", "10.120.0.1/32"},
        ("10.111.111.254", "10.111.111.3"): {"10.113.113.0/24"},
        ("10.111.111.254", "10.111.111.4"): set(),
        **{("fd00::fe", f"fd00:111::{i}"): set() for i in (2, 3, 4)},
    }
    world.change("six", is_there=True)
    assert world.expected()["fd00::fe", "fd00:111::2"] == {"fd00:113::/64", "fd00:120::2/128"}
