"""The kernel edge against the real kernel."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from announcer.core.desired import RETURN_METRIC
from announcer.core.model import (
    PROTOCOL,
    AddVirtualLink,
    IfName,
    KernelAction,
    KernelRoute,
    LinkAddress,
    ObservedKernel,
    PutAddresses,
    PutRoute,
    RemoveAddresses,
    RemoveRoute,
    RouteKind,
    Scope,
    SetDevconf,
)
from announcer.kernel import Kernel, KernelError
from announcer.kernel.addresses import put
from announcer.kernel.channel import MESSAGES_A_SEND, Channel
from tests.builders import ip, net, route
from tests.integration.netns import Namespace, cable, namespace
from tests.waiting import until

pytestmark = pytest.mark.netns
LB0, ETH0 = IfName("kube-lb0"), IfName("eth0")
V4, V6 = ip("10.113.113.100"), ip("fd00:113::100")
UNREACHABLE = KernelRoute(
    destination=net("10.113.113.0/24"), kind=RouteKind.UNREACHABLE, metric=2**30, protocol=PROTOCOL
)


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespace() as made, namespace() as other:
        cable(made, "eth0", other, "eth0")
        made.ip("addr", "add", "10.111.111.2/24", "dev", "eth0")
        yield made


def run(node: Namespace, test: Callable[[Kernel], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with Kernel() as kernel:
            await test(kernel)

    with node.inside():
        asyncio.run(inside())


async def apply(kernel: Kernel, *actions: KernelAction) -> ObservedKernel:
    """Each twice: Actions are idempotent."""
    for action in actions:
        await kernel.apply(action)
        await kernel.apply(action)
    return await kernel.read()


def on(seen: ObservedKernel, ifname: IfName) -> list[LinkAddress]:
    return [a for a in seen.addresses if a.ifname == ifname and a.is_ours]


def test_virtual_link_is_made_up_marked_and_without_link_local(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        seen = await apply(kernel, AddVirtualLink(ifname=LB0))
        link = next(link for link in seen.links if link.ifname == LB0)
        assert (link.is_ours, link.is_up, link.has_carrier) == (True, True, True)
        assert link.kind in {"dummy", "bridge"}
        assert [a for a in seen.addresses if a.ifname == LB0] == []

    run(node, test)


def test_virtual_link_of_somebody_else_is_taken_as_it_is(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        node.ip("link", "add", "kube-lb0", "type", "bridge")
        seen = await apply(kernel, AddVirtualLink(ifname=LB0))
        link = next(link for link in seen.links if link.ifname == LB0)
        assert (link.is_up, link.kind) == (True, "bridge")

    run(node, test)


def test_addresses_have_the_form_of_the_protocol(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        put = PutAddresses(ifname=ETH0, addresses=(V4, V6), valid_seconds=10)
        v4, v6 = on(await apply(kernel, put), ETH0)
        assert (v4.address, v4.prefixlen, v4.scope, v4.protocol) == (V4, 32, Scope.LINK, PROTOCOL)
        assert (v6.address, v6.prefixlen, v6.protocol) == (V6, 128, PROTOCOL)
        assert {v4.valid_seconds, v6.valid_seconds} <= {9, 10}
        shown = node.exec("ip", "-6", "addr", "show", "dev", "eth0")
        assert "deprecated" in shown
        assert "tentative" not in next(line for line in shown.splitlines() if str(V6) in line)
        assert "noprefixroute" in node.exec("ip", "-4", "addr", "show", "dev", "eth0")

    run(node, test)


def test_lifetime_can_be_taken_away_and_given(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        seen = await apply(kernel, AddVirtualLink(ifname=LB0), PutAddresses(ifname=LB0, addresses=(V4, V6)))
        assert [a.valid_seconds for a in on(seen, LB0)] == [None, None]
        seen = await apply(kernel, PutAddresses(ifname=LB0, addresses=(V4, V6), valid_seconds=1))
        assert all(a.valid_seconds is not None for a in on(seen, LB0))
        deadline = time.monotonic() + 5
        while on(await kernel.read(), LB0):
            assert time.monotonic() < deadline, "the kernel did not let the addresses go"
            await asyncio.sleep(0.05)

    run(node, test)


def test_removal_takes_ours_and_leaves_others(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        node.ip("addr", "add", "10.113.113.7/32", "dev", "eth0")
        await apply(kernel, PutAddresses(ifname=ETH0, addresses=(V4,)), RemoveAddresses(ifname=ETH0, addresses=(V4,)))
        with pytest.raises(KernelError, match="is not ours"):
            await kernel.apply(RemoveAddresses(ifname=ETH0, addresses=(ip("10.113.113.7"),)))
        left = {str(a.address) for a in (await kernel.read()).addresses}
        assert {"10.113.113.7", "10.111.111.2"} <= left
        assert str(V4) not in left

    run(node, test)


def test_last_address_of_a_link_goes_and_routes_on_it_stay(node: Namespace) -> None:
    """The kernel flushes them: without ours, answers to what is still on its way here would leave by another link."""

    async def test(kernel: Kernel) -> None:
        node.ip("addr", "del", "10.111.111.2/24", "dev", "eth0")
        ours = route("10.112.112.0/24", ETH0, protocol=PROTOCOL)
        await apply(kernel, PutAddresses(ifname=ETH0, addresses=(V4, V6)), PutRoute(route=ours))
        node.ip("route", "add", "10.114.114.0/24", "dev", "eth0", "metric", "7")
        before = (await kernel.read()).routes
        await kernel.apply(RemoveAddresses(ifname=ETH0, addresses=(V4,)))
        seen = await kernel.read()
        assert V4 not in {a.address for a in seen.addresses}
        assert ours in before
        assert set(seen.routes) == set(before)

    run(node, test)


def test_routes_come_and_go(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        back = route("10.112.112.0/24", "eth0", prefsrc=ip("10.111.111.2"), protocol=PROTOCOL)
        back_v6 = route("fd00:112::/64", "eth0", metric=RETURN_METRIC[6], protocol=PROTOCOL)
        all_four = (UNREACHABLE, replace(UNREACHABLE, destination=net("fd00:113::/64")), back, back_v6)
        seen = await apply(kernel, *(PutRoute(route=r) for r in all_four))
        assert set(all_four) <= set(seen.routes)
        seen = await apply(kernel, *(RemoveRoute(route=r) for r in all_four))
        assert [r for r in seen.routes if r.is_ours] == []

    run(node, test)


def test_foreign_route_is_neither_replaced_nor_removed(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        node.ip("route", "add", "10.112.112.0/24", "dev", "eth0")
        ours = route("10.112.112.0/24", "eth0", protocol=PROTOCOL)
        with pytest.raises(KernelError, match="somebody else's route"):
            await kernel.apply(PutRoute(route=ours))
        await kernel.apply(RemoveRoute(route=ours))
        assert "10.112.112.0/24" in node.ip("route", "show")

    run(node, test)


def test_devconf_is_set_and_shown_by_the_kernel(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        seen = await apply(kernel, SetDevconf(ifname=ETH0, arp_ignore=1, arp_announce=2, rp_filter=2))
        (link,) = (link for link in seen.links if link.ifname == ETH0)
        assert link.devconf is not None
        assert (link.devconf.arp_ignore, link.devconf.arp_announce, link.devconf.rp_filter) == (1, 2, 2)
        assert node.exec("cat", "/proc/sys/net/ipv4/conf/eth0/arp_ignore").strip() == "1"
        node.exec("sysctl", "-qw", "net.ipv4.conf.all.arp_announce=1")
        assert (await kernel.read()).devconf_all.arp_announce == 1

    run(node, test)


def test_missing_link_is_an_error_of_the_edge(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        with pytest.raises(KernelError, match="no link nowhere"):
            await kernel.apply(PutAddresses(ifname=IfName("nowhere"), addresses=(V4,)))
        await kernel.apply(RemoveRoute(route=route("10.9.0.0/24", "nowhere", protocol=PROTOCOL)))

    run(node, test)


def test_refused_addresses_do_not_stop_the_others(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        multicast = ip("ff02::1")
        with pytest.raises(KernelError, match="1 of 3 refused"):
            await kernel.apply(PutAddresses(ifname=ETH0, addresses=(V4, multicast, V6)))
        assert {a.address for a in on(await kernel.read(), ETH0)} == {V4, V6}

    run(node, test)


def test_refusals_are_told_of_the_messages_that_were_refused(node: Namespace) -> None:
    """Also of the first and the last of a send: one acknowledgement is asked for, by the last."""
    bad = {0, MESSAGES_A_SEND - 1, MESSAGES_A_SEND, 2 * MESSAGES_A_SEND + 3}

    async def test(_: Kernel) -> None:
        index, multicast = socket.if_nametoindex(ETH0), ip("ff02::1")
        asked = [put(index, multicast if i in bad else V4 + i, 60) for i in range(max(bad) + 1)]
        with Channel(timeout_seconds=5.0) as channel:
            assert (await channel.request(asked)).keys() == bad
            assert await channel.request(asked[1:4]) == {}

    run(node, test)


def test_change_by_somebody_wakes_within_100_ms(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        await kernel.apply(PutAddresses(ifname=ETH0, addresses=(V4,)))
        woken: list[float] = []
        watching = asyncio.ensure_future(kernel.watch(lambda: woken.append(time.monotonic())))
        await asyncio.sleep(0)
        start = time.monotonic()
        node.ip("addr", "del", f"{V4}/32", "dev", "eth0")
        deleted = time.monotonic()
        await until(lambda: woken, seconds=2)
        watching.cancel()
        assert start <= woken[0] <= deleted + 0.1

    run(node, test)


def test_lifetime_that_goes_on_wakes_nobody_and_all_else_does(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        fence = PutAddresses(ifname=ETH0, addresses=(V4, V6), valid_seconds=10)
        await kernel.apply(fence)
        await kernel.read()
        news: list[float] = []
        watching = asyncio.ensure_future(kernel.watch(lambda: news.append(time.monotonic())))
        await asyncio.sleep(0)
        for change in (("addr", "change", f"{V4}/32", "dev", "eth0"), ("addr", "del", f"{V6}/128", "dev", "eth0")):
            await kernel.apply(fence)
            before = time.monotonic()
            node.ip(*change)
            await until(lambda: news, seconds=2)
            assert news[0] >= before, "the fence was no news"
            await kernel.read()
            await kernel.apply(fence)
            await kernel.read()
            await until(lambda: news and time.monotonic() - news[-1] > 0.1, seconds=2)
            news.clear()
        await kernel.apply(PutAddresses(ifname=ETH0, addresses=(ip("10.120.0.1"),), valid_seconds=10))
        await until(lambda: news, seconds=2)
        watching.cancel()

    run(node, test)


def test_watch_survives_more_news_than_its_socket_holds(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        woken: list[int] = []
        watching = asyncio.ensure_future(kernel.watch(lambda: woken.append(1)))
        await asyncio.sleep(0)
        await kernel.apply(AddVirtualLink(ifname=LB0))
        many = tuple(ip("10.120.0.0") + i for i in range(4000))
        for _ in range(3):
            with node.inside():
                await kernel.apply(PutAddresses(ifname=LB0, addresses=many))
                await kernel.apply(RemoveAddresses(ifname=LB0, addresses=many))
        await until(lambda: woken)
        before = len(woken)
        node.ip("addr", "add", "10.9.9.9/32", "dev", "eth0")
        await until(lambda: len(woken) > before)
        assert not watching.done()
        watching.cancel()

    run(node, test)


def test_thousand_addresses_go_in_bulk(node: Namespace) -> None:
    async def test(kernel: Kernel) -> None:
        many = tuple(ip("10.120.0.0") + i for i in range(1000))
        await kernel.apply(AddVirtualLink(ifname=LB0))
        start = time.perf_counter()
        await kernel.apply(PutAddresses(ifname=LB0, addresses=many))
        put = time.perf_counter()
        seen = await kernel.read()
        print(f"1,000 addresses: put in {put - start:.3f} s, read in {time.perf_counter() - put:.3f} s")
        assert len(on(seen, LB0)) == 1000

    run(node, test)
