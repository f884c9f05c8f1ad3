"""Reports added up, and what makes a process unready."""

from typing import Any

import pytest

from announcer.core.report import Tally, Writing, pool_counts, pool_tally, tally, unready
from announcer.core.report.tally import WAITING_MOST
from tests.builders import group, snapshot
from tests.builders import pool as metallb_pool


def status(*groups: tuple[str, str, str]) -> dict[str, Any]:
    """Of (mode, reason, `namespace/name address`, comma-separated)."""
    return {"addresses": [{"mode": m, "reason": r, "services": who.split(",")} for m, r, who in groups]}


def test_addresses_and_services_are_counted() -> None:
    found = tally(
        status(
            ("local", "Holding", "a/both 10.0.0.1,a/one 10.0.0.2"),
            ("virtual", "Advertised", "a/both fd00::1"),
            ("local", "HeldByAnotherNode", "a/there 10.0.0.3"),
            ("", "NoEndpoints", "a/none 10.0.0.4"),
            ("local", "Claiming", "a/one fd00::2"),
        )
    )
    assert found.addresses["local", "Holding"] == 2
    assert found.addresses["none", "NoEndpoints"] == 1
    assert found.services == {"announced": 1, "pending": 1, "unannounced": 2}
    assert found.waiting == ("a/one fd00::2: Claiming",)


def ready(**given: Any) -> tuple[str, ...]:
    return unready(**{"unread": "", "doubts": (), "failed": {}, "found": Tally(), "failure": "", **given})


def test_everything_proven_or_explained_is_ready() -> None:
    assert ready() == ()
    explained = tally(status(("virtual", "PeerNotEstablished", "a/b 10.0.0.1"), ("local", "Holding", "a/c 10.0.0.2")))
    assert ready(found=explained) == ()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"unread": "no answer"}, "the store has not been read yet: no answer"),
        ({"doubts": ["held back"]}, "held back"),
        ({"failed": {"PutRoute": "EPERM"}}, "PutRoute failed: EPERM"),
        ({"failure": "interrupted"}, "the last pass failed: interrupted"),
        ({"found": None}, "no pass has come to its end yet"),
        ({"found": tally(status(("virtual", "RoutePending", "a/b 10.0.0.1")))}, "a/b 10.0.0.1: RoutePending"),
    ],
)
def test_what_is_missing_is_said(given: dict[str, Any], text: str) -> None:
    assert ready(**given) == (text,)


def test_many_unproven_addresses_are_summed_up() -> None:
    many = ",".join(f"a/{i} 10.0.0.1" for i in range(WAITING_MOST + 3))
    found = ready(found=tally(status(("local", "Claiming", many))))
    assert len(found) == WAITING_MOST + 1
    assert found[-1] == "and 3 more addresses are neither proven nor explained"


def test_pools_of_both_dialects_are_counted() -> None:
    counts = pool_counts(
        snapshot(metallb_pool("one", "10.1.0.0/28", "fd00::/124"), group("two", "10.2.0.0/30", "10.2.0.0/24")), {}
    )
    found = pool_tally(Writing(ref=ref, status=count) for ref, count in counts.items())
    assert found["one", "ipv4", "available"] == found["one", "ipv6", "available"] == 16
    assert found["two", "ipv4", "available"] == 4
    assert found["two", "ipv4", "assigned"] == 0
