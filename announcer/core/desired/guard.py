"""The port guard of one node: which ports may be reached on the addresses of ours that it has or is about to have.

Not knowing never closes a port: an address whose Services aren't all known is left out, and so is one that is somebody
else's on this node. An address that no Service names any more keeps its ports for as long as it stays, as it drains.
"""

from collections.abc import Set

from announcer.core.model import Guard, IPAddress, ObservedKernel, Snapshot

PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})


def guard(snapshot: Snapshot, kernel: ObservedKernel, placed: Set[IPAddress]) -> Guard | None:
    """None where there is nothing to guard. Any Service with an address of `placed`, or of ours, opens its ports."""
    before = kernel.guard if isinstance(kernel.guard, Guard) else Guard()
    is_sure = all(ref.kind not in {"Service", "document"} for ref in snapshot.refused)
    ours = placed | {a.address for a in kernel.addresses if a.is_ours}
    ours -= snapshot.in_use | {a.address for a in kernel.addresses if not a.is_ours}
    opened: dict[IPAddress, set[tuple[str, int]]] = {}
    for service in snapshot.services:
        for address in {*service.status_addresses, *service.external_addresses} & ours:
            opened.setdefault(address, set()).update(service.ports)
    kept = {a for a in before.addresses & ours if not is_sure or a not in opened}
    for address in kept:
        opened.setdefault(address, set())
    for address, protocol, port in before.ports if kept else ():
        if address in kept:
            opened[address].add((protocol, port))
    guarded = {a: ports for a, ports in opened.items() if all(p in PROTOCOLS and n for p, n in ports)}
    if not guarded:
        return None
    return Guard(
        addresses=frozenset(guarded),
        ports=frozenset((address, *port) for address, ports in guarded.items() for port in ports),
    )
