"""Who comes after whom: the order behind a holder, and who keeps when two hold."""

from hashlib import sha256
from math import ceil

from announcer.core.model import IPAddress, NodeName
from announcer.core.own.timing import Timing


def rank(lladdr: str, address: IPAddress) -> bytes:
    """The smaller keeps (rule 9)."""
    return sha256(f"{lladdr}#{address}".encode()).digest()


def successors(order: tuple[NodeName, ...], holder: NodeName | None, address: IPAddress, timing: Timing) -> tuple[
    NodeName, ...
]:  # fmt: skip
    """Candidates in the order in which they take over from `holder`.

    With very many candidates the holder has few watchers, and nobody tells the others: so those few come first, each
    for its share of the addresses.
    """
    others = tuple(node for node in order if node != holder)
    if len(order) <= timing.watchers_at or holder is None:
        return others
    few = sorted(others, key=lambda node: sha256(f"{node}#{holder}".encode()).digest())[: timing.watchers]
    first = int(address) % len(few)
    few = few[first:] + few[:first]
    return (*few, *(node for node in others if node not in few))


def those_before(
    node: NodeName | None, order: tuple[NodeName, ...], holder: NodeName | None, address: IPAddress, timing: Timing
) -> tuple[NodeName, ...]:
    """The candidates behind `holder` that come before `node`."""
    others = successors(order, holder, address, timing)
    return others[: others.index(node)] if node is not None and node in others else others


def is_watcher(position: int, order: tuple[NodeName, ...], timing: Timing) -> bool:
    """Only the first and second behind a holder watch it (§5)."""
    return position < (timing.watchers if len(order) > timing.watchers_at else 2)


def next_look(
    address: IPAddress, position: int, held: int, now: float, timing: Timing, *, is_fresh: bool = False
) -> float:
    """When a node behind the holder of `held` addresses asks for one of them (rule 8). The first asks once a second,
    half of its addresses at a time. Of a holder of many, it asks for each more rarely: those of an agent that is gone
    fall together, and one that nobody answers for is enough to ask for all. Those behind ask only in case that the
    first's agent is gone as well. A host that is no node is asked ever more rarely, see `Work.next_look`.
    """
    watch, share = timing.watch, max(1.0, held / timing.asked_each)
    if position:
        return together(now + 10 * watch * share * position, timing)
    slots = int(2 * share)
    return together(now + watch * (1 + int(address) % slots / 2 if is_fresh else share), timing)


def together(due: float, timing: Timing) -> float:
    """Twice a second for all: a beat with something to do costs more than one without, and little more with much."""
    step = timing.watch / 2
    return ceil(due / step - 0.2) * step
