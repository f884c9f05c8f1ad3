"""The agent on fakes: it reaches what is desired, keeps it, and withholds what it can't make ready."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from announcer.core import own
from announcer.core.model import (
    AdvertiseRoutes,
    Heard,
    IfName,
    Link,
    LinkAddress,
    NodeName,
    PutAddresses,
    PutGuard,
    Scope,
    SendAnnouncement,
    Unknown,
    WithdrawRoutes,
)
from announcer.core.plan import Pace
from announcer.daemons.agent import Agent
from announcer.daemons.loop import Rhythm
from announcer.daemons.owner import Owner
from tests.builders import Raw, endpoints, group, ip, kernel, net, node, peer, raw, service
from tests.fakes.exabgp import FakeSidecar
from tests.fakes.kernel import FakeKernel
from tests.fakes.store import FakeStore
from tests.fakes.wire import FakeWire
from tests.waiting import until

VIRTUAL, LOCAL, TOR = ip("10.113.113.100"), ip("10.111.111.100"), ip("10.111.111.254")
NET = net("10.113.113.0/24")
TIMING = own.Timing(interval=0.01, leave=0.1)
WEB = service(addresses=[str(VIRTUAL)])
HERE = service("here", addresses=[str(LOCAL)])
CLUSTER = (
    node("n1"),
    group(),
    group("local", "10.111.111.100-10.111.111.110", "10.111.111.0/24"),
    peer(),
    WEB,
    endpoints(),
    HERE,
    endpoints("here"),
)


class Rig:
    """An agent of node n1 with everything around it in memory."""

    def __init__(self, *objects: Raw, addresses: Iterable[LinkAddress] = ()) -> None:
        seen = kernel(addresses=addresses)
        if addresses:
            link = Link(ifname=IfName("kube-lb0"), ifindex=9, lladdr="", is_ethernet=False)
            seen = replace(seen, links=(*seen.links, link))
        self.store, self.kernel, self.wire = FakeStore(*objects), FakeKernel(seen), FakeWire()
        self.sidecar = FakeSidecar(lambda: self.agent.loop.wake(), time.monotonic)
        owner = Owner(self.kernel, self.wire, time.monotonic, TIMING, lambda: self.agent.loop.wake())
        self.agent = Agent(
            node=NodeName("n1"),
            store=self.store,
            kernel=self.kernel,
            wire=self.wire,
            sidecar=self.sidecar,
            owner=owner,
            clock=time.monotonic,
            pace=Pace(drain=0.05),
            rhythm=Rhythm(resync=0.5, retry_first=0.01),
        )

    def on(self, ifname: str) -> set[Any]:
        return {a.address for a in self.kernel.seen.addresses if a.ifname == ifname and a.is_ours}

    def wire_routes(self) -> set[Any]:
        observed = self.sidecar.observed()
        return set() if isinstance(observed, Unknown) else {p for peer in observed.peers for p in peer.routes}

    def report(self) -> dict[str, str]:
        status = self.store.statuses.get(("NodeAnnouncement", "", "n1"), {})
        return {who.split()[1]: one["reason"] for one in status.get("addresses", []) for who in one["services"]}

    def moves(self) -> list[dict[str, Any]]:
        return list(self.store.statuses.get(("NodeAnnouncement", "", "n1"), {}).get("moves", ()))

    async def passes(self, count: int) -> None:
        """Wake the agent, and wait until it has looked at the kernel again, `count` times."""
        for _ in range(count):
            before = self.kernel.reads
            self.agent.loop.wake()
            await until(lambda before=before: self.kernel.reads > before)  # type: ignore[misc]

    async def settled(self) -> None:
        wanted = {str(VIRTUAL): "Advertised", str(LOCAL): "Holding"}
        await until(lambda: self.report() == wanted, what=f"{wanted}, was {self.report()}")


@asynccontextmanager
async def rig(*objects: Raw, addresses: Iterable[LinkAddress] = (), doubt_seconds: float = 30.0) -> AsyncIterator[Rig]:
    made = Rig(*(objects or CLUSTER), addresses=addresses)
    made.agent.doubt_seconds = doubt_seconds
    running = asyncio.ensure_future(made.agent.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(inside())


def test_agent_reaches_what_is_desired_and_says_so() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            assert found.on("kube-lb0") == {VIRTUAL, LOCAL}
            assert found.on("eth0") == {LOCAL}
            assert found.wire_routes() == {NET}
            assert SendAnnouncement(ifname=IfName("eth0"), addresses=(LOCAL,)) in found.wire.sent

    run(test)


def test_news_of_the_store_that_ask_for_nothing_else_need_no_look_at_the_kernel() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            await found.passes(3)
            await until(lambda: not found.agent.loop.is_minor and found.agent._passed is not None)
            reads, looks = found.kernel.reads, found.store.looks
            found.store.put(endpoints("somebody-elses"))
            await until(lambda: found.store.looks > looks)
            assert found.kernel.reads == reads
            found.store.put(service("more", addresses=[str(VIRTUAL + 1)]), endpoints("more"))
            await until(lambda: VIRTUAL + 1 in found.on("kube-lb0"))

    run(test)


def test_report_that_somebody_deletes_or_that_was_not_written_is_written_with_the_next_news() -> None:
    async def test() -> None:
        async with rig() as found:
            found.agent.rhythm = found.agent.loop.rhythm = Rhythm()
            await found.settled()
            await found.passes(3)
            found.store.delete({"kind": "NodeAnnouncement", "metadata": {"name": "n1"}})
            found.store.statuses.clear()
            await found.settled()
            found.store.is_writable = False
            found.store.put(service("more", addresses=[str(VIRTUAL + 1)]), endpoints("more"))
            await until(lambda: VIRTUAL + 1 in found.on("kube-lb0"))
            await found.passes(3)
            found.store.is_writable = True
            found.store.put(endpoints("somebody-elses"))
            await until(lambda: str(VIRTUAL + 1) in found.report())

    run(test)


def test_agent_that_has_everything_changes_nothing_and_writes_nothing() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            await found.passes(3)
            writes, applied = found.store.writes, len(found.kernel.applied)
            await found.passes(5)
            assert found.store.writes == writes
            assert len(found.kernel.applied) == applied

    run(test)


def test_agent_repairs_what_somebody_takes_away() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            found.kernel.change(replace(kernel(), addresses=kernel().addresses))
            await until(lambda: found.on("kube-lb0") == {VIRTUAL, LOCAL} and found.on("eth0") == {LOCAL})

    run(test)


def test_agent_knows_nothing_and_takes_nothing_away() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            found.store.is_synced = False
            await found.passes(3)
            assert found.on("kube-lb0") == {VIRTUAL, LOCAL}
            assert found.wire_routes() == {NET}

    run(test)


def test_agent_whose_node_is_gone_hands_over_what_is_local_and_touches_nothing_else() -> None:
    async def test() -> None:
        async with rig(*CLUSTER, node("n2")) as found:
            await found.settled()
            found.store.delete(node("n1"))
            await until(lambda: found.on("eth0") == set(), what="the local address was given up")
            assert found.on("kube-lb0") == {VIRTUAL, LOCAL}
            assert found.wire_routes() == {NET}

    run(test)


def test_agent_of_the_last_node_that_is_gone_keeps_everything() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            found.store.delete(node("n1"))
            await found.passes(3)
            assert found.agent.owner.state.entries[(IfName("eth0"), LOCAL)].phase is own.Phase.HOLDING

    run(test)


def test_agent_attracts_nothing_to_an_address_that_it_could_not_put() -> None:
    async def test() -> None:
        made = Rig(*CLUSTER)
        made.kernel.fail = {PutAddresses}
        running = asyncio.ensure_future(made.agent.run())
        await until(lambda: made.report().get(str(VIRTUAL)) == "RoutePending")
        assert made.wire_routes() == set()
        made.kernel.fail = set()
        await made.settled()
        running.cancel()
        await asyncio.wait({running})

    run(test)


def test_agent_announces_without_a_port_guard_where_none_can_be_put_and_says_so() -> None:
    async def test() -> None:
        async with rig() as found:
            found.kernel.fail = {PutGuard}
            await found.settled()
            status = found.store.statuses[("NodeAnnouncement", "", "n1")]
            assert status["errors"] == ["PutGuard: refused"]
            found.kernel.fail = set()
            await until(lambda: found.kernel.seen.guard is not None)

    run(test)


def test_agent_goes_on_when_the_kernel_could_not_be_read_for_a_while() -> None:
    async def test() -> None:
        async with rig() as found:
            found.kernel.is_readable = False
            await found.passes(2)
            found.kernel.is_readable = True
            await found.settled()

    run(test)


def test_agent_announces_although_no_status_can_be_written() -> None:
    async def test() -> None:
        async with rig() as found:
            found.store.is_writable = False
            await until(lambda: found.wire_routes() == {NET} and found.on("eth0") == {LOCAL})

    run(test)


def test_agent_drains_withdraws_then_lets_the_address_go() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
            found.store.delete(WEB)
            await until(lambda: found.wire_routes() == set())
            kinds = [type(a) for a in found.sidecar.applied if isinstance(a, AdvertiseRoutes | WithdrawRoutes)]
            assert kinds[-2:] == [AdvertiseRoutes, WithdrawRoutes]
            await until(lambda: _lifetime(found) is not None)

    run(test)


def test_agent_of_a_node_that_goes_is_not_ended_before_it_is_drained() -> None:
    async def test() -> None:
        async with rig(*CLUSTER, node("n2")) as found:
            await found.settled()
            assert await found.agent.leave() == "in service: nothing is given up"
            assert (found.wire_routes(), found.on("eth0")) == ({NET}, {LOCAL})
            leaving = asyncio.ensure_future(found.agent.leave())
            ready = {"type": "Ready", "status": "False", "message": "node is shutting down"}
            found.store.put(node("n1") | {"status": {"conditions": [ready]}})
            assert await leaving == "drained"
            assert (found.wire_routes(), found.on("eth0")) == (set(), set())
            kinds = [type(a) for a in found.sidecar.applied if isinstance(a, AdvertiseRoutes | WithdrawRoutes)]
            assert kinds[-2:] == [AdvertiseRoutes, WithdrawRoutes]

    run(test)


def _lifetime(found: Rig) -> int | None:
    return next(a.valid_seconds for a in found.kernel.seen.addresses if a.address == VIRTUAL)


def test_agent_leaves_an_address_that_a_foreign_host_has() -> None:
    async def test() -> None:
        async with rig() as found:
            heard = Heard(ifname=IfName("eth0"), address=LOCAL, lladdr="02:00:00:00:00:99")
            await until(lambda: found.report().get(str(LOCAL)))
            found.agent.owner.heard([heard])
            await until(lambda: found.report().get(str(LOCAL)) == "AddressHeldByForeignHost" or _lost(found))

    run(test)


def _lost(found: Rig) -> bool:
    """Where this node held it already, one of both keeps it by the protocol's rule."""
    return found.report().get(str(LOCAL)) == "Holding"


