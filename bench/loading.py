"""Ten thousand routes on their way to FRR: by the product's session and ExaBGP, and beside it by BIRD and by GoBGP.

Two namespaces with a cable: a speaker in one, FRR in the other. A time runs from the order to load until the router's
kernel has every route; that of a cleared session from `clear bgp` until it has them all again.
"""

import asyncio
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from announcer.core.model import AdvertiseRoutes, ObservedBgp, Route, SetPeers
from announcer.exabgp import ExabgpSession
from lab.command import wait_until
from tests.integration.exabgp import ASN, ROUTER_ASN, V4, Router, router_and_sidecar
from tests.integration.netns import Namespace
from tests.waiting import until

COUNT = 10_000
DEADLINE = 120.0
PREFIXES = tuple(IPv4Network((IPv4Address("10.50.0.1") + number, 32)) for number in range(COUNT))
ROUTES = tuple(Route(prefix=prefix) for prefix in PREFIXES)
BIRD_CONF = f"""\
log stderr all;
router id {V4.router_id};
protocol device {{}}
protocol bgp tor {{
    local {V4.local_address} as {ASN};
    neighbor {V4.peer_address} as {ROUTER_ASN};
    connect delay time 1;
    ipv4 {{ import none; export all; next hop self; }};
}}
"""
GOBGP_CONF = f"""\
[global.config]
  as = {ASN}
  router-id = "{V4.router_id}"
  port = -1
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{V4.peer_address}"
    peer-as = {ROUTER_ASN}
  [neighbors.timers.config]
    connect-retry = 1
"""
MRT = struct.Struct("!IHHI")  # RFC 6396 §2
INJECT_LOSES = 1000
"""`gobgp mrt inject` 3.10 ends before its last few hundred routes are through: these are sent twice."""
TABLE_DUMP_V2, PEER_INDEX_TABLE, RIB_IPV4_UNICAST = 13, 1, 2  # RFC 6396 §4.3


@contextmanager
def place() -> Iterator[tuple[Router, Path, Namespace]]:
    """FRR, a folder, and the namespace in which a speaker can run; the sidecar in it is not started."""
    with tempfile.TemporaryDirectory(prefix="ann-bench-") as name, router_and_sidecar(Path(name)) as (router, sidecar):
        yield router, Path(name), sidecar.node


def exabgp() -> tuple[float, float]:
    """Seconds until ten thousand routes are in the router's kernel, and until they are again after a clear."""
    with tempfile.TemporaryDirectory(prefix="ann-bench-") as name, router_and_sidecar(Path(name)) as (router, sidecar):
        sidecar.start()
        return asyncio.run(_exabgp(router, ExabgpSession(Path(name), lambda: None)))


async def _exabgp(router: Router, session: ExabgpSession) -> tuple[float, float]:
    task = asyncio.create_task(session.run())
    try:
        await session.apply(SetPeers(peers=(V4,)))
        await until(lambda: _established(session), seconds=DEADLINE, what="the session")
        began = time.monotonic()
        await session.apply(AdvertiseRoutes(peer_address=V4.peer_address, routes=ROUTES))
        await _routed(router)
        cold = time.monotonic() - began
        await until(lambda: _proven(session) == COUNT, seconds=DEADLINE, what="proof")
        sessions = router.established_count(str(V4.local_address))
        began = time.monotonic()
        router.order("clear bgp *")
        await asyncio.to_thread(_renewed, router, sessions)
        await _routed(router)
        return cold, time.monotonic() - began
    finally:
        task.cancel()
        await asyncio.wait({task})


def _established(session: ExabgpSession) -> bool:
    observed = session.observed()
    return isinstance(observed, ObservedBgp) and any(peer.is_established for peer in observed.peers)


def _proven(session: ExabgpSession) -> int:
    observed = session.observed()
    return sum(len(peer.routes) for peer in observed.peers) if isinstance(observed, ObservedBgp) else 0


def _renewed(router: Router, sessions: int) -> None:
    """The kernel keeps the routes for longer than a session needs to come back, so look at what that has brought."""
    peer = str(V4.local_address)
    wait_until(lambda: router.established_count(peer) > sessions, DEADLINE, "the session again")
    wait_until(lambda: router.received(peer) == COUNT, DEADLINE, "the routes again")


async def _routed(router: Router) -> None:
    """In a thread: the session has its events to read meanwhile."""
    await asyncio.to_thread(routed, router)


def routed(router: Router) -> None:
    wait_until(lambda: router.fib_count() == COUNT, DEADLINE, f"{COUNT} routes in the router's kernel")


def bird() -> float:
    """Static routes that a changed configuration brings to an established session."""
    with place() as (router, folder, node):
        conf, control = folder / "bird.conf", folder / "bird.ctl"
        conf.write_text(BIRD_CONF, "ascii")
        with _running(node, ["bird", "-f", "-c", str(conf), "-s", str(control), "-P", str(folder / "pid")]):
            _wait_for_session(router)
            statics = "\n".join(f"    route {prefix} unreachable;" for prefix in PREFIXES)
            conf.write_text(f"{BIRD_CONF}protocol static {{\n    ipv4;\n{statics}\n}}\n", "ascii")
            began = time.monotonic()
            node.exec("birdc", "-s", str(control), "configure")
            routed(router)
            return time.monotonic() - began


def gobgp() -> float:
    """Its command line takes 19 ms a route, so that the table comes from a file (RFC 6396)."""
    with place() as (router, folder, node):
        conf, table = folder / "gobgpd.toml", folder / "table.mrt"
        conf.write_text(GOBGP_CONF, "ascii")
        table.write_bytes(mrt())
        argv = ["gobgpd", "-f", str(conf), "--api-hosts=127.0.0.1:50051", "--pprof-disable"]
        with _running(node, argv):
            _wait_for_session(router)
            began = time.monotonic()
            node.exec("gobgp", "mrt", "inject", "global", str(table))
            routed(router)
            return time.monotonic() - began


def mrt() -> bytes:
    peer = struct.pack("!B4s4sI", 2, bytes(4), bytes(4), ASN)
    attributes = bytes((0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4)) + V4.local_address.packed  # RFC 4271 §4.3
    messages = [_message(PEER_INDEX_TABLE, bytes(4) + struct.pack("!HH", 0, 1) + peer)]
    for number, prefix in enumerate((*PREFIXES, *PREFIXES[:INJECT_LOSES])):
        entry = struct.pack("!HIH", 0, 0, len(attributes)) + attributes
        nlri = bytes((32,)) + prefix.network_address.packed
        messages.append(_message(RIB_IPV4_UNICAST, struct.pack("!I", number) + nlri + struct.pack("!H", 1) + entry))
    return b"".join(messages)


def _message(subtype: int, body: bytes) -> bytes:
    return MRT.pack(0, TABLE_DUMP_V2, subtype, len(body)) + body


def _wait_for_session(router: Router) -> None:
    wait_until(lambda: router.established_count(str(V4.local_address)) > 0, DEADLINE, "the session")


@contextmanager
def _running(node: Namespace, argv: list[str]) -> Iterator[None]:
    process = subprocess.Popen(
        ["ip", "netns", "exec", node.name, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


SPEAKERS: dict[str, Callable[[], float]] = {"BIRD": bird, "GoBGP": gobgp}
