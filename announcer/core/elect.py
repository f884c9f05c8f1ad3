"""Who may hold a local address, in order.

Nodes that are preferred come first; then the order is that of PureLB and MetalLB, the smallest SHA-256 of
`node#address` first, so that whoever comes from them keeps its owners. Every node computes the same order from the same
candidates, whatever order they come in. Addresses that have to sit together (of one Service, or shared by several) are
ordered by one of them.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256

from announcer.core.model import IPAddress, NodeName, Service


def elect(
    candidates: Iterable[NodeName], address: IPAddress, *, scores: Mapping[NodeName, int] | None = None
) -> tuple[NodeName, ...]:
    """Candidates, first to last: by score, the highest first and 0 where there is none, then by hash.

    The address is written as RFC 5952 has it; equal digests can't be.
    """

    preferred = scores or {}

    def order(node: NodeName) -> tuple[int, bytes]:
        return -preferred.get(node, 0), sha256(f"{node}#{address}".encode()).digest()

    return tuple(sorted(set(candidates), key=order))


def together(services: Iterable[Service]) -> dict[IPAddress, IPAddress]:
    """For each address the one whose hash decides: the first of its Service, as MetalLB and PureLB have it.

    Where Services share addresses, the smallest first address of all that hang together.
    """
    leads: dict[IPAddress, IPAddress] = {}
    groups: dict[IPAddress, list[IPAddress]] = {}
    for service in services:
        if not service.status_addresses:
            continue
        lead = service.status_addresses[0]
        leads.setdefault(lead, lead)
        groups.setdefault(leads[lead], [lead])
        for address in service.status_addresses:
            mine, other = leads[lead], leads.get(address)
            if other is None:
                leads[address] = mine
                groups[mine].append(address)
            elif other != mine:
                kept, gone = sorted((mine, other), key=lambda a: (a.version, int(a)))
                for moved in groups.pop(gone):
                    leads[moved] = kept
                    groups[kept].append(moved)
    return leads
