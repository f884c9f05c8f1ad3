"""Peers that change beside peers that don't, with a real ExaBGP and a real FRR: nobody else's session ever notices."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Raw, metallb, peer, pool, raw
from tests.integration.exabgp import Router, Sidecar, frr, node_and_router
from tests.integration.netns import Namespace
from tests.integration.peering import LINKS, SECONDS, Peering, peering, web
from tests.waiting import until

pytestmark = pytest.mark.netns
A, B, C = "10.9.0.101", "10.9.0.102", "10.9.0.103"
SOURCES = {A: "10.9.0.11", B: "10.9.0.12", C: "10.9.0.13"}
ROUTER = """router bgp 64513
 bgp router-id 10.9.0.1
 no bgp ebgp-requires-policy
 neighbor n peer-group
 neighbor n remote-as 64512
 neighbor n passive
""" + "".join(f" neighbor {source} peer-group n\n" for source in SOURCES.values())
ROUTES = (pool("p", "10.50.0.0/24"), metallb("BGPAdvertisement", "p"), *web("a", "10.50.0.1"), *web("b", "10.50.0.2"))
PREFIXES = ("10.50.0.1/32", "10.50.0.2/32")


def to(address: str, **more: Any) -> Raw:
    return peer(f"tor-{address[-1]}", address, sourceAddress=SOURCES[address], **more)


def secret(password: str, **more: Any) -> Raw:
    found = {"type": "kubernetes.io/basic-auth", "stringData": {"password": password}}
    return raw("v1", "Secret", "tor", namespace="metallb-system", **(found | more))


@dataclass
class Lab:
    node: Namespace
    router: Router
    sidecar: Sidecar

    def agent(self, *objects: Raw) -> AbstractAsyncContextManager[Peering]:
        return peering(self.sidecar, *objects, links=[*LINKS, *(f"{source}/24 eth0" for source in SOURCES.values())])

    def counts(self, *peers: str) -> list[int]:
        """How many times each session has come up, by FRR."""
        neighbors = self.router.neighbors()
        return [neighbors[SOURCES[address]]["connectionsEstablished"] for address in peers]

    async def routes(self, *peers: str) -> None:
        """FRR has all routes of these sessions, and none of another."""
        wanted = {SOURCES[address] for address in peers}
        for prefix in PREFIXES:
            await until(lambda p=prefix: self.router.paths(p).keys() == wanted, seconds=SECONDS, what="routes")  # type: ignore[misc]


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Namespace, Router]]:
    with node_and_router() as (node, tor):
        for address, source in SOURCES.items():
            node.ip("address", "add", f"{source}/24", "dev", "eth0")
            tor.ip("address", "add", f"{address}/24", "dev", "eth0")
        with frr(tor, ROUTER) as router:
            yield node, router


@pytest.fixture
def lab(ends: tuple[Namespace, Router], tmp_path: Path) -> Iterator[Lab]:
    node, router = ends
    sidecar = Sidecar(node, tmp_path)
    sidecar.start()
    yield Lab(node, router, sidecar)
    sidecar.kill()
    router.configure("router bgp 64513", *(f"no neighbor {source} password" for source in SOURCES.values()))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(inside())


def test_peers_that_are_added_edited_and_removed_leave_the_others_alone(lab: Lab) -> None:
    async def test() -> None:
        async with lab.agent(to(A), *ROUTES) as it:
            await it.has(A)
            await lab.routes(A)
            before = lab.counts(A)
            it.store.put(to(B), to(C))
            await it.has(A, B, C)
            await lab.routes(A, B, C)
            (count,) = lab.counts(B)
            it.store.put(to(B, holdTime="30s"))
            await until(lambda: lab.counts(B) == [count + 1], seconds=SECONDS, what="the edited session")
            await lab.routes(A, B, C)
            it.store.delete(to(C))
            await it.has(A, B)
            await lab.routes(A, B)
            assert lab.counts(A) == before

    run(test)


def test_password_that_is_rotated_makes_one_session_anew_and_is_shown_nowhere(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def test() -> None:
        lab.router.configure("router bgp 64513", f"neighbor {SOURCES[C]} password first-secret")
        guarded = to(C, passwordSecret={"name": "tor"}, holdTime="3s")
        async with lab.agent(to(A), guarded, secret("first-secret"), *ROUTES) as it:
            await it.has(A, C)
            await lab.routes(A, C)
            before = lab.counts(A)
            it.store.put(secret("other-secret"))
            await until(lambda: it.established() == {A}, seconds=SECONDS, what="the end of the old session")
            lab.router.configure("router bgp 64513", f"neighbor {SOURCES[C]} password other-secret")
            await it.has(A, C)
            await lab.routes(A, C)
            assert lab.counts(A) == before
            log = (it.folder / "exabgp.log").read_text() + "".join(str(vars(record)) for record in caplog.records)
            assert "AdvertiseRoutes" in log
            for text in ("first-secret", "other-secret", "Zmlyc3Qtc2Vj", "b3RoZXItc2Vj"):
                assert text not in log + repr(it.report())
                assert text not in lab.node.exec("ps", "axww", "-o", "args")

    run(test)


@pytest.mark.parametrize("change", ["delete", "type", "key"])
def test_secret_that_is_missing_or_wrong_ends_no_session(lab: Lab, change: str) -> None:
    async def test() -> None:
        lab.router.configure("router bgp 64513", f"neighbor {SOURCES[C]} password first-secret")
        objects = (to(A), to(C, passwordSecret={"name": "tor"}), *ROUTES)
        wrong = {"type": secret("x", type="Opaque"), "key": secret("x", stringData={"passwort": "x"})}.get(change)
        async with lab.agent(*objects, secret("first-secret")) as it:
            await it.has(A, C)
            await lab.routes(A, C)
            before = lab.counts(A, C)
            if wrong:
                it.store.put(wrong)
            else:
                it.store.delete(secret("x"))
            await until(lambda: "PasswordUnknown" in it.errors(), seconds=SECONDS, what="the report")
        async with lab.agent(*objects, *([wrong] if wrong else [])) as it:
            await it.has(A, C)
            await until(lambda: "PasswordUnknown" in it.errors(), seconds=SECONDS, what="the report")
            assert "md5-password" in it.block(C)
            it.store.put(to(B))
            await it.has(A, B, C)
            assert lab.counts(A, C) == before

    run(test)


def test_session_whose_password_is_not_known_is_not_begun(lab: Lab) -> None:
    async def test() -> None:
        async with lab.agent(to(A), to(C, passwordSecret={"name": "tor"}), *ROUTES) as it:
            await it.has(A)
            assert it.block(C) == ""
            assert (
                "BGPPeer metallb-system/tor-3: PasswordUnknown: Secret metallb-system/tor is not there" in it.errors()
            )
            it.store.put(secret("first-secret"))
            lab.router.configure("router bgp 64513", f"neighbor {SOURCES[C]} password first-secret")
            await it.has(A, C)

    run(test)


def test_file_that_somebody_has_exabgp_read_ends_no_session_and_its_stubbornness_is_told(lab: Lab) -> None:
    """By hand, past agent and bridge. ExaBGP 5.0.15 takes no other after one with a mistake."""

    async def test() -> None:
        async with lab.agent(to(A), to(B), *ROUTES) as it:
            await it.has(A, B)
            await lab.routes(A, B)
            before = lab.counts(A, B)
        (it.folder / "exabgp.conf").write_text(
            it.configuration().replace("hold-time 90", "hold-time nonsense"), "ascii"
        )
        lab.sidecar.reload()
        log = it.folder / "exabgp.log"
        await until(lambda: "nonsense" in log.read_text(), seconds=SECONDS, what="the refusal")
        async with lab.agent(to(A), to(B), to(C), *ROUTES) as it:
            await until(lambda: "restart it" in it.errors(), seconds=SECONDS, what="the report")
            assert it.established() == {A, B}
            assert lab.counts(A, B) == before
            lab.sidecar.kill()
            lab.sidecar.start()
            await it.has(A, B, C)
            await lab.routes(A, B, C)
            await until(
                lambda: it.errors() == "",
                seconds=3,
                what=f"{it.errors()} {it.sidecar._descriptions} {it.sidecar._wanted}",
            )

    run(test)


def test_peer_that_cannot_come_up_is_told_and_leaves_the_others_alone(lab: Lab) -> None:
    """Its source is no address of the node's, or nobody is there."""

    async def test() -> None:
        nobody = peer("nobody", "10.9.0.200", sourceAddress="10.9.0.2")
        stray = peer("stray", C, sourceAddress="10.9.9.9")
        async with lab.agent(to(A), to(B), *ROUTES) as it:
            await it.has(A, B)
            await lab.routes(A, B)
            before = lab.counts(A, B)
            it.store.put(nobody, stray)
            await until(lambda: it.peers().keys() == {A, B, C, "10.9.0.200"}, seconds=SECONDS, what="four peers")
            assert "BGPPeer metallb-system/stray: sourceAddress: 10.9.9.9 is no address of this node" in it.errors()
            it.store.delete(stray)
            await until(lambda: it.peers().keys() == {A, B, "10.9.0.200"}, seconds=SECONDS, what="three peers")
            assert lab.counts(A, B) == before

    run(test)


def test_agent_that_starts_again_touches_nothing_and_proves_everything(lab: Lab) -> None:
    async def test() -> None:
        async with lab.agent(to(A), to(B), *ROUTES) as it:
            await it.has(A, B)
            await lab.routes(A, B)
            before, text = lab.counts(A, B), it.configuration()
        async with lab.agent(to(A), to(B), *ROUTES) as it:
            await it.has(A, B)
            assert it.configuration() == text
            assert {p: set(map(str, one.routes)) for p, one in it.peers().items()} == {
                A: set(PREFIXES),
                B: set(PREFIXES),
            }
            assert lab.counts(A, B) == before

    run(test)


def test_exabgp_that_starts_again_gets_and_proves_everything(lab: Lab) -> None:
    async def test() -> None:
        async with lab.agent(to(A), to(B), *ROUTES) as it:
            await it.has(A, B)
            await lab.routes(A, B)
            lab.sidecar.kill()
            await until(lambda: not it.peers(), seconds=SECONDS, what="nothing known")
            await lab.routes()
            lab.sidecar.start()
            await it.has(A, B)
            await lab.routes(A, B)

    run(test)
