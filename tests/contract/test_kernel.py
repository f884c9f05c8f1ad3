"""One suite for the real kernel and the fake: what the agent relies on is true of both."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import pytest

from announcer.core.model import (
    PROTOCOL,
    AddVirtualLink,
    Devconf,
    Guard,
    IfName,
    KernelAction,
    KernelRoute,
    Link,
    ObservedKernel,
    PutAddresses,
    PutGuard,
    PutRoute,
    RemoveAddresses,
    RemoveGuard,
    RemoveRoute,
    RemoveVirtualLink,
    RouteKind,
    SetDevconf,
)
from announcer.kernel import Kernel, KernelError
from tests.builders import ip, net, route
from tests.fakes.kernel import FakeKernel
from tests.integration.netns import cable, namespace

ETH0, LB0 = IfName("eth0"), IfName("kube-lb0")
V4, V6 = ip("10.113.113.100"), ip("fd00:113::100")
LAST = KernelRoute(destination=net("10.113.113.0/24"), kind=RouteKind.UNREACHABLE, metric=2**30, protocol=PROTOCOL)
NOTHING = Devconf(arp_ignore=0, arp_announce=0, rp_filter=0)


class Edge(Protocol):
    async def read(self) -> ObservedKernel: ...
    async def apply(self, action: KernelAction) -> None: ...


Run = Callable[[Callable[[Edge], Awaitable[None]]], None]


@contextmanager
def fake() -> Iterator[Run]:
    links = (Link(ifname=ETH0, ifindex=2, lladdr="02:00:00:00:00:02", kind="veth", devconf=NOTHING),)
    yield lambda test: asyncio.run(_with(FakeKernel(ObservedKernel(links=links)), test))


@contextmanager
def real() -> Iterator[Run]:
    async def inside(test: Callable[[Edge], Awaitable[None]]) -> None:
        async with Kernel() as kernel:
            await _with(kernel, test)

    with namespace() as node, namespace() as other:
        cable(node, "eth0", other, "eth0")
        with node.inside():
            yield lambda test: asyncio.run(inside(test))


async def _with(edge: Edge, test: Callable[[Edge], Awaitable[None]]) -> None:
    await test(edge)


@pytest.fixture(params=[fake, pytest.param(real, marks=pytest.mark.netns)], ids=["fake", "real"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with request.param() as found:
        yield found


async def done(edge: Edge, *actions: KernelAction) -> ObservedKernel:
    for action in actions:
        await edge.apply(action)
        await edge.apply(action)
    return await edge.read()


def ours(seen: ObservedKernel, ifname: IfName) -> dict[object, int | None]:
    return {a.address: a.valid_seconds for a in seen.addresses if a.is_ours and a.ifname == ifname}


def test_virtual_link_is_there_up_and_ours(run: Run) -> None:
    async def test(edge: Edge) -> None:
        seen = await done(edge, AddVirtualLink(ifname=LB0))
        (link,) = (link for link in seen.links if link.ifname == LB0)
        assert (link.is_ours, link.is_up, link.has_carrier) == (True, True, True)

    run(test)


def test_virtual_link_is_removed_and_a_link_of_others_is_not(run: Run) -> None:
    async def test(edge: Edge) -> None:
        await done(edge, AddVirtualLink(ifname=LB0), PutAddresses(ifname=LB0, addresses=(V4,)))
        seen = await done(edge, RemoveVirtualLink(ifname=LB0))
        assert LB0 not in {link.ifname for link in seen.links}
        assert not ours(seen, LB0)
        with pytest.raises(KernelError, match="is not ours"):
            await edge.apply(RemoveVirtualLink(ifname=ETH0))
        assert ETH0 in {link.ifname for link in (await edge.read()).links}

    run(test)


def test_addresses_are_put_replaced_and_removed(run: Run) -> None:
    async def test(edge: Edge) -> None:
        assert ours(await done(edge, PutAddresses(ifname=ETH0, addresses=(V4, V6))), ETH0) == {V4: None, V6: None}
        seen = await done(edge, PutAddresses(ifname=ETH0, addresses=(V4,), valid_seconds=100))
        assert ours(seen, ETH0)[V4] in {99, 100}
        assert ours(await done(edge, RemoveAddresses(ifname=ETH0, addresses=(V4,))), ETH0) == {V6: None}

    run(test)


def test_routes_are_put_and_removed(run: Run) -> None:
    async def test(edge: Edge) -> None:
        assert LAST in (await done(edge, PutRoute(route=LAST))).routes
        assert LAST not in (await done(edge, RemoveRoute(route=LAST))).routes

    run(test)


def test_port_guard_is_put_whole_and_removed(run: Run) -> None:
    first = Guard(addresses=frozenset({V4, V6}), ports=frozenset({(V4, "TCP", 80), (V6, "SCTP", 65535)}))
    second = Guard(addresses=frozenset({V6}), ports=frozenset({(V6, "UDP", 1)}))

    async def test(edge: Edge) -> None:
        assert (await done(edge, RemoveGuard())).guard is None
        for guard in (first, second):
            assert (await done(edge, PutGuard(guard=guard))).guard == guard
        assert (await done(edge, RemoveGuard())).guard is None

    run(test)


def test_devconf_is_set_where_it_is_said_and_stays_elsewhere(run: Run) -> None:
    async def test(edge: Edge) -> None:
        seen = await done(edge, SetDevconf(ifname=ETH0, arp_ignore=1))
        (link,) = (link for link in seen.links if link.ifname == ETH0)
        assert link.devconf is not None
        assert (link.devconf.arp_ignore, link.devconf.arp_announce) == (1, 0)

    run(test)


@pytest.mark.parametrize(
    "action",
    [
        PutAddresses(ifname=IfName("none"), addresses=(V4,)),
        PutRoute(route=replace(route("10.9.0.0/24", "none"), protocol=PROTOCOL)),
        SetDevconf(ifname=IfName("none"), arp_ignore=1),
    ],
)
def test_link_that_is_not_there_is_an_error_of_the_edge(run: Run, action: KernelAction) -> None:
    async def test(edge: Edge) -> None:
        with pytest.raises(KernelError, match="no link none"):
            await edge.apply(action)

    run(test)
