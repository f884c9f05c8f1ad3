"""The owner on fakes: in which order things are done, and what becomes of those that fail or come late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from announcer.core import own
from announcer.core.model import (
    Heard,
    IfName,
    Link,
    NodeName,
    PutAddresses,
    SendAnnouncement,
    SendEcho,
    SendProbe,
    SendRequest,
    WireAction,
    WireEvent,
)
from announcer.daemons.owner import Owner
from tests.builders import ip, kernel
from tests.fakes.kernel import FakeKernel
from tests.fakes.wire import FakeWire
from tests.waiting import until

ETH0, VIP = IfName("eth0"), ip("10.111.111.100")
KEY = (ETH0, VIP)
N1, N2 = NodeName("n1"), NodeName("n2")
OTHER = "02:00:00:00:00:03"
OWN = own.OwnLink(lladdr="02:00:00:00:00:02", sources=(ip("10.111.111.2"),))
NEIGHBORS = {OTHER: own.Neighbor(node=N2, addresses=(ip("10.111.111.3"),))}
TIMING = own.Timing(interval=0.01, watch=0.05, unsent=0.05)
EXPIRED = 100.0


@dataclass
class Rig:
    """An owner of node n1 that has one link; `ahead` is how far its clock is ahead of the loop's."""

    kernel: FakeKernel = field(default_factory=lambda: FakeKernel(kernel()))
    wire: FakeWire = field(default_factory=FakeWire)
    ahead: float = 0.0

    def __post_init__(self) -> None:
        self.owner = Owner(self.kernel, self.wire, self.clock, TIMING, lambda: None)
        self.plug()
        self.owner.tell(own.Present(keys=frozenset(), links={ETH0: OWN}, at=self.clock()))

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    def plug(self) -> None:
        self.wire.set_links([Link(ifname=ETH0, ifindex=2, lladdr=OWN.lladdr)])

    def may(self) -> None:
        self.owner.tell(own.May(node=N1, candidacies={KEY: (N1, N2)}, neighbors=NEIGHBORS))

    def watch(self) -> None:
        self.may()
        self.owner.heard([Heard(ifname=ETH0, address=VIP, lladdr=OTHER)])

    @property
    def phase(self) -> own.Phase:
        return self.owner.state.entries[KEY].phase

    def sent(self, kind: type) -> int:
        return sum(isinstance(action, kind) for action in self.wire.sent)


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    made = Rig()
    task = asyncio.ensure_future(made.owner.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait({task})


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    asyncio.run(whole())


def test_address_is_on_the_link_before_it_is_announced() -> None:
    async def test() -> None:
        async with running() as rig:
            rig.may()
            await until(lambda: rig.sent(SendRequest) > 0)
            assert rig.kernel.applied == [PutAddresses(ifname=ETH0, addresses=(VIP,), valid_seconds=10)]
            kinds = [type(action) for action in rig.wire.sent]
            assert kinds[:5] == [SendProbe, SendProbe, SendProbe, SendAnnouncement, SendRequest]

    run(test)


def test_address_that_the_kernel_refuses_is_not_announced() -> None:
    async def test() -> None:
        async with running() as rig:
            rig.kernel.fail.add(PutAddresses)
            rig.may()
            await until(lambda: rig.kernel.applied != [])
            assert rig.wire.sent[3:] == []

    run(test)


def test_probes_that_cannot_be_sent_claim_nothing_and_are_sent_again() -> None:
    async def test() -> None:
        async with running() as rig:
            rig.wire.set_links([])
            rig.may()
            began = rig.clock()
            await until(lambda: rig.clock() > began + 6 * TIMING.unsent)
            assert rig.phase is own.Phase.PROBING
            rig.plug()
            await until(lambda: rig.phase is own.Phase.HOLDING)

    run(test)


def test_holder_is_not_succeeded_for_questions_that_could_not_be_sent() -> None:
    async def test() -> None:
        async with running() as rig:
            rig.watch()
            rig.wire.set_links([])
            began = rig.clock()
            await until(lambda: rig.clock() > began + 8 * TIMING.watch)
            assert rig.phase is own.Phase.WATCHING
            rig.plug()
            await until(lambda: rig.phase is own.Phase.HOLDING)

    run(test)


class SlowWire(FakeWire):
    """Its first announcement takes longer than a fence lives."""

    def __init__(self) -> None:
        super().__init__()
        self.stand_still: Callable[[], None] = lambda: None

    async def apply(self, action: WireAction) -> None:
        await super().apply(action)
        if isinstance(action, SendAnnouncement):
            self.stand_still()


def test_nothing_is_put_or_announced_once_the_fence_could_have_fallen() -> None:
    async def test() -> None:
        wire = SlowWire()
        rig = Rig(wire=wire)
        wire.stand_still = lambda: setattr(rig, "ahead", EXPIRED)
        many = [(ETH0, VIP + i) for i in range(100)]
        rig.owner.tell(own.May(node=N1, candidacies=dict.fromkeys(many, (N1, N2)), neighbors=NEIGHBORS))
        rig.owner.heard([Heard(ifname=i, address=a, lladdr=OTHER) for i, a in many])
        rig.owner.tell(own.May(node=N1, candidacies=dict.fromkeys(many, (N1,)), neighbors=NEIGHBORS))
        task = asyncio.ensure_future(rig.owner.run())
        await until(lambda: rig.sent(SendProbe) > 0)
        task.cancel()
        await asyncio.wait({task})
        assert (rig.sent(SendAnnouncement), rig.sent(SendRequest)) == (1, 0)
        assert sum(isinstance(action, PutAddresses) for action in rig.kernel.applied) == 1

    run(test)


class BrokenWire(FakeWire):
    def take(self) -> tuple[WireEvent, ...]:
        raise RuntimeError("a bug")


def test_bug_in_a_beat_ends_the_owner_and_leaves_no_timer() -> None:
    async def test() -> None:
        rig = Rig(wire=BrokenWire())
        rig.watch()
        with pytest.raises(ExceptionGroup) as told:
            async with asyncio.timeout(5):
                await rig.owner.run()
        assert [str(error) for error in told.value.exceptions] == ["a bug"]
        rig.may()
        assert rig.owner._timer is None or rig.owner._timer.cancelled()

    run(test)


def test_bug_with_what_is_heard_ends_the_owner() -> None:
    async def test() -> None:
        rig = Rig()
        task = asyncio.ensure_future(rig.owner.run())
        await until(lambda: rig.owner._broken, what="its beats")
        rig.owner.state = None  # type: ignore[assignment]
        rig.owner.heard([Heard(ifname=ETH0, address=VIP, lladdr=OTHER)])
        with pytest.raises(ExceptionGroup):
            async with asyncio.timeout(5):
                await task

    run(test)


def test_beats_that_come_late_are_counted() -> None:
    async def test() -> None:
        async with running() as rig:
            rig.watch()
            await until(lambda: rig.sent(SendEcho) >= 5)
            before = rig.owner.late_beats
            rig.ahead += TIMING.interval
            await until(lambda: rig.owner.late_beats > before)

    run(test)


def test_node_is_asked_before_addresses_that_wait() -> None:
    async def test() -> None:
        rig = Rig()
        rig.wire.is_full = True
        rig.watch()
        while sum(isinstance(action, SendProbe) for action, _ in rig.owner._questions) < 3:
            rig.ahead += TIMING.interval
            rig.owner.tell(own.Tick())
        task = asyncio.ensure_future(rig.owner.run())
        await until(lambda: rig.sent(SendProbe) >= 3)
        task.cancel()
        await asyncio.wait({task})
        kinds = [type(action) for action in rig.wire.sent]
        assert SendEcho in kinds
        assert SendEcho not in kinds[kinds.index(SendProbe) : kinds.index(SendProbe) + 3]

    run(test)


def test_probes_of_others_are_heard_only_while_it_asks_itself() -> None:
    async def test() -> None:
        async with running() as rig:
            rig.may()
            await until(lambda: rig.phase is own.Phase.PROBING)
            assert rig.wire.hears_probes
            rig.owner.heard([Heard(ifname=ETH0, address=VIP, lladdr=OTHER)])
            assert rig.phase is own.Phase.WATCHING
            assert not rig.wire.hears_probes

    run(test)
