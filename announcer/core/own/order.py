"""Who comes after whom: the order behind a holder, and who keeps when two hold."""

from hashlib import sha256

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


def is_watcher(position: int, order: tuple[NodeName, ...], timing: Timing) -> bool:
    """Only the first and second behind a holder watch it (§5)."""
    return position < (timing.watchers if len(order) > timing.watchers_at else 2)
