"""Routes of both families over sessions of either, from a node with two links, with a real ExaBGP and a real FRR."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.builders import metallb, peer, pool
from tests.integration.exabgp import Router, Sidecar, frr, node_and_router
from tests.integration.netns import Namespace, cable
from tests.integration.peering import LINKS, SECONDS, peering, web
from tests.waiting import until

pytestmark = pytest.mark.netns
A, B = "10.9.0.1", "fd00:10::1"
ROUTER = """router bgp 64513
 bgp router-id 10.9.0.1
 no bgp ebgp-requires-policy
 neighbor n peer-group
 neighbor n remote-as 64512
 neighbor n passive
 neighbor 10.9.0.2 peer-group n
 neighbor fd00:10::2 peer-group n
 address-family ipv4 unicast
  neighbor n activate
 address-family ipv6 unicast
  neighbor n activate
"""
PEERS = (peer("a", A, dualStackAddressFamily=True), peer("b", B, dualStackAddressFamily=True))
ROUTES = (
    pool("p", "10.50.0.0/24", "fd00:50::/120"),
    metallb("BGPAdvertisement", "p"),
    *web("w", "10.50.0.1", "fd00:50::1"),
)
BOTH_LINKS = (*LINKS, "10.10.0.2/24 eth1", "fd00:10::2/64 eth1")


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Namespace, Router]]:
    with node_and_router() as (node, tor):
        cable(node, "eth1", tor, "eth1")
        for host, last in ((node, "2"), (tor, "1")):
            host.ip("address", "add", f"10.10.0.{last}/24", "dev", "eth1")
            host.ip("address", "add", f"fd00:10::{last}/64", "dev", "eth1", "nodad")
        with frr(tor, ROUTER) as router:
            yield node, router


@pytest.fixture
def router(ends: tuple[Namespace, Router]) -> Router:
    return ends[1]


@pytest.fixture
def sidecar(ends: tuple[Namespace, Router], tmp_path: Path) -> Iterator[Sidecar]:
    made = Sidecar(ends[0], tmp_path)
    made.start()
    yield made
    made.kill()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(inside())


def next_hops(router: Router, prefix: str) -> dict[str, list[str]]:
    """By the address of who advertises it, those that FRR can reach."""
    return {
        peer: [hop["ip"] for hop in path["nexthops"] if hop["accessible"]]
        for peer, path in router.paths(prefix).items()
    }


def test_next_hops_of_both_families_are_on_the_link_of_their_session(router: Router, sidecar: Sidecar) -> None:
    async def test() -> None:
        async with peering(sidecar, *PEERS, *ROUTES, links=BOTH_LINKS) as it:
            await it.has(A, B)
            v4 = {"10.9.0.2": ["10.9.0.2"], "fd00:10::2": ["10.10.0.2"]}
            v6 = {"10.9.0.2": ["fd00:9::2"], "fd00:10::2": ["fd00:10::2"]}
            await until(lambda: next_hops(router, "10.50.0.1/32") == v4, seconds=SECONDS, what=f"{v4}")
            await until(lambda: next_hops(router, "fd00:50::1/128") == v6, seconds=SECONDS, what=f"{v6}")
            assert it.errors() == ""

    run(test)


def test_routes_of_a_family_that_the_node_lacks_are_told_and_the_others_go_out(
    router: Router, sidecar: Sidecar
) -> None:
    """An IPv6 next hop of an IPv4 route (RFC 8950) would end the session with a router that hasn't agreed to it."""

    async def test() -> None:
        only = peer("b", B, dualStackAddressFamily=True, routerID="10.0.0.7")
        async with peering(sidecar, only, *ROUTES, links=("fd00:10::2/64 eth1",)) as it:
            await it.has(B)
            await until(lambda: router.paths("fd00:50::1/128"), seconds=SECONDS, what="the IPv6 route")
            note = "b: no IPv4 routes: this node has no IPv4 address for their next hop"
            await until(lambda: it.errors() == note, seconds=SECONDS, what=note)
            assert router.paths("10.50.0.1/32") == {}

    run(test)


def test_family_that_the_router_has_not_agreed_to_is_told_and_the_other_goes_out(
    router: Router, sidecar: Sidecar
) -> None:
    off = ("router bgp 64513", "address-family ipv6 unicast", "no neighbor 10.9.0.2 activate")

    async def test() -> None:
        router.configure(*off)
        async with peering(sidecar, PEERS[0], *ROUTES) as it:
            await until(lambda: it.established() == {A}, seconds=SECONDS, what="the session")
            await until(lambda: router.paths("10.50.0.1/32"), seconds=SECONDS, what="the IPv4 route")
            await until(lambda: "RouteRefused" in it.reasons(), seconds=SECONDS, what="why")
            (refused,) = [one for one in it.report()["addresses"] if one["reason"] == "RouteRefused"]
            assert refused["message"] == f"{A} has not agreed to take IPv6 routes"
            counts = {"proven": 1, "pending": 0, "refused": 1}
            await until(
                lambda: it.report()["sessions"][0]["routes"] == counts, seconds=SECONDS, what="where routes are"
            )
            assert not it.errors()

    try:
        run(test)
    finally:
        router.configure(*off[:2], off[2].removeprefix("no "))
