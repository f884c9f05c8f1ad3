"""Who may hold a local address, in order.

The order is that of PureLB and MetalLB, the smallest SHA-256 of `node#address` first, so that whoever comes from them
keeps its owners. Every node computes the same order from the same candidates, whatever order they come in.
"""

from collections.abc import Iterable
from hashlib import sha256

from announcer.core.model import IPAddress, NodeName


def elect(candidates: Iterable[NodeName], address: IPAddress) -> tuple[NodeName, ...]:
    """Candidates, first to last. The address is written as RFC 5952 has it; equal digests can't be."""
    return tuple(sorted(set(candidates), key=lambda node: sha256(f"{node}#{address}".encode()).digest()))
