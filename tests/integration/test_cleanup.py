"""`announcer cleanup` on a node that an agent has left: what is ours goes, what isn't stays."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from announcer.core.model import (
    PROTOCOL,
    AddVirtualLink,
    Guard,
    IfName,
    KernelAction,
    KernelRoute,
    PutAddresses,
    PutGuard,
    PutRoute,
    RouteKind,
)
from announcer.kernel import Kernel
from tests.builders import ip, net
from tests.integration.netns import Namespace, cable, namespace

pytestmark = pytest.mark.netns
LB0, ETH0 = IfName("kube-lb0"), IfName("eth0")
LEFT: tuple[KernelAction, ...] = (
    AddVirtualLink(ifname=LB0),
    PutAddresses(ifname=LB0, addresses=(ip("10.113.113.100"), ip("fd00:113::100"))),
    PutAddresses(ifname=ETH0, addresses=(ip("10.111.111.100"),), valid_seconds=300),
    PutRoute(
        route=KernelRoute(
            destination=net("10.113.113.0/24"), kind=RouteKind.UNREACHABLE, metric=2**30, protocol=PROTOCOL
        )
    ),
    PutGuard(guard=Guard(addresses=frozenset({ip("10.113.113.100")}))),
)
SHOW = (("address", "show"), ("-4", "route", "show"), ("-6", "route", "show"))


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespace() as made, namespace() as other:
        cable(made, "eth0", other, "eth0")
        made.ip("address", "add", "10.111.111.2/24", "dev", "eth0")
        made.ip("address", "add", "10.111.111.101/32", "dev", "eth0")
        made.ip("route", "add", "unreachable", "10.9.0.0/16", "metric", "4")
        yield made


def state(node: Namespace) -> str:
    """Without lifetimes and counters, which go on by themselves."""
    shown = [line for what in SHOW for line in node.ip("-brief", *what).splitlines()]
    return "\n".join(" ".join(line.split()) for line in [*shown, node.exec("nft", "list", "tables")])


def leave(node: Namespace) -> None:
    async def apply() -> None:
        async with Kernel() as kernel:
            for action in LEFT:
                await kernel.apply(action)

    with node.inside():
        asyncio.run(apply())


def cleanup(node: Namespace) -> subprocess.CompletedProcess[str]:
    argv = ["ip", "netns", "exec", node.name, sys.executable, "-m", "announcer", "cleanup"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_cleanup_takes_what_an_agent_left_and_nothing_else(node: Namespace) -> None:
    before = state(node)
    leave(node)
    assert "10.113.113.100/32" in state(node)
    done = cleanup(node)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "removed 10.111.111.100 from eth0",
        "removed 10.113.113.100, fd00:113::100 from kube-lb0",
        "removed route unreachable 10.113.113.0/24",
        "removed link kube-lb0",
        "removed table inet announcer",
    ]
    assert state(node) == before


def test_cleanup_of_a_clean_node_says_and_changes_nothing(node: Namespace) -> None:
    before = state(node)
    done = cleanup(node)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert state(node) == before
