"""The fake sidecar keeps the promises that daemons build on."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from announcer.core.model import (
    UNKNOWN,
    AdvertiseRoutes,
    DesiredPeer,
    ObservedBgp,
    ObservedPeer,
    Route,
    SetPeers,
    WithdrawRoutes,
)
from announcer.exabgp import ExabgpError
from tests.builders import ip, net
from tests.fakes.exabgp import FakeSidecar

PEER = ip("10.9.0.1")
ROUTE = Route(prefix=net("10.1.0.1/32"))
ADVERTISE = AdvertiseRoutes(peer_address=PEER, routes=(ROUTE,))
TOR = DesiredPeer(
    name="tor",
    my_asn=64512,
    peer_asn=64513,
    peer_address=PEER,
    local_address=ip("10.9.0.2"),
    router_id=IPv4Address("10.9.0.2"),
)


def seen(sidecar: FakeSidecar) -> ObservedPeer:
    observed = sidecar.observed()
    assert isinstance(observed, ObservedBgp)
    return observed.peers[0]


def with_tor() -> FakeSidecar:
    sidecar = FakeSidecar(clock=lambda: 7.0)
    asyncio.run(sidecar.apply(SetPeers(peers=(TOR,))))
    return sidecar


def test_routes_are_on_the_wire_until_withdrawn() -> None:
    sidecar = with_tor()
    asyncio.run(sidecar.apply(ADVERTISE))
    assert (sidecar.wire(PEER), seen(sidecar).routes[ROUTE.prefix].since) == ({ROUTE.prefix: ROUTE}, 7.0)
    asyncio.run(sidecar.apply(WithdrawRoutes(peer_address=PEER, routes=(ROUTE,))))
    assert sidecar.wire(PEER) == {}


def test_slow_changes_are_pending_until_proven() -> None:
    sidecar = with_tor()
    sidecar.is_slow = True
    asyncio.run(sidecar.apply(ADVERTISE))
    assert (seen(sidecar).pending, sidecar.wire(PEER)) == (frozenset({ROUTE.prefix}), {})
    sidecar.prove()
    assert (seen(sidecar).pending, sidecar.wire(PEER)) == (frozenset(), {ROUTE.prefix: ROUTE})


def test_session_that_comes_back_brings_its_routes() -> None:
    sidecar = with_tor()
    asyncio.run(sidecar.apply(ADVERTISE))
    sidecar.set_established(PEER, is_established=False)
    assert sidecar.wire(PEER) == {}
    with pytest.raises(ExabgpError):
        asyncio.run(sidecar.apply(ADVERTISE))
    sidecar.set_established(PEER)
    assert sidecar.wire(PEER) == {ROUTE.prefix: ROUTE}


def test_silent_sidecar_is_unknown() -> None:
    sidecar = with_tor()
    sidecar.set_silent()
    assert sidecar.observed() is UNKNOWN


def test_set_peers_keeps_those_that_stay() -> None:
    sidecar = with_tor()
    asyncio.run(sidecar.apply(ADVERTISE))
    other = replace(TOR, peer_address=ip("10.9.0.3"))
    asyncio.run(sidecar.apply(SetPeers(peers=(other, TOR))))
    assert sidecar.wire(PEER) == {ROUTE.prefix: ROUTE}
