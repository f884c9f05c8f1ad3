"""elect: one order if anyone is eligible; all nodes agree on it; losing one changes nothing among the others."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from announcer.core.elect import elect
from announcer.core.model import IPAddress, NodeName

NAMES = st.lists(st.text("abcdefgh-", min_size=1, max_size=8).map(NodeName), unique=True, max_size=6)
ADDRESSES = st.ip_addresses()
SCORES = st.lists(st.integers(0, 200), min_size=6, max_size=6)


@given(NAMES, ADDRESSES, SCORES, st.randoms(use_true_random=False))
def test_all_nodes_agree(nodes: list[NodeName], address: IPAddress, scores: list[int], random: Random) -> None:
    shuffled, preferred = random.sample(nodes, len(nodes)), dict(zip(nodes, scores, strict=False))
    order = elect(nodes, address, scores=preferred)
    assert elect(shuffled, address, scores=preferred) == order
    assert set(order) == set(nodes)
    assert all(preferred[a] >= preferred[b] for a, b in pairwise(order))


@given(NAMES, ADDRESSES, SCORES)
def test_losing_a_candidate_keeps_the_order_of_the_others(
    nodes: list[NodeName], address: IPAddress, scores: list[int]
) -> None:
    preferred = dict(zip(nodes, scores, strict=False))
    order = elect(nodes, address, scores=preferred)
    for lost in nodes:
        left = elect([n for n in nodes if n != lost], address, scores=preferred)
        assert left == tuple(n for n in order if n != lost)
