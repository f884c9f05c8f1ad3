"""A thousand Services in one file, virtual, each with a host route of its own."""

import json
import sys
from ipaddress import IPv4Address

from lab.command import LabError, inside, run, run_json
from lab.topology import NODES, Lab
from tests.e2e.laboratory import service

POOL = "many"
FIRST = IPv4Address("10.120.0.1")
NETWORK = "10.120.0.0/16"
REACH = """\
import asyncio, sys
async def one(address, limit):
    async with limit:
        try:
            async with asyncio.timeout(10):
                _, writer = await asyncio.open_connection(address, 80)
                writer.close()
                return 1
        except (OSError, TimeoutError):
            return 0
async def main():
    limit = asyncio.Semaphore(50)
    print(sum(await asyncio.gather(*(one(a, limit) for a in sys.stdin.read().split()))))
asyncio.run(main())
"""


def group() -> str:
    """A pool whose addresses are advertised one by one."""
    pool = {"subnet": NETWORK, "pool": f"{FIRST}-10.120.255.254", "aggregation": "/32"}
    return json.dumps(
        {
            "apiVersion": "purelb.io/v2",
            "kind": "ServiceGroup",
            "metadata": {"name": POOL, "namespace": "purelb-system"},
            "spec": {"remote": {"v4pools": [pool]}},
        }
    )


def services(count: int) -> str:
    return "---\n".join(service(f"many-{i:04}", POOL) for i in range(count))


def host_routes(lab: Lab) -> int:
    """How many of the pool's host routes the router's kernel has, with a next hop on every node."""
    try:
        shown = run_json(["ip", "-j", "-n", lab.namespace("tor"), "route", "show", "root", NETWORK])
    except LabError:
        return 0
    return sum(len(route.get("nexthops", ())) == len(NODES) for route in shown)


def next_hops(lab: Lab) -> int:
    """How many of the pool's host routes the router's kernel has, whatever their next hops are."""
    try:
        return len(run_json(["ip", "-j", "-n", lab.namespace("tor"), "route", "show", "root", NETWORK]))
    except LabError:
        return 0


def reachable(lab: Lab, count: int) -> int:
    """How many addresses take a TCP connection from the external host."""
    run(["ip", "-n", lab.namespace("host"), "route", "replace", NETWORK, "via", "192.0.2.1"])
    wanted = "\n".join(str(FIRST + i) for i in range(count))
    return int(run(inside(lab.namespace("host"), [sys.executable, "-c", REACH]), stdin=wanted, timeout=120))
