"""Weights as a real FRR sees them: from the objects of two nodes to the next hops in the router's kernel."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from announcer.core.desired import Desired, desired
from announcer.core.model import AdvertiseRoutes, DesiredPeer, NodeName, Route, SetPeers
from announcer.exabgp import ExabgpSession
from tests.builders import Raw, endpoints, ip, kernel, metallb, peer, pool, service, snapshot
from tests.integration.exabgp import V4, Router, Sidecar, router_and_sidecar
from tests.integration.test_exabgp_router import established, is_proven
from tests.waiting import until

pytestmark = pytest.mark.netns
SECONDS = 30.0
VIP = "10.114.0.1"
NODES = (V4, replace(V4, peer_address=ip("10.9.0.5"), local_address=ip("10.9.0.3")))
"""Two sessions of one ExaBGP, with a next hop each: two nodes, to the router."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[Router, Sidecar]]:
    with router_and_sidecar(tmp_path) as (router, sidecar):
        sidecar.add_address("10.9.0.3/24")
        router.add_address("10.9.0.5/24")
        router.configure("router bgp 64513", "neighbor 10.9.0.3 remote-as 64512", "neighbor 10.9.0.3 timers connect 1")
        sidecar.start()
        yield router, sidecar


def route_of(name: str, **kind: str) -> Route:
    """What a node decides to advertise of a Service with one endpoint on n1 and five on n2."""
    notes = {"annotations": {f"announcer.io/{key.replace('_', '-')}": value for key, value in kind.items()}}
    objects: list[Raw] = [
        _annotated(pool("metal", "10.114.0.0/24"), {"annotations": {"announcer.io/weight-by": "endpoints"}}),
        _annotated(peer(), notes),
        metallb("BGPAdvertisement", "all"),
        service(addresses=[VIP], externalTrafficPolicy="Local"),
        endpoints(nodes=["n1"] + 5 * ["n2"]),
    ]
    found = desired(snapshot(*objects), NodeName(name), kernel(name))
    assert isinstance(found, Desired)
    (route,) = found.bgp[ip("10.111.111.254")].values()
    return route


def _annotated(one: Raw, metadata: Raw) -> Raw:
    return one | {"metadata": one["metadata"] | metadata}


async def advertise(session: ExabgpSession, node: DesiredPeer, route: Route) -> None:
    await session.apply(AdvertiseRoutes(peer_address=node.peer_address, routes=(route,)))
    await until(lambda: is_proven(session, node.peer_address, route), seconds=SECONDS, what="proof")


@pytest.mark.parametrize("kind", ["transitive", "non-transitive"])
def test_router_spreads_by_the_endpoints_of_each_node(lab: tuple[Router, Sidecar], kind: str) -> None:
    router, sidecar = lab

    async def test() -> None:
        session = ExabgpSession(sidecar.directory, lambda: None)
        task = asyncio.create_task(session.run())
        try:
            await session.apply(SetPeers(peers=NODES))
            await until(lambda: established(session) == 2, seconds=SECONDS, what="sessions")
            for node, name in zip(NODES, ("n1", "n2"), strict=True):
                await advertise(session, node, route_of(name, link_bandwidth=kind))
            await until(lambda: len(weights(router)) == 2, seconds=SECONDS, what="two next hops")
            assert told(router) == {
                "10.9.0.2": "LB:64512:250000 (2.000 Mbps)",
                "10.9.0.3": "LB:64512:1000000 (8.000 Mbps)",
            }
            few, many = weights(router)["10.9.0.2"], weights(router)["10.9.0.3"]
            assert many == pytest.approx(4 * few, rel=0.1)
            for node, name in zip(NODES, ("n1", "n2"), strict=True):
                await advertise(session, node, route_of(name, link_bandwidth="none"))
            await until(lambda: len(set(weights(router).values())) == 1, seconds=SECONDS, what="equal weights")
            assert set(told(router).values()) == {""}
        finally:
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(test())


def told(router: Router) -> dict[str, str]:
    """What FRR shows of each path's link bandwidth, by who advertises it."""
    paths = router.paths(f"{VIP}/32").items()
    return {peer: str(path.get("extendedCommunity", {}).get("string", "")) for peer, path in paths}


def weights(router: Router) -> dict[str, int]:
    """Of each next hop in the router's kernel."""
    shown = json.loads(router.ip("-j", "route", "show", f"{VIP}/32") or "[]")
    return {hop["gateway"]: hop["weight"] for one in shown for hop in one.get("nexthops", ())}