def test_agent_says_good_bye_by_widening_the_fence() -> None:
    async def test() -> None:
        async with rig() as found:
            await found.settled()
        await found.agent.farewell()
        last = [a for a in found.kernel.applied if isinstance(a, PutAddresses)][-1]
        assert last == PutAddresses(ifname=IfName("eth0"), addresses=(LOCAL,), valid_seconds=300)

    run(test)


def test_agent_tells_what_it_begins_to_announce_once() -> None:
    async def test() -> None:
        async with rig() as found:
            await until(lambda: len(found.store.notes) >= 3)
            await found.passes(3)
            assert {(n.ref.name, n.reason) for n in found.store.notes} == {
                ("here", "AnnouncingLocal"),
                ("web", "AnnouncingNonLocal"),
                ("tor", "BGPSessionUp"),
            }
            assert len(found.store.notes) == 3

    run(test)


def many(count: int) -> list[Raw]:
    names = [f"s{n}" for n in range(count)]
    return [
        one
        for n, name in enumerate(names)
        for one in (service(name, addresses=[f"10.111.111.{100 + n}"]), endpoints(name))
    ]


def test_agent_reports_what_moved_once_and_tells_each_once() -> None:
    async def test() -> None:
        home = group("local", "10.111.111.100-10.111.111.110", "10.111.111.0/24")
        async with rig(node("n1"), home, *many(10)) as found:
            await until(lambda: sum(move["count"] for move in found.moves()) == 10)
            assert {(m["link"], m["from"], m["to"], m["reason"]) for m in found.moves()} == {
                ("eth0", "", "n1", "unheld")
            }
            assert min(w for m in found.moves() for w in m["services"]) == "test/s0 10.111.111.100"
            await found.passes(3)
            writes = found.store.writes
            await found.passes(3)
            assert found.store.writes == writes
            assert sorted(n.ref.name for n in found.store.notes) == [f"s{n}" for n in range(10)]

    run(test)


