"""The allocator on a store in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from announcer.core.model import Snapshot
from announcer.daemons.allocator import Allocator, Alone
from announcer.daemons.loop import Rhythm
from tests.builders import Raw, group, pool, raw, service
from tests.fakes.store import FakeStore
from tests.waiting import stays, until


def run(store: FakeStore, test: Callable[[], Awaitable[None]], *, mirrors_in: str | None = None) -> None:
    async def inside() -> None:
        allocator = Allocator(store, Alone(), rhythm=Rhythm(retry_first=0.01), mirrors_in=mirrors_in)
        running = asyncio.ensure_future(allocator.run())
        await test()
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(inside())


def address(store: FakeStore, name: str) -> Any:
    status: Any = store.statuses.get(("Service", "test", name), {})
    return [point["ip"] for point in status.get("loadBalancer", {}).get("ingress", [])]


def condition(store: FakeStore, kind: str, name: str) -> Any:
    status: Any = next((s for (k, _, n), s in store.statuses.items() if (k, n) == (kind, name)), {})
    return {c["type"].rpartition("/")[2]: c for c in status.get("conditions", [])}


def test_every_service_gets_its_address_once() -> None:
    store = FakeStore(group(), service("a"), service("b"))

    async def test() -> None:
        await until(lambda: address(store, "a") and address(store, "b"))
        assert address(store, "a") != address(store, "b")
        writes = store.writes
        store.tell()
        await stays(lambda: store.writes == writes, seconds=0.05)

    run(store, test)


def test_refusals_and_mistakes_reach_the_objects() -> None:
    store = FakeStore(group("good"), group("bad", "10.0-0.1-10.0.0.9"), service("a", pool="none"))

    async def test() -> None:
        await until(lambda: condition(store, "ServiceGroup", "bad"))
        assert condition(store, "ServiceGroup", "bad")["Accepted"]["status"] == "False"
        assert condition(store, "ServiceGroup", "good")["Accepted"]["status"] == "True"
        assert condition(store, "Service", "a")["AddressAssigned"]["reason"] == "UnknownPool"

    run(store, test)


def test_service_that_is_no_load_balancer_any_more_loses_its_address() -> None:
    store = FakeStore(group(), service("a"))

    async def test() -> None:
        await until(lambda: address(store, "a"))
        store.put(service("a", type="ClusterIP"))
        await until(lambda: address(store, "a") == [])

    run(store, test)


def test_disk_that_is_full_is_tried_again() -> None:
    store = FakeStore(group(), service("a"))
    store.is_writable = False

    async def test() -> None:
        await stays(lambda: address(store, "a") == [], seconds=0.05)
        store.is_writable = True
        await until(lambda: address(store, "a"))

    run(store, test)


def holding(reason: str) -> Raw:
    one = {"services": ["test/a 10.0.0.0"], "mode": "local", "link": "eth0", "reason": reason}
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"addresses": [one]})


def mirrors(store: FakeStore) -> list[str]:
    return [namespace for kind, namespace, _ in store.objects if kind == "ServiceL2Status"]


def test_status_object_for_metallb_s_tools_comes_and_goes_with_the_holder() -> None:
    store = FakeStore(pool("m", "10.0.0.0/24"), service("a"), holding("Holding"))

    async def test() -> None:
        await until(lambda: mirrors(store) == ["announcer-system"])
        store.put(holding("Claiming"))
        await until(lambda: mirrors(store) == [])

    run(store, test, mirrors_in="announcer-system")


def test_status_objects_for_metallb_s_tools_can_be_switched_off() -> None:
    store = FakeStore(pool("m", "10.0.0.0/24"), service("a"), holding("Holding"))

    async def test() -> None:
        await until(lambda: address(store, "a"))
        await stays(lambda: mirrors(store) == [], seconds=0.05)

    run(store, test)


def test_event_is_told_once_per_change() -> None:
    store = FakeStore(group(), service("a"))

    async def test() -> None:
        await until(lambda: len(store.notes) == 2)
        for _ in range(3):
            store.tell()
        await stays(lambda: {n.reason for n in store.notes} == {"AddressAssigned", "Parsed"}, seconds=0.05)
        assert len(store.notes) == 2

    run(store, test)


class Terms(Alone):
    """Leads all the time, but not all of it at a stretch."""

    def __init__(self) -> None:
        self.term = 1
        self.leads = True

    def is_leader(self) -> bool:
        return self.leads


def decide_meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """What happens while the thread of a pass computes."""
    real = Allocator._decide

    def decide(self: Allocator, snapshot: Snapshot) -> object:
        found = real(self, snapshot)
        happens()
        return found

    monkeypatch.setattr(Allocator, "_decide", decide)


@pytest.mark.parametrize(("term", "leads"), [(3, True), (1, False)])
def test_what_was_decided_before_leading_ended_is_not_written(
    monkeypatch: pytest.MonkeyPatch, term: int, *, leads: bool
) -> None:
    store, terms = FakeStore(group(), service("a")), Terms()

    def ends() -> None:
        terms.term, terms.leads = term, leads

    decide_meanwhile(monkeypatch, ends)

    async def test() -> None:
        await Allocator(store, terms).one_pass()
        assert store.writes == 0

    asyncio.run(test())


def test_service_is_written_with_what_it_meant_when_that_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore(group(), service("a"))
    before = store.snapshot()
    assert isinstance(before, Snapshot)
    decide_meanwhile(monkeypatch, lambda: store.put(service("a", type="ClusterIP")))

    async def test() -> None:
        await Allocator(store, Alone()).one_pass()
        assert store.bases[("Service", "test", "a")] == before.services[0]
        assert store.bases[("ServiceGroup", "purelb-system", "default")] is None

    asyncio.run(test())


def test_everything_is_read_again_in_each_term_of_leadership() -> None:
    store, terms = FakeStore(group(), service("a")), Terms()

    async def test() -> None:
        running = asyncio.ensure_future(Allocator(store, terms).run())
        try:
            await until(lambda: address(store, "a"))
            assert store.refreshes == 1
            terms.term += 1  # lost and won between two passes
            store.tell()
            await until(lambda: store.refreshes == 2)
        finally:
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(asyncio.wait_for(test(), 20))
