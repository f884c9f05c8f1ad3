"""The port guard in real kernels: what a host outside may reach of a node, beside DNAT like kube-proxy's."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from announcer.core.model import Guard, PutGuard, RemoveGuard
from announcer.kernel import Kernel
from tests.builders import ip
from tests.integration.netns import Namespace, cable, namespace

pytestmark = pytest.mark.netns
VIP, VIP_6, OTHER = ip("10.113.113.100"), ip("fd00:113::100"), ip("10.113.113.101")
NODE = "10.9.0.1"
GUARD = Guard(
    addresses=frozenset({VIP, VIP_6}),
    ports=frozenset({(VIP, "TCP", 80), (VIP, "TCP", 443), (VIP_6, "TCP", 80), (VIP, "UDP", 53)}),
)
SCANNED = (22, 80, 443, 9720)
OPEN_SECONDS, CLOSED_SECONDS = 5.0, 0.3


@dataclass(frozen=True, slots=True)
class Segment:
    node: Namespace
    host: Namespace
    at_80: socket.socket


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A node with its addresses, which listens on every address at SCANNED; and a host outside."""
    with namespace() as node, namespace() as host, ExitStack() as stack:
        for where in (node, host):  # addresses that settle later would wake whoever waits for a word of the guard
            where.exec("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        cable(node, "eth0", host, "eth0")
        for where, v4, v6 in ((node, "10.9.0.1/24", "fd00:9::1/64"), (host, "10.9.0.2/24", "fd00:9::2/64")):
            where.ip("addr", "add", v4, "dev", "eth0")
            where.ip("addr", "add", v6, "dev", "eth0", "nodad")
        node.ip("addr", "add", f"{VIP}/32", "dev", "lo")
        node.ip("addr", "add", f"{OTHER}/32", "dev", "lo")
        node.ip("addr", "add", f"{VIP_6}/128", "dev", "lo", "nodad")
        host.ip("route", "add", "10.113.113.0/24", "via", NODE)
        host.ip("route", "add", "fd00:113::/64", "via", "fd00:9::1")
        with node.inside():
            at = {port: stack.enter_context(listening(port)) for port in (*SCANNED, 8080)}
        yield Segment(node, host, at[80])


def listening(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)


def guarded(node: Namespace, test: Callable[[Kernel], Awaitable[None]], guard: Guard | None = GUARD) -> None:
    async def inside() -> None:
        async with Kernel() as kernel:
            if guard is not None:
                await kernel.apply(PutGuard(guard=guard))
            await test(kernel)

    with node.inside():
        asyncio.run(inside())


async def nothing_more(_: Kernel) -> None:
    """The guard is all."""


def is_open(where: Namespace, address: object, port: int, seconds: float = CLOSED_SECONDS) -> bool:
    with where.inside():
        try:
            socket.create_connection((str(address), port), timeout=seconds).close()
        except OSError:
            return False
    return True


def scan(where: Namespace, address: object) -> set[int]:
    return {port for port in SCANNED if is_open(where, address, port)}


def echoes(host: Namespace, address: object, *options: str) -> bool:
    argv = ["ip", "netns", "exec", host.name, "ping", "-n", "-c", "1", "-W", "2", *options, str(address)]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


@contextmanager
def held_udp(node: Namespace, port: int) -> Iterator[socket.socket]:
    with node.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with made:
        made.bind((str(VIP), port))
        made.settimeout(OPEN_SECONDS)
        yield made


def test_ports_of_services_are_open_and_no_others(segment: Segment) -> None:
    assert scan(segment.host, VIP) == set(SCANNED)
    guarded(segment.node, nothing_more)
    assert scan(segment.host, VIP) == {80, 443}
    assert scan(segment.host, VIP_6) == {80}
    for unguarded in (OTHER, NODE, "fd00:9::1"):
        assert scan(segment.host, unguarded) == set(SCANNED)


def test_node_itself_reaches_every_port(segment: Segment) -> None:
    guarded(segment.node, nothing_more)
    assert scan(segment.node, VIP) == set(SCANNED)


def test_echo_is_answered_also_in_fragments(segment: Segment) -> None:
    guarded(segment.node, nothing_more)
    for address in (VIP, VIP_6):
        assert echoes(segment.host, address)
        assert echoes(segment.host, address, "-s", "4000")


def test_fragments_of_udp_come_in_by_the_port_of_the_first(segment: Segment) -> None:
    guarded(segment.node, nothing_more)
    payload = bytes(4000)
    with held_udp(segment.node, 53) as named, held_udp(segment.node, 54) as other:
        with segment.host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(payload, (str(VIP), 54))
            client.sendto(payload, (str(VIP), 53))
        assert named.recv(8000) == payload
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(8000)


def test_answers_to_what_the_address_itself_began_come_in(segment: Segment) -> None:
    """An egress gateway gives pods the address of a Service as source."""
    guarded(segment.node, nothing_more)
    with segment.host.inside():
        server = socket.create_server(("10.9.0.2", 7000))
    with server, segment.node.inside():
        socket.create_connection(("10.9.0.2", 7000), timeout=OPEN_SECONDS, source_address=(str(VIP), 0)).close()


DNAT = {
    "nftables": (
        "nft add table ip kube-proxy",
        "nft add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat ; }",
        f"nft add rule ip kube-proxy nat-prerouting ip daddr {VIP} tcp dport {{ 80, 9720 }} dnat to {NODE}:8080",
    ),
    "iptables-nft": (
        f"iptables-nft -t nat -A PREROUTING -d {VIP} -p tcp --dport 80 -j DNAT --to-destination {NODE}:8080",
        f"iptables-nft -t nat -A PREROUTING -d {VIP} -p tcp --dport 9720 -j DNAT --to-destination {NODE}:8080",
    ),
}


@pytest.mark.parametrize("mode", list(DNAT))
@pytest.mark.parametrize("is_first", [True, False])
def test_dnat_like_that_of_kube_proxy_works_on(segment: Segment, mode: str, is_first: bool) -> None:
    """Where the DNAT leads to is a port that the guard doesn't name; what only a node port's DNAT is for stays out."""
    segment.at_80.close()  # nobody but the DNAT answers for it

    def put_dnat() -> None:
        for line in DNAT[mode]:
            segment.node.exec(*line.split())

    if not is_first:
        put_dnat()
    guarded(segment.node, nothing_more)
    if is_first:
        put_dnat()
    assert scan(segment.host, VIP) == {80, 443}
    assert not is_open(segment.host, VIP, 8080)


def test_what_is_put_is_read_and_a_change_is_of_elements_alone(segment: Segment) -> None:
    more = Guard(
        addresses=GUARD.addresses | {OTHER},
        ports=(GUARD.ports | {(OTHER, "SCTP", 1), (VIP_6, "UDP", 2)}) - {(VIP, "TCP", 443)},
    )

    async def test(kernel: Kernel) -> None:
        assert (await kernel.read()).guard == GUARD
        handles = segment.node.exec("nft", "-a", "list", "chain", "inet", "announcer", "ipv4")
        await kernel.apply(PutGuard(guard=more))
        assert (await kernel.read()).guard == more
        async with Kernel() as other:
            assert (await other.read()).guard == more
        assert segment.node.exec("nft", "-a", "list", "chain", "inet", "announcer", "ipv4") == handles
        assert scan(segment.host, VIP) == {80}

    guarded(segment.node, test)


@pytest.mark.parametrize(
    "harm",
    [
        "flush chain inet announcer ipv4",
        "insert rule inet announcer ipv4 accept",
        "delete chain inet announcer prerouting",
        "flush ruleset",
        "delete table inet announcer",
        "add table inet announcer { flags dormant ; }",
        "flush set inet announcer ports-4",
        f"delete element inet announcer addresses-4 {{ {VIP} }}",
    ],
)
def test_harm_is_told_seen_and_mended(segment: Segment, harm: str) -> None:
    async def test(kernel: Kernel) -> None:
        woken = asyncio.Event()
        watch = asyncio.create_task(kernel.watch(woken.set))
        await asyncio.sleep(0)
        woken.clear()
        if harm == "delete chain inet announcer prerouting":
            await asyncio.to_thread(segment.node.exec, "nft", "flush chain inet announcer prerouting")
        await asyncio.to_thread(segment.node.exec, "nft", harm)
        async with asyncio.timeout(OPEN_SECONDS):
            await woken.wait()
        assert (await kernel.read()).guard != GUARD
        await kernel.apply(PutGuard(guard=GUARD))
        assert (await kernel.read()).guard == GUARD
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    guarded(segment.node, test)
    assert scan(segment.host, VIP) == {80, 443}


def test_rules_of_others_wake_nobody_and_stay(segment: Segment) -> None:
    async def test(kernel: Kernel) -> None:
        woken, wakes = asyncio.Event(), count()

        def wake() -> None:
            next(wakes)
            woken.set()

        watch = asyncio.create_task(kernel.watch(wake))
        await asyncio.sleep(0)
        await asyncio.to_thread(segment.node.exec, "nft", "add table inet theirs { chain c { } ; }")
        await asyncio.to_thread(segment.node.exec, "nft", "add set inet announcer probe { type mark ; }")
        async with asyncio.timeout(OPEN_SECONDS):
            await woken.wait()
        assert next(wakes) == 1
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await kernel.apply(RemoveGuard())
        await kernel.apply(RemoveGuard())
        assert (await kernel.read()).guard is None

    guarded(segment.node, test)
    assert segment.node.exec("nft", "list", "tables").splitlines() == ["table inet theirs"]
    assert scan(segment.host, VIP) == set(SCANNED)


def test_ten_thousand_services_are_written_read_and_changed(segment: Segment) -> None:
    addresses = [ip(f"10.{113 + n // 5000}.{n // 250 % 20}.{n % 250}") for n in range(10_000)]
    many = Guard(addresses=frozenset(addresses), ports=frozenset((a, "TCP", 80) for a in addresses))
    fewer = Guard(addresses=many.addresses - {addresses[0]}, ports=many.ports - {(addresses[0], "TCP", 80)})

    async def test(kernel: Kernel) -> None:
        for step, guard in (("write", many), ("change", fewer)):
            began = time.perf_counter()
            await kernel.apply(PutGuard(guard=guard))
            print(f"{step}: {1000 * (time.perf_counter() - began):.1f} ms")
        async with Kernel() as other:
            for step in ("read", "read again"):
                began = time.perf_counter()
                assert (await other.read()).guard == fewer
                print(f"{step}: {1000 * (time.perf_counter() - began):.1f} ms")

    guarded(segment.node, test, None)
