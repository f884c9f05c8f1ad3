"""elect: one order if anyone is eligible; all nodes agree on it; losing one changes nothing among the others."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from announcer.core.elect import elect
from announcer.core.model import IPAddress, NodeName

NAMES = st.lists(st.text("abcdefgh-", min_size=1, max_size=8).map(NodeName), unique=True, max_size=6)
ADDRESSES = st.ip_addresses()


@given(NAMES, ADDRESSES, st.randoms(use_true_random=False))
def test_all_nodes_agree(nodes: list[NodeName], address: IPAddress, random: Random) -> None:
    shuffled = random.sample(nodes, len(nodes))
    assert elect(nodes, address) == elect(shuffled, address)
    assert set(elect(nodes, address)) == set(nodes)


@given(NAMES, ADDRESSES)
def test_losing_a_candidate_keeps_the_order_of_the_others(nodes: list[NodeName], address: IPAddress) -> None:
    order = elect(nodes, address)
    for lost in nodes:
        assert elect([n for n in nodes if n != lost], address) == tuple(n for n in order if n != lost)