def test_agent_keeps_what_the_agent_before_it_reported() -> None:
    async def test() -> None:
        move = {"time": "2026-11-25T12:00:00Z", "link": "eth0", "from": "n2", "to": "n1", "reason": "node-dead"}
        before = move | {"silentSeconds": 0.3, "count": 1, "services": ["test/here 10.111.111.100"]}
        report = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"moves": [before]})
        async with rig(*CLUSTER, report) as found:
            await found.settled()
            assert [m["reason"] for m in found.moves()] == ["node-dead", "unheld"]
            assert found.moves()[0] == before
            assert [n.message for n in found.store.notes if "node-dead" in n.message] == []

    run(test)


def test_agent_in_doubt_keeps_what_the_agent_before_it_reported() -> None:
    async def test() -> None:
        move = {"time": "2026-11-25T12:00:00Z", "link": "eth0", "from": "n2", "to": "n1", "reason": "node-dead"}
        before = move | {"silentSeconds": 0.3, "count": 1, "services": ["test/here 10.111.111.100"]}
        report = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"moves": [before]})
        async with rig(node("n1"), report, addresses=earlier()) as found:
            await until(lambda: found.moves() == [before])

    run(test)


def test_moves_that_could_not_be_written_are_told_when_they_can() -> None:
    async def test() -> None:
        async with rig() as found:
            found.store.is_writable = False
            await until(lambda: found.on("eth0") == {LOCAL})
            await found.passes(3)
            assert found.store.notes == []
            found.store.is_writable = True
            await found.settled()
            assert [m["reason"] for m in found.moves()] == ["unheld"]
            assert sorted(n.reason for n in found.store.notes) == [
                "AnnouncingLocal",
                "AnnouncingNonLocal",
                "BGPSessionUp",
            ]

    run(test)


