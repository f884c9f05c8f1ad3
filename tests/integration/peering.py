"""The agent of node n1 with a real ExaBGP: people's YAML on one side, a real FRR on the other, all else in memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import yaml

from announcer.core import own
from announcer.core.model import IfName, LinkAddress, NodeName, ObservedBgp, ObservedPeer, Scope
from announcer.daemons.agent import Agent
from announcer.daemons.loop import Rhythm
from announcer.daemons.owner import Owner
from announcer.exabgp import ExabgpSession
from tests.builders import Raw, endpoints, ip, kernel, node, service
from tests.fakes.kernel import FakeKernel
from tests.fakes.store import FakeStore
from tests.fakes.wire import FakeWire
from tests.integration.exabgp import Sidecar
from tests.waiting import until

SECONDS = 30.0
UNPROVEN = {"RoutePending", "PeerNotEstablished"}
LINKS = ("10.9.0.2/24 eth0", "fd00:9::2/64 eth0")


def documents(text: str) -> list[Raw]:
    return [one for one in yaml.safe_load_all(text) if one]


def web(name: str, *addresses: str, **more: Any) -> list[Raw]:
    """A Service that has its addresses, and endpoints."""
    return [service(name, addresses=addresses, **more), endpoints(name)]


class Peering:
    """`links` are the node's own addresses, each with its link."""

    def __init__(self, sidecar: Sidecar, objects: Iterable[Raw], links: Iterable[str] = LINKS) -> None:
        mine = [_address(one) for one in links]
        self.store = FakeStore(node("n1"), *objects)
        self.kernel = FakeKernel(replace(kernel(), addresses=tuple(mine)))
        self.folder = sidecar.directory
        self.sidecar = ExabgpSession(self.folder, lambda: self.agent.loop.wake())
        wire = FakeWire()
        self.agent = Agent(
            node=NodeName("n1"),
            store=self.store,
            kernel=self.kernel,
            wire=wire,
            sidecar=self.sidecar,
            owner=Owner(self.kernel, wire, time.monotonic, own.Timing(), lambda: self.agent.loop.wake()),
            clock=time.monotonic,
            rhythm=Rhythm(resync=1.0, retry_first=0.05),
        )

    def put(self, text: str) -> None:
        self.store.put(*documents(text))

    def configuration(self) -> str:
        return (self.folder / "exabgp.conf").read_text("ascii")

    def block(self, address: str) -> str:
        """What ExaBGP is told of one peer."""
        return next((b for b in self.configuration().split("\n\n") if b.startswith(f"neighbor {address} ")), "")

    def peers(self) -> dict[str, ObservedPeer]:
        observed = self.sidecar.observed()
        return {str(p.peer_address): p for p in observed.peers} if isinstance(observed, ObservedBgp) else {}

    def established(self) -> set[str]:
        return {address for address, peer in self.peers().items() if peer.is_established}

    def report(self) -> dict[str, Any]:
        return dict(self.store.statuses.get(("NodeAnnouncement", "", "n1"), {}))

    def errors(self) -> str:
        return "\n".join(self.report().get("errors", ()))

    def reasons(self) -> set[str]:
        return {one["reason"] for one in self.report().get("addresses", ())}

    async def has(self, *addresses: str) -> None:
        """These sessions and no others are established, and what is wanted of them is proven."""
        await until(lambda: self.established() == set(addresses), seconds=SECONDS, what=f"sessions {addresses}")
        await until(lambda: not self.reasons() & UNPROVEN, seconds=SECONDS, what="proof")


@asynccontextmanager
async def peering(sidecar: Sidecar, *objects: Raw, links: Iterable[str] = LINKS) -> AsyncIterator[Peering]:
    made = Peering(sidecar, objects, links)
    running = asyncio.ensure_future(made.agent.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


def _address(text: str) -> LinkAddress:
    where, _, ifname = text.partition(" ")
    address, _, length = where.partition("/")
    return LinkAddress(ifname=IfName(ifname), address=ip(address), prefixlen=int(length), scope=Scope.GLOBAL)
