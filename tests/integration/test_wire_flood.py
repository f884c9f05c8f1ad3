"""A node under a flood of ARP: what is asked is answered, nothing wrong is heard, and it costs a bounded share."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import pytest

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
    WireEvent,
)
from announcer.kernel import Kernel
from announcer.wire import Wire
from tests.builders import ip
from tests.integration.flooder import flood
from tests.integration.netns import Namespace, cable, namespace
from tests.waiting import stays, until

pytestmark = pytest.mark.netns
ETH0 = IfName("eth0")
HERE, HELD, FREE = ip("10.111.111.2"), ip("10.111.111.3"), ip("10.111.111.101")
RATE, SECONDS, T = 10_000, 2.0, 0.1
SHARE_MOST = 0.2


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    with namespace() as here, namespace() as there:
        cable(here, "eth0", there, "eth0")
        here.ip("addr", "add", f"{HERE}/24", "dev", "eth0")
        there.ip("addr", "add", f"{HELD}/24", "dev", "eth0")
        yield here, there


async def eth0() -> Link:
    async with Kernel() as kernel:
        return next(link for link in (await kernel.read()).links if link.ifname == ETH0)


@pytest.mark.parametrize("listens_for", [None, [HELD, FREE]], ids=["all", "some"])
@pytest.mark.parametrize("kind", ["scan", "many", "same"])
def test_flood_hides_nothing_and_costs_little(
    ends: tuple[Namespace, Namespace], kind: str, listens_for: list[IPAddress] | None
) -> None:
    heard: list[WireEvent] = []

    async def rounds(wire: Wire) -> None:
        """Each with the protocol's interval: what was not heard after it counts as unanswered."""
        for number in range(int(SECONDS / T) - 2):
            heard.clear()
            await wire.apply(SendProbe(ifname=ETH0, addresses=(HELD, FREE)))
            await stays(lambda: FREE not in {h.address for h in heard}, seconds=T)
            heard.extend(wire.take())
            assert {h.address for h in heard} & {HELD, FREE} == {HELD}, number

    async def inside() -> None:
        async with Wire(heard.extend) as wire:
            wire.set_links([await eth0()])
            wire.listen_for(listens_for)
            with flood(ends[1], kind, rate=RATE, seconds=SECONDS):
                began, used = time.monotonic(), time.process_time()
                await rounds(wire)
                share = (time.process_time() - used) / (time.monotonic() - began)
            wire.take()
            counters = wire.counters()[ETH0]
            assert counters.dropped == 0
            assert (counters.received > 0.7 * RATE * SECONDS) is (listens_for is None), counters
            assert share < SHARE_MOST

    with ends[0].inside():
        asyncio.run(inside())


def test_echo_is_answered_under_a_flood(ends: tuple[Namespace, Namespace]) -> None:
    heard: list[WireEvent] = []

    async def inside() -> None:
        async with Wire(heard.extend) as wire:

            def is_there(wanted: WireEvent) -> bool:
                heard.extend(wire.take())  # as whoever judges silence does
                return wanted in heard

            wire.set_links([await eth0()])
            await wire.apply(SendProbe(ifname=ETH0, addresses=(HELD,)))
            await until(lambda: heard, what="its MAC")
            lladdr = next(h.lladdr for h in heard if isinstance(h, Heard))
            with flood(ends[1], "many", rate=RATE, seconds=1.0):
                for sequence in range(8):
                    echo = Echo(source=HERE, target=HELD, lladdr=lladdr, sequence=sequence)
                    await wire.apply(SendEcho(ifname=ETH0, echoes=(echo,)))
                    wanted = HeardEcho(ifname=ETH0, address=HELD, lladdr=lladdr, sequence=sequence)
                    await until(partial(is_there, wanted), seconds=T, what="the reply")

    with ends[0].inside():
        asyncio.run(inside())


def test_frames_of_a_stalled_second_are_all_read_with_their_own_times(ends: tuple[Namespace, Namespace]) -> None:
    """An agent that was stopped for 0.5 s under a flood: what came meanwhile is there, and known to have come then."""
    heard: list[WireEvent] = []

    async def inside() -> None:
        async with Wire(heard.extend) as wire:
            wire.set_links([await eth0()])
            with flood(ends[1], "many", rate=RATE, seconds=0.5) as process:
                began = time.monotonic()
                await wire.apply(SendProbe(ifname=ETH0, addresses=(HELD,)))
                process.wait()  # the loop stands still
                stalled = time.monotonic() - began
                heard.extend(wire.take())
            answer = next(h for h in heard if isinstance(h, Heard) and h.address == HELD)
            assert began <= answer.at < began + stalled / 2
            assert wire.counters()[ETH0].dropped == 0
            assert wire.counters()[ETH0].received > 0.7 * RATE * 0.5

    with ends[0].inside():
        asyncio.run(inside())


def test_a_thousand_announcements_all_arrive(ends: tuple[Namespace, Namespace]) -> None:
    addresses = tuple(ip(f"10.50.{n // 250}.{n % 250 + 1}") for n in range(1000))
    heard: list[WireEvent] = []

    async def inside() -> None:
        async with Wire(heard.extend) as listener, Wire(lambda _: None) as sender:
            listener.set_links([await eth0()])
            with ends[1].inside():
                sender.set_links([await eth0()])
            began = time.monotonic()
            await sender.apply(SendAnnouncement(ifname=ETH0, addresses=addresses))
            took = time.monotonic() - began
            await until(lambda: {h.address for h in heard} >= set(addresses), what="all of them")
            assert took < 0.5
            assert sender.counters()[ETH0].sent == 1000
            assert listener.counters()[ETH0].dropped == 0

    with ends[0].inside():
        asyncio.run(inside())


def test_link_whose_queue_is_full_gets_all_frames_later(ends: tuple[Namespace, Namespace]) -> None:
    """tbf drops what is beyond its limit, and tells the sender so by ENOBUFS, as the queue of a busy link does."""
    limits = ("rate", "400kbit", "burst", "1600", "limit", "1600")
    ends[1].exec("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *limits)
    addresses = tuple(ip(f"10.50.0.{n + 1}") for n in range(200))
    heard: list[WireEvent] = []

    async def inside() -> None:
        async with Wire(heard.extend) as listener, Wire(lambda _: None) as sender:
            listener.set_links([await eth0()])
            with ends[1].inside():
                sender.set_links([await eth0()])
            await sender.apply(SendAnnouncement(ifname=ETH0, addresses=addresses))
            await until(lambda: {h.address for h in heard} >= set(addresses), what="all of them")
            counters = sender.counters()[ETH0]
            assert (counters.sent, counters.send_errors) == (200, 0)
            assert counters.send_waits > 0

    with ends[0].inside():
        asyncio.run(inside())
