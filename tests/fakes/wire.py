"""A wire in memory: records what is sent; what is heard, the test says."""

from collections.abc import Iterable, Mapping

from announcer.core.model import IfName, IPAddress, Link, WireAction, WireEvent
from announcer.wire import Counters, WireError


class FakeWire:
    def __init__(self) -> None:
        self.sent: list[WireAction] = []
        self.links: set[IfName] = set()
        self.addresses: frozenset[IPAddress] | None = None
        self.hears_probes = True
        self.is_full = False

    def set_links(self, links: Iterable[Link]) -> None:
        self.links = {link.ifname for link in links}

    def listen_for(self, addresses: Iterable[IPAddress] | None) -> None:
        self.addresses = None if addresses is None else frozenset(addresses)

    def hear_probes(self, *, wanted: bool) -> None:
        self.hears_probes = wanted

    def take(self) -> tuple[WireEvent, ...]:
        """What a test says is heard at once: nothing ever waits."""
        return ()

    def send_now(self, action: WireAction) -> bool:
        if self.is_full:
            return False
        self._send(action)
        return True

    def counters(self) -> Mapping[IfName, Counters]:
        return {ifname: Counters(sent=sum(a.ifname == ifname for a in self.sent)) for ifname in sorted(self.links)}

    async def apply(self, action: WireAction) -> None:
        self._send(action)

    def _send(self, action: WireAction) -> None:
        if action.ifname not in self.links:
            raise WireError(f"{action.ifname}: no such link is open")
        self.sent.append(action)
