"""The Lease's rules in virtual time, against a Lease in memory that keeps the API server's promises."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from announcer.store.kubernetes import ApiError, Client, Lease, LeaseTiming, read_held
from tests.waiting import until

TIMING = LeaseTiming()


@dataclass(slots=True)
class World:
    """One Lease, compare-and-swap by resourceVersion, and the clocks of who looks at it."""

    found: dict[str, Any] | None = None
    version: int = 100
    boottime: float = 1000.0
    steady: float = 5.0
    failing: bool = False
    calls: list[str] = field(default_factory=list)

    def pass_by(self, seconds: float) -> None:
        self.boottime, self.steady = self.boottime + seconds, self.steady + seconds

    def write(self, holder: str, seconds: int = 12, **spec: Any) -> None:
        self.version += 1
        metadata = {"name": "leader", "resourceVersion": str(self.version)}
        self.found = {"metadata": metadata, "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds, **spec}}

    @property
    def spec(self) -> dict[str, Any]:
        assert self.found is not None
        spec: dict[str, Any] = self.found["spec"]
        return spec

    async def request(self, method: str, path: str, *, body: Any = None, timeout_seconds: float) -> bytes:
        self.calls.append(method)
        if self.failing:
            raise ApiError("no answer")
        if method == "GET" and self.found is None:
            raise ApiError("not there", status=404)
        if method == "POST" and self.found is not None:
            raise ApiError("is there", status=409)
        if method == "PUT" and (self.found is None or body["metadata"]["resourceVersion"] != str(self.version)):
            raise ApiError("another version", status=409)
        if method != "GET":
            self.version += 1
            metadata = {**body["metadata"], "resourceVersion": str(self.version)}
            self.found = {**body, "metadata": metadata}
        return json.dumps(self.found).encode()

    def lease(self, identity: str = "us", **more: Any) -> Lease:
        client = cast("Client", self)  # it asks for nothing but `request`
        clocks: dict[str, Any] = {"clock": lambda: self.boottime, "steady": lambda: self.steady}
        return Lease(client, namespace="n", name="leader", identity=identity, timing=TIMING, **clocks, **more)


def look(lease: Lease) -> bool:
    """One round of `run`, whose failures it would log; whether it leads then."""

    async def one() -> None:
        task = asyncio.ensure_future(lease.run(lambda: None))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(one())
    return lease.is_leader()


def led(world: World) -> Lease:
    """A lease of ours that leads."""
    world.write("")
    lease = world.lease()
    assert look(lease)
    return lease


def test_released_lease_is_taken_at_once() -> None:
    world = World()
    led(world)
    assert (world.spec["holderIdentity"], world.spec["leaseDurationSeconds"]) == ("us", 12)


@pytest.mark.parametrize(("stated", "mine"), [(12, 12.0), (30, 30.0), (1, 12.0), (0, 12.0)])
def test_another_holder_is_waited_for_from_when_we_saw_it(stated: int, mine: float) -> None:
    world = World()
    world.write("other", stated, renewTime="1970-01-01T00:00:00.000000Z")
    lease = world.lease()
    for seconds in (0.0, mine - 0.1):
        world.pass_by(seconds)
        assert not look(lease)
    world.pass_by(0.2)
    assert look(lease)


def test_renewal_of_another_begins_the_wait_anew() -> None:
    world = World()
    world.write("other")
    lease = world.lease()
    for _ in range(10):
        assert not look(lease)
        world.pass_by(11.0)
        world.write("other")


@pytest.mark.parametrize("clock", ["boottime", "steady"])
def test_jump_of_one_clock_makes_no_leader(clock: str) -> None:
    world = World()
    world.write("other")
    lease = world.lease()
    look(lease)
    setattr(world, clock, getattr(world, clock) + 3600.0)
    assert not look(lease)


@pytest.mark.parametrize("clock", ["boottime", "steady"])
def test_either_clock_ends_leading(clock: str) -> None:
    world = World()
    lease = led(world)
    setattr(world, clock, getattr(world, clock) + TIMING.deadline_seconds)
    assert not lease.is_leader()


def test_deadline_counts_from_the_sending_of_the_last_good_renewal() -> None:
    world = World()
    lease = led(world)
    world.failing = True
    world.pass_by(TIMING.deadline_seconds - 0.1)
    assert look(lease)
    world.pass_by(0.2)
    assert not look(lease)
    world.failing = False
    assert look(lease)


def test_leading_that_begins_anew_within_one_round_is_told() -> None:
    world = World()
    world.write("")
    quick = LeaseTiming(retry_seconds=0.01)
    client = cast("Client", world)
    clocks: dict[str, Any] = {"clock": lambda: world.boottime, "steady": lambda: world.steady}
    lease = Lease(client, namespace="n", name="leader", identity="us", timing=quick, **clocks)
    told: list[int] = []

    async def test() -> None:
        task = asyncio.ensure_future(lease.run(lambda: told.append(lease.term)))
        await until(lambda: told == [1])
        world.pass_by(TIMING.deadline_seconds + 0.1)  # a suspended machine
        await until(lambda: told == [1, 2])
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(test())


def test_leader_that_sees_another_holder_stops_at_once() -> None:
    world = World()
    lease = led(world)
    world.write("other")
    assert not look(lease)


def test_lease_that_is_gone_is_made_again_by_its_leader_only() -> None:
    world = World()
    lease, other = led(world), world.lease("other")
    look(other)
    world.found = None
    assert not look(other)
    assert look(lease)
    world.found = None
    assert not look(other)
    world.pass_by(TIMING.duration_seconds - 0.1)
    assert not look(other)
    world.pass_by(0.2)
    assert look(other)


def test_lease_that_never_was_is_made_after_two_looks() -> None:
    world = World()
    lease = world.lease()
    assert not look(lease)
    world.pass_by(2 * TIMING.retry_seconds)
    assert look(lease)
    assert world.spec["leaseTransitions"] == 0


@pytest.mark.parametrize("holder", ["", "us", "other"])
def test_lease_of_a_restored_server_is_waited_for(holder: str) -> None:
    world = World()
    world.write("other")
    lease = world.lease()
    look(lease)
    world.version = 7
    world.write(holder)
    assert not look(lease)
    world.pass_by(TIMING.duration_seconds)
    assert look(lease)


def test_write_of_somebody_quicker_is_respected() -> None:
    world = World()
    world.write("other")
    lease, rival = world.lease(), world.lease("rival")
    look(lease)
    look(rival)
    world.pass_by(TIMING.duration_seconds)
    assert (look(rival), look(lease)) == (True, False)


def test_transitions_count_changes_of_the_holder() -> None:
    world = World()
    lease = led(world)
    before = (world.spec["leaseTransitions"], world.spec["acquireTime"])
    look(lease)
    assert (world.spec["leaseTransitions"], world.spec["acquireTime"]) == before
    world.write("other", leaseTransitions=4)
    look(lease)
    world.pass_by(12.0)
    look(lease)
    assert world.spec["leaseTransitions"] == 5


def test_release_clears_the_holder_and_ends_for_good() -> None:
    world = World()
    lease = led(world)
    asyncio.run(lease.release())
    assert (world.spec["holderIdentity"], lease.is_leader(), look(lease)) == ("", False, False)


def test_release_of_what_another_holds_writes_nothing() -> None:
    world = World()
    lease = led(world)
    world.write("other")
    world.calls.clear()
    asyncio.run(lease.release())
    assert (world.calls, lease.is_leader()) == (["GET"], False)


def test_release_works_also_after_the_deadline() -> None:
    world = World()
    lease = led(world)
    world.pass_by(TIMING.deadline_seconds)
    asyncio.run(lease.release())
    assert world.spec["holderIdentity"] == ""


@pytest.mark.parametrize(
    "times",
    [
        {"duration_seconds": 7.0},
        {"deadline_seconds": 4.0},
        {"retry_seconds": 3.0},
        {"request_seconds": 4.0},
        {"retry_seconds": 0.0},
        {"request_seconds": 0.0},
    ],
    ids=str,
)
def test_timing_that_leaves_no_room_is_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="lease"):
        LeaseTiming(**times)


@pytest.mark.parametrize("seconds", [9.0, 12.0, 60.0])
def test_timing_of_a_duration_leaves_a_write_its_time(seconds: float) -> None:
    found = LeaseTiming.of(seconds)
    assert found.duration_seconds - found.deadline_seconds >= 5.0


def test_default_timing_replaces_a_leader_within_15_seconds() -> None:
    late = 1.1 * TIMING.retry_seconds  # after the last renewal, until we see it
    assert late + TIMING.duration_seconds + 0.5 < 15.0
    assert LeaseTiming.of(12.0) == TIMING


def test_what_the_leader_holds_back_stands_in_its_lease() -> None:
    world, said = World(), [""]
    world.write("")
    lease = world.lease(held=lambda: said[0])
    client = cast("Client", world)

    def annotations() -> Any:
        assert world.found is not None
        return world.found["metadata"]["annotations"]

    assert look(lease)
    assert world.found is not None
    world.found["metadata"]["annotations"] = {"somebody": "else's"}
    said[0] = "2026-01-02T03:04:05Z too few"
    world.pass_by(1)
    assert look(lease)
    assert annotations() == {"somebody": "else's", "announcer.io/held": said[0]}
    assert asyncio.run(read_held(client, "n", "leader")) == ("us", said[0])
    asyncio.run(lease.release())
    assert annotations() == {"somebody": "else's"}


def test_lease_that_is_made_says_what_is_held_back_at_once() -> None:
    world = World()
    lease = world.lease(held=lambda: "2026-01-02T03:04:05Z too few")
    look(lease)
    world.pass_by(2 * TIMING.retry_seconds)
    assert look(lease)
    assert asyncio.run(read_held(cast("Client", world), "n", "leader"))[1] == "2026-01-02T03:04:05Z too few"


def test_lease_that_cannot_be_read_holds_nothing_back() -> None:
    world = World(failing=True)
    assert asyncio.run(read_held(cast("Client", world), "n", "leader")) == ("", "")
