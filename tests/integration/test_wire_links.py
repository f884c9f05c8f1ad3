"""Links that come, go, change and are put under others: which one is listened on, and what survives on it.

This kernel has no bonding and no VLAN links: a bond is to us what a bridge is here (the port is enslaved, the master a
link of its own), a VLAN link what macvlan is here (a link above another). Frames of other VLANs: test_wire_filter.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from announcer.core.desired import describe_links
from announcer.core.model import (
    Echo,
    Heard,
    HeardEcho,
    IfName,
    IPAddress,
    Link,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireEvent,
)
from announcer.kernel import Kernel
from announcer.wire import Wire, WireError
from tests.builders import ip
from tests.integration.netns import Namespace, cable, namespace
from tests.waiting import stays, until

pytestmark = pytest.mark.netns
ETH0 = IfName("eth0")
HERE4, HERE6, HELD4, HELD6 = ip("10.111.111.2"), ip("fd00:111::2"), ip("10.111.111.3"), ip("fd00:111::3")
NEW_MAC = "02:00:00:00:00:77"


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    with namespace() as here, namespace() as there:
        cable(here, "eth0", there, "eth0")
        for address in (f"{HELD4}/24", f"{HELD6}/64"):
            there.ip("addr", "add", address, "dev", "eth0", "nodad")
        yield here, there


async def links(*, with_carrier: bool = True) -> list[Link]:
    """Those that the agent gives to the wire."""
    async with Kernel() as kernel:
        observed = await kernel.read()
    real = {link.ifname for link in describe_links(observed)}
    return [link for link in observed.links if link.ifname in real and (link.has_carrier or not with_carrier)]


def run(node: Namespace, test: Callable[[Wire, list[WireEvent]], Awaitable[None]]) -> None:
    async def inside() -> None:
        heard: list[WireEvent] = []
        async with Wire(heard.extend) as wire:
            await until_open(wire, 1)
            await test(wire, heard)

    with node.inside():
        asyncio.run(inside())


async def until_open(wire: Wire, count: int) -> None:
    """What the agent does after each change in the kernel, until the link's carrier is there."""
    for _ in range(200):
        wire.set_links(await links())
        if len(wire.counters()) == count:
            return
    raise AssertionError(f"{list(wire.counters())} is open")


async def answers(wire: Wire, heard: list[WireEvent], ifname: str) -> None:
    """The other end answers probes of both families on this link."""
    heard.clear()
    await wire.apply(SendProbe(ifname=IfName(ifname), addresses=(HELD4, HELD6)))
    await until(
        lambda: {h.address for h in heard if isinstance(h, Heard) and h.ifname == ifname} >= {HELD4, HELD6},
        seconds=2,
        what=f"answers on {ifname}",
    )


def test_renamed_link_keeps_its_socket(ends: tuple[Namespace, Namespace]) -> None:
    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await answers(wire, heard, "eth0")
        received = wire.counters()[ETH0].received
        ends[0].ip("link", "set", "eth0", "name", "lan0")
        await until_open(wire, 1)
        assert wire.counters()[IfName("lan0")].received >= received
        await answers(wire, heard, "lan0")
        with pytest.raises(WireError, match="no such link"):
            await wire.apply(SendProbe(ifname=ETH0, addresses=(HELD4,)))

    run(ends[0], test)


def test_two_links_that_swap_names_keep_apart(ends: tuple[Namespace, Namespace]) -> None:
    here, there = ends
    cable(here, "eth1", there, "eth1")

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        for old, new in (("eth0", "swap"), ("eth1", "eth0"), ("swap", "eth1")):
            here.ip("link", "set", old, "name", new)
        wire.set_links(await links())
        await answers(wire, heard, "eth1")

    with here.inside():
        asyncio.run(_with_two(test))


async def _with_two(test: Callable[[Wire, list[WireEvent]], Awaitable[None]]) -> None:
    heard: list[WireEvent] = []
    async with Wire(heard.extend) as wire:
        await until_open(wire, 2)
        await test(wire, heard)


def test_link_that_was_elsewhere_gets_a_new_socket(ends: tuple[Namespace, Namespace]) -> None:
    """It comes back with the ifindex that it had, and its old socket would hear nothing ever again."""
    here, _ = ends

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        before = {link.ifindex for link in await links()}
        with namespace() as elsewhere:
            here.ip("link", "set", "eth0", "netns", elsewhere.name)
            elsewhere.ip("link", "set", "eth0", "netns", here.name)
        here.ip("link", "set", "eth0", "up")
        await until_open(wire, 1)
        assert {link.ifindex for link in await links()} == before
        await answers(wire, heard, "eth0")

    run(here, test)


