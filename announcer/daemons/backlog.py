"""What is still to be done about addresses on links: nothing is lost, and no more is kept than there are addresses.

A later word about an address replaces an earlier one, so that an edge that stood still is met by what is wanted now and
not by all that was wanted meanwhile. Actions come out in the order in which they went in; those of a kind that follow
each other come as one.

| goes in | then |
|---|---|
| PutAddresses | is what is to be done in the kernel, in the place of another PutAddresses if there is one |
| RemoveAddresses | is what is to be done in the kernel, and nothing more is said of the address |
| SendAnnouncement, SendRequest | are said once, however often that was decided |
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from announcer.core.model import IfName, IPAddress, PutAddresses, RemoveAddresses, SendAnnouncement, SendRequest

Change = PutAddresses | RemoveAddresses | SendAnnouncement | SendRequest
Slot = tuple[str, IfName, IPAddress]
KERNEL, ANNOUNCEMENT, REQUEST = "kernel", "announcement", "request"


class Backlog:
    def __init__(self) -> None:
        self._slots: OrderedDict[Slot, tuple[Change, float]] = OrderedDict()

    def __len__(self) -> int:
        """Three for an address at most."""
        return len(self._slots)

    def add(self, action: Change, now: float) -> None:
        if isinstance(action, RemoveAddresses):
            self.unsay(action.ifname, action.addresses)
        for address in action.addresses:
            slot = (_part(action), action.ifname, address)
            if slot in self._slots and type(self._slots[slot][0]) is not type(action):
                del self._slots[slot]
            self._slots[slot] = (replace(action, addresses=(address,)), now)

    def unsay(self, ifname: IfName, addresses: Iterable[IPAddress]) -> None:
        """Neither announce them nor ask from them: they are not on the link."""
        for address in addresses:
            self._slots.pop((ANNOUNCEMENT, ifname, address), None)
            self._slots.pop((REQUEST, ifname, address), None)

    def take(self) -> tuple[Change, float]:
        """The next action, and when the oldest part of it was decided. Raises KeyError where there is none."""
        (_, _, address), (action, decided) = self._slots.popitem(last=False)
        addresses = [address]
        while self._slots:
            slot, (other, when) = next(iter(self._slots.items()))
            if replace(other, addresses=action.addresses) != action:
                break
            del self._slots[slot]
            addresses.append(slot[2])
            decided = min(decided, when)
        return replace(action, addresses=tuple(addresses)), decided


def _part(action: Change) -> str:
    if isinstance(action, SendAnnouncement):
        return ANNOUNCEMENT
    return REQUEST if isinstance(action, SendRequest) else KERNEL
