"""A kernel in memory: the same interface as `announcer.kernel.Kernel`, good enough to run the agent on.

tests/contract/test_kernel.py holds it to what the real one does.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from announcer.core.model import (
    PROTOCOL,
    AddVirtualLink,
    IfName,
    KernelAction,
    KernelRoute,
    Link,
    LinkAddress,
    ObservedKernel,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveAddresses,
    RemoveGuard,
    RemoveRoute,
    RemoveVirtualLink,
    Scope,
    SetDevconf,
)
from announcer.kernel import KernelError


class FakeKernel:
    """`fail` names Action types that are refused for now; `applied` is what was asked, in order."""

    def __init__(self, seen: ObservedKernel) -> None:
        self.seen = seen
        self.applied: list[KernelAction] = []
        self.fail: set[type] = set()
        self.is_readable, self.reads = True, 0
        self._wakes: list[Callable[[], None]] = []

    async def read(self) -> ObservedKernel:
        self.reads += 1
        if not self.is_readable:
            raise KernelError("the dump was interrupted by a change")
        return self.seen

    async def apply(self, action: KernelAction) -> None:
        self.applied.append(action)
        if type(action) in self.fail:
            raise KernelError("refused")
        before = self.seen
        self._change(action)
        if self.seen != before:
            self.tell()

    def _change(self, action: KernelAction) -> None:
        match action:
            case AddVirtualLink():
                self._add_link(action.ifname)
            case RemoveVirtualLink():
                self._remove_link(action.ifname)
            case SetDevconf():
                self._set_devconf(action)
            case PutAddresses():
                self._put(action)
            case RemoveAddresses():
                self._remove(action)
            case PutRoute():
                self._put_route(action.route)
            case RemoveRoute():
                self.seen = replace(self.seen, routes=tuple(r for r in self.seen.routes if r != action.route))
            case PutGuard() | RemoveGuard():
                self.seen = replace(self.seen, guard=action.guard if isinstance(action, PutGuard) else None)

    async def watch(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)
        await asyncio.Event().wait()

    def tell(self) -> None:
        for wake in self._wakes:
            wake()

    def change(self, seen: ObservedKernel) -> None:
        """Somebody else changes something."""
        self.seen = seen
        self.tell()

    def _link(self, ifname: IfName) -> Link:
        found = next((link for link in self.seen.links if link.ifname == ifname), None)
        if found is None:
            raise KernelError(f"there is no link {ifname}")
        return found

    def _add_link(self, ifname: IfName) -> None:
        if ifname not in {link.ifname for link in self.seen.links}:
            index = max(link.ifindex for link in self.seen.links) + 1
            made = Link(ifname=ifname, ifindex=index, lladdr="02:00:00:00:ff:ff", kind="dummy", is_ours=True)
            self.seen = replace(self.seen, links=(*self.seen.links, made))
        up = replace(self._link(ifname), is_up=True, has_carrier=True)
        self.seen = replace(self.seen, links=tuple(up if ln.ifname == ifname else ln for ln in self.seen.links))

    def _remove_link(self, ifname: IfName) -> None:
        if any(link.ifname == ifname and not link.is_ours for link in self.seen.links):
            raise KernelError("is not ours and stays")
        left = tuple(a for a in self.seen.addresses if a.ifname != ifname)
        links = tuple(link for link in self.seen.links if link.ifname != ifname)
        self.seen = replace(self.seen, links=links, addresses=left)

    def _set_devconf(self, action: SetDevconf) -> None:
        link = self._link(action.ifname)
        if link.devconf is None:
            raise KernelError(f"{action.ifname} has no IPv4")
        values = {n: v for n in ("arp_ignore", "arp_announce", "rp_filter") if (v := getattr(action, n)) is not None}
        new = replace(link, devconf=replace(link.devconf, **values))
        self.seen = replace(self.seen, links=tuple(new if ln.ifname == link.ifname else ln for ln in self.seen.links))

    def _put(self, action: PutAddresses) -> None:
        self._link(action.ifname)
        kept = tuple(a for a in self.seen.addresses if a.ifname != action.ifname or a.address not in action.addresses)
        new = tuple(
            LinkAddress(
                ifname=action.ifname,
                address=address,
                prefixlen=address.max_prefixlen,
                scope=Scope.LINK if address.version == 4 else Scope.GLOBAL,
                protocol=PROTOCOL,
                valid_seconds=action.valid_seconds,
            )
            for address in action.addresses
        )
        self.seen = replace(self.seen, addresses=kept + new)

    def _remove(self, action: RemoveAddresses) -> None:
        self._link(action.ifname)
        here = [a for a in self.seen.addresses if a.ifname == action.ifname and a.address in action.addresses]
        gone = {a for a in here if a.is_ours}
        self.seen = replace(self.seen, addresses=tuple(a for a in self.seen.addresses if a not in gone))
        if len(gone) < len(here):
            raise KernelError("is not ours and stays")

    def _put_route(self, route: KernelRoute) -> None:
        if route.ifname:
            self._link(route.ifname)
        same = [r for r in self.seen.routes if r.destination == route.destination and r.metric == route.metric]
        if any(not r.is_ours for r in same):
            raise KernelError("somebody else's route is in the way, and stays")
        self.seen = replace(self.seen, routes=(*(r for r in self.seen.routes if r not in same), route))
