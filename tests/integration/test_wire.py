"""The wire edge between real kernels: two namespaces and a cable."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from announcer.core.model import Heard, IfName, Link, PutAddresses, SendAnnouncement, SendProbe, SendRequest, WireEvent
from announcer.kernel import Kernel
from announcer.wire import Wire, WireError
from announcer.wire.sockets import BURST
from tests.builders import ip
from tests.integration.netns import Namespace, cable, namespace
from tests.waiting import stays, until

pytestmark = pytest.mark.netns
ETH0 = IfName("eth0")
V4, V6 = ip("10.111.111.100"), ip("fd00:111::100")
FREE4, FREE6 = ip("10.111.111.101"), ip("fd00:111::101")


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """A node that asks and one that holds an address of each family, in the form that announcer gives it."""
    with namespace() as asker, namespace() as holder:
        cable(asker, "eth0", holder, "eth0")
        holder.exec("sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=1", "net.ipv4.conf.eth0.rp_filter=1")
        with holder.inside():
            asyncio.run(put(V4, V6))
        yield asker, holder


async def put(*addresses: object) -> None:
    async with Kernel() as kernel:
        await kernel.apply(PutAddresses(ifname=ETH0, addresses=addresses))  # type: ignore[arg-type]


def lladdr(node: Namespace) -> str:
    return node.exec("cat", "/sys/class/net/eth0/address").strip()


def run(node: Namespace, test: Callable[[Wire, list[WireEvent]], Awaitable[None]]) -> None:
    async def inside() -> None:
        heard: list[WireEvent] = []
        async with Kernel() as kernel, Wire(heard.extend) as wire:
            wire.set_links(await eth0(kernel))
            await test(wire, heard)

    with node.inside():
        asyncio.run(inside())


async def eth0(kernel: Kernel) -> list[Link]:
    return [link for link in (await kernel.read()).links if link.ifname == ETH0]


def test_probe_of_a_held_address_is_answered_by_its_kernel(pair: tuple[Namespace, Namespace]) -> None:
    asker, holder = pair

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await wire.apply(SendProbe(ifname=ETH0, addresses=(V4, V6)))
        wanted = {Heard(ifname=ETH0, address=a, lladdr=lladdr(holder)) for a in (V4, V6)}
        await until(lambda: wanted <= set(heard), seconds=2, what="answers to both probes")

    run(asker, test)


def test_probe_of_a_free_address_stays_unanswered(pair: tuple[Namespace, Namespace]) -> None:
    asker, _ = pair

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await wire.apply(SendProbe(ifname=ETH0, addresses=(FREE4, FREE6)))
        await stays(lambda: not {h.address for h in heard} & {FREE4, FREE6}, seconds=0.3)

    run(asker, test)


def test_listener_that_fails_makes_nobody_deaf(pair: tuple[Namespace, Namespace]) -> None:
    asker, holder = pair
    answer = Heard(ifname=ETH0, address=V4, lladdr=lladdr(holder))
    told: list[WireEvent] = []
    errors: list[object] = []

    def fail_at_first(events: tuple[WireEvent, ...]) -> None:
        told.extend(events)
        if not errors:
            raise ValueError("a bug")

    async def inside() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        async with Kernel() as kernel, Wire(fail_at_first) as wire:
            wire.set_links(await eth0(kernel))
            await wire.apply(SendProbe(ifname=ETH0, addresses=(V4,)))
            await until(lambda: errors, what="the failure")
            told.clear()
            await wire.apply(SendProbe(ifname=ETH0, addresses=(V4,)))
            await until(lambda: answer in told, what="the answer after it")

    with asker.inside():
        asyncio.run(inside())


def test_few_frames_are_sent_at_once_and_more_are_left_to_the_paced_way(pair: tuple[Namespace, Namespace]) -> None:
    asker, holder = pair

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        many = tuple(FREE4 + i for i in range(BURST + 1))
        assert not wire.send_now(SendProbe(ifname=ETH0, addresses=many))
        assert wire.counters()[ETH0].sent == 0
        assert wire.send_now(SendProbe(ifname=ETH0, addresses=(*many[2:], V4)))
        assert wire.counters()[ETH0].sent == BURST
        answer = Heard(ifname=ETH0, address=V4, lladdr=lladdr(holder))
        await until(lambda: answer in heard, seconds=2, what="the answer")
        with pytest.raises(WireError, match="no such link"):
            wire.send_now(SendProbe(ifname=IfName("nowhere"), addresses=(V4,)))

    run(asker, test)


def test_announcement_moves_the_entry_of_a_client(pair: tuple[Namespace, Namespace]) -> None:
    announcer, client = pair
    old = "02:00:00:00:00:99"
    client.ip("addr", "add", "10.111.111.1/24", "dev", "eth0")
    for address in (FREE4, FREE6):
        client.ip("neigh", "replace", str(address), "lladdr", old, "dev", "eth0", "nud", "reachable")

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await wire.apply(SendAnnouncement(ifname=ETH0, addresses=(FREE4, FREE6)))

        def moved() -> bool:
            shown = [client.ip("neigh", "show", str(a), "dev", "eth0") for a in (FREE4, FREE6)]
            return all(lladdr(announcer) in text for text in shown)

        await until(moved, seconds=2)
        assert heard == []  # one's own frames are not heard

    run(announcer, test)


def test_request_for_another_address_moves_the_entry_of_a_client_that_ignores_announcements(
    pair: tuple[Namespace, Namespace],
) -> None:
    """RFC 826: whoever has an entry for the sender updates it, whomever the request asks for."""
    announcer, client = pair
    client.ip("addr", "add", "10.111.111.1/24", "dev", "eth0")
    client.exec("sysctl", "-qw", "net.ipv4.conf.eth0.drop_gratuitous_arp=1")
    client.ip("neigh", "replace", str(FREE4), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable")

    def has_moved() -> bool:
        return lladdr(announcer) in client.ip("neigh", "show", str(FREE4), "dev", "eth0")

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await stays(lambda: True, seconds=1.1)  # the client's locktime: an entry that is younger is not changed
        await wire.apply(SendAnnouncement(ifname=ETH0, addresses=(FREE4,)))
        await stays(lambda: not has_moved(), seconds=0.3)
        await wire.apply(SendRequest(ifname=ETH0, addresses=(FREE4,), asks=(ip("10.111.111.2"),)))
        await until(has_moved, seconds=2)

    run(announcer, test)


def test_filter_lets_nothing_else_through(pair: tuple[Namespace, Namespace]) -> None:
    asker, other = pair
    asker.ip("addr", "add", "10.111.111.2/24", "dev", "eth0")
    other.ip("addr", "add", "10.111.111.3/24", "dev", "eth0")

    async def test(wire: Wire, heard: list[WireEvent]) -> None:
        await asyncio.to_thread(other.exec, "ping", "-c", "20", "-i", "0.01", "-q", "10.111.111.2")
        await until(lambda: heard, what="the ARP before the ping")
        counters = wire.counters()[ETH0]
        assert counters.received + counters.ignored < 20

    run(asker, test)


def test_link_that_goes_is_closed_and_one_that_comes_is_opened(pair: tuple[Namespace, Namespace]) -> None:
    asker, other = pair

    async def inside() -> None:
        async with Kernel() as kernel, Wire(lambda _: None) as wire:
            wire.set_links(await eth0(kernel))
            asker.ip("link", "del", "eth0")
            await until(lambda: wire.counters() == {} or not _sends(wire))
            wire.set_links(await eth0(kernel))
            assert wire.counters() == {}
            with pytest.raises(WireError, match="no such link"):
                await wire.apply(SendProbe(ifname=ETH0, addresses=(V4,)))
            cable(asker, "eth0", other, "eth1")
            wire.set_links(await eth0(kernel))
            await wire.apply(SendProbe(ifname=ETH0, addresses=(V4,)))
            assert wire.counters()[ETH0].sent == 1

    with asker.inside():
        asyncio.run(inside())


def _sends(wire: Wire) -> bool:
    return wire.counters()[ETH0].receive_errors == 0