def test_agent_says_that_the_store_is_held() -> None:
    async def test() -> None:
        async with rig() as found:
            found.store.is_held = True
            found.store.tell()
            await until(
                lambda: "store: held" in found.store.statuses.get(("NodeAnnouncement", "", "n1"), {}).get("errors", ())
            )

    run(test)


def earlier() -> list[LinkAddress]:
    """What an earlier life of the agent left on the node."""
    return [
        LinkAddress(
            ifname=IfName("kube-lb0"), address=ip(f"10.113.113.{n}"), prefixlen=32, scope=Scope.LINK, protocol=201
        )
        for n in (7, 8, 9)
    ]


def test_agent_that_starts_believes_no_store_that_takes_almost_everything_away() -> None:
    async def test() -> None:
        async with rig(node("n1"), addresses=earlier()) as found:
            await found.passes(3)
            assert {a.valid_seconds for a in found.kernel.seen.addresses if a.ifname == "kube-lb0"} == {None}
            assert found.store.refreshes == 0

    run(test)


def test_agent_believes_it_once_a_second_look_agrees() -> None:
    async def test() -> None:
        async with rig(node("n1"), addresses=earlier(), doubt_seconds=0.05) as found:
            await until(lambda: all(a.valid_seconds for a in found.kernel.seen.addresses if a.ifname == "kube-lb0"))
            assert found.store.refreshes == 1

    run(test)


def test_agent_believes_it_when_a_person_says_so() -> None:
    async def test() -> None:
        async with rig(node("n1"), addresses=earlier()) as found:
            await found.passes(2)
            found.agent.release()
            await until(lambda: all(a.valid_seconds for a in found.kernel.seen.addresses if a.ifname == "kube-lb0"))
            assert found.store.releases == 1

    run(test)


def test_doubt_is_reported_and_nothing_else_is_claimed() -> None:
    async def test() -> None:
        async with rig(node("n1"), addresses=earlier()) as found:
            key = ("NodeAnnouncement", "", "n1")
            await until(lambda: found.store.statuses.get(key))
            status: Any = found.store.statuses[key]
            assert "over half of this node's addresses would go" in status["holds"][0]["message"]
            assert status["errors"] == [status["holds"][0]["message"]]
            assert "addresses" not in status
            assert [link["ifname"] for link in status["links"]]
            writes = found.store.writes
            await found.passes(3)
            assert found.store.writes == writes
            found.agent.release()
            await until(lambda: found.store.statuses[key]["holds"] == [] and "addresses" in found.store.statuses[key])

    run(test)
