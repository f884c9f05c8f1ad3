"""Annotations of ours on other people's objects."""

from typing import Any

import pytest

from announcer.core.model import BandwidthKind
from tests.builders import group, group_v2, peer, pool, raw, snapshot

BOUND = "announcer.io/max-next-hops"


def annotated(one: dict[str, Any], **notes: Any) -> dict[str, Any]:
    return one | {"metadata": one["metadata"] | {"annotations": notes}}


POOLS = [group(), group_v2("two", ranges=[("10.1.0.0/24", "10.1.0.0/28")]), pool("three", "10.1.0.0/28")]


@pytest.mark.parametrize("one", POOLS, ids=str)
def test_pool_says_how_many_next_hops_there_may_be(one: dict[str, Any]) -> None:
    (found,) = snapshot(annotated(one, **{BOUND: "16", "somebody.else/note": "x"})).pools
    assert found.max_next_hops == 16
    assert snapshot(one).pools[0].max_next_hops is None


@pytest.mark.parametrize("one", POOLS, ids=str)
@pytest.mark.parametrize("text", ["0", "-1", "1025", "two", "1.5", "²", "00002"])
def test_pool_with_an_impossible_bound_is_refused(one: dict[str, Any], text: str) -> None:
    found = snapshot(annotated(one, **{BOUND: text}))
    (problem,) = found.problems
    assert (found.pools, problem.field, problem.value) == ((), f"metadata.annotations.{BOUND}", text)


@pytest.mark.parametrize("one", POOLS, ids=str)
def test_pool_with_an_annotation_of_ours_that_nobody_knows_is_refused(one: dict[str, Any]) -> None:
    found = snapshot(annotated(one, **{"announcer.io/max-next-hop": "2"}))
    (problem,) = found.problems
    assert (found.pools, problem.remedy) == ((), f"did you mean {BOUND}?")


@pytest.mark.parametrize("one", POOLS, ids=str)
def test_pool_says_whether_its_paths_are_weighted(one: dict[str, Any]) -> None:
    assert snapshot(annotated(one, **{"announcer.io/weight-by": "endpoints"})).pools[0].is_weighted
    assert not snapshot(one).pools[0].is_weighted
    (problem,) = snapshot(annotated(one, **{"announcer.io/weight-by": "endpoint"})).problems
    assert problem.remedy == "did you mean endpoints?"


CONFIGURATION = raw(
    "bgp.purelb.io/v1",
    "BGPConfiguration",
    "default",
    spec={
        "global": {"asn": 64512},
        "neighbors": [{"config": {"neighborAddress": "10.0.0.1", "peerAsn": 64513}}],
        "netlinkImport": {"enabled": True, "interfaceList": ["kube-lb0"]},
    },
)


@pytest.mark.parametrize("one", [peer(), CONFIGURATION], ids=str)
def test_peer_says_by_which_community_it_is_told_weights(one: dict[str, Any]) -> None:
    assert snapshot(one).peers[0].link_bandwidth is BandwidthKind.TRANSITIVE
    for kind in BandwidthKind:
        (found,) = snapshot(annotated(one, **{"announcer.io/link-bandwidth": kind.value})).peers
        assert found.link_bandwidth is kind
    wrong = snapshot(annotated(one, **{"announcer.io/link-bandwidth": "yes"}))
    assert (wrong.peers, len(wrong.problems)) == ((), 1)