def test_socket_survives_link_down_and_up(ends: tuple[Namespace, Namespace]) -> None:
    here, _ = ends

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        here.ip("link", "set", "eth0", "down")
        await until(lambda: wire.counters()[ETH0].receive_errors == 1, what="ENETDOWN")
        with pytest.raises(WireError, match="frame not sent"):
            await wire.apply(SendProbe(ifname=ETH0, addresses=(HELD4,)))
        assert wire.counters()[ETH0].send_errors == 1
        here.ip("link", "set", "eth0", "up")
        await answers(wire, heard, "eth0")

    run(here, test)


def test_link_without_carrier_is_left_and_taken_again(ends: tuple[Namespace, Namespace]) -> None:
    here, there = ends

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        there.ip("link", "set", "eth0", "down")
        await until_open(wire, 0)
        assert [link.ifname for link in await links(with_carrier=False)] == ["eth0"]
        there.ip("link", "set", "eth0", "up")
        there.ip("addr", "replace", f"{HELD6}/64", "dev", "eth0", "nodad")
        await until_open(wire, 1)
        await answers(wire, heard, "eth0")

    run(here, test)


def test_new_mac_and_mtu_keep_the_socket(ends: tuple[Namespace, Namespace]) -> None:
    here, there = ends

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await answers(wire, heard, "eth0")
        received = wire.counters()[ETH0].received
        here.ip("link", "set", "eth0", "mtu", "1280", "address", NEW_MAC)
        wire.set_links(await links())
        there.ip("neigh", "replace", str(HERE4), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
        await wire.apply(SendAnnouncement(ifname=ETH0, addresses=(HERE4,)))
        await until(lambda: NEW_MAC in there.ip("neigh", "show", str(HERE4)), what="the new MAC at the neighbor")
        await answers(wire, heard, "eth0")
        assert wire.counters()[ETH0].received > received

    run(here, test)


def test_master_takes_the_place_of_an_enslaved_link(ends: tuple[Namespace, Namespace]) -> None:
    here, _ = ends

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        here.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
        here.ip("link", "set", "eth0", "master", "br0")
        here.ip("link", "set", "br0", "up")
        await _until_only(wire, "br0")
        await answers(wire, heard, "br0")
        here.ip("link", "set", "eth0", "nomaster")
        here.ip("link", "del", "br0")
        await _until_only(wire, "eth0")
        await answers(wire, heard, "eth0")

    run(here, test)


async def _until_only(wire: Wire, ifname: str) -> None:
    for _ in range(200):
        wire.set_links(await links())
        if list(wire.counters()) == [ifname]:
            return
    raise AssertionError(f"{list(wire.counters())} is open")


def test_link_above_another_asks_with_its_own_mac(ends: tuple[Namespace, Namespace]) -> None:
    here, there = ends
    here.ip("link", "add", "mac0", "link", "eth0", "address", NEW_MAC, "type", "macvlan", "mode", "bridge")
    here.ip("link", "set", "mac0", "up")

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await answers(wire, heard, "mac0")
        await wire.apply(SendRequest(ifname=IfName("mac0"), addresses=(HERE4,), asks=(HELD4,)))
        await until(lambda: NEW_MAC in there.ip("neigh", "show", str(HERE4)), what="what the request teaches")

    with here.inside():
        asyncio.run(_with_two(test))


@pytest.mark.parametrize(("here_is", "target"), [(HERE4, HELD4), (HERE6, HELD6)], ids=["ICMP", "ICMPv6"])
def test_kernel_answers_our_echo_and_it_is_heard(
    ends: tuple[Namespace, Namespace], here_is: IPAddress, target: IPAddress
) -> None:
    here, there = ends
    length = 24 if target == HELD4 else 64
    here.ip("addr", "add", f"{here_is}/{length}", "dev", "eth0", *(["nodad"] if length == 64 else []))

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await answers(wire, heard, "eth0")
        lladdr = next(h.lladdr for h in heard if isinstance(h, Heard) and h.address == target)
        echo = Echo(source=here_is, target=target, lladdr=lladdr, sequence=65535)
        await wire.apply(SendEcho(ifname=ETH0, echoes=(echo,)))
        wanted = HeardEcho(ifname=ETH0, address=target, lladdr=lladdr, sequence=65535)
        await until(lambda: wanted in heard, what="the reply")
        there.exec("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1")
        heard.clear()
        await wire.apply(SendEcho(ifname=ETH0, echoes=(echo,)))
        await stays(lambda: wanted not in heard, seconds=0.1)

    run(here, test)
