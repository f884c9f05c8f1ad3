"""Leader election against a real API server, each candidate behind a proxy of its own: never two leaders at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from announcer.store.kubernetes import Client, Lease, LeaseTiming, read_held
from tests import kube
from tests.cluster import Cluster, cluster
from tests.fakes.apiproxy import AnyFault, Delay, Fault, FaultProxy, HttpError
from tests.waiting import stays, until

pytestmark = pytest.mark.kubernetes
TIMING = LeaseTiming(duration_seconds=2.0, deadline_seconds=1.2, retry_seconds=0.1, request_seconds=0.4)
TAKEOVER_SECONDS = TIMING.duration_seconds + TIMING.deadline_seconds
HANDS = ThreadPoolExecutor(max_workers=1)
"""What a thread starts ends with it (prctl(2) PDEATHSIG), and this one lives as long as the process."""


class Clock:
    """Monotonic time of another machine, which may jump."""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def __call__(self) -> float:
        return time.monotonic() + self.offset


class Candidate:
    def __init__(self, name: str, proxy: FaultProxy, client: Client, clock: Clock) -> None:
        self.name, self.proxy, self.clock, self.changes, self.held = name, proxy, clock, 0, ""
        self.lease = Lease(
            client,
            namespace="test",
            name="leader",
            identity=name,
            clock=clock,
            timing=TIMING,
            held=lambda: self.held,
        )
        self.task = asyncio.ensure_future(self.lease.run(self._changed))

    def _changed(self) -> None:
        self.changes += 1

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


class Election:
    def __init__(self, server: Cluster, candidates: list[Candidate], admin: Client) -> None:
        self.server, self.candidates, self.admin = server, candidates, admin
        self.most = 0

    def leaders(self) -> list[Candidate]:
        return [one for one in self.candidates if one.lease.is_leader()]

    async def leader(self, *, other_than: Candidate | None = None, seconds: float = TAKEOVER_SECONDS) -> Candidate:
        await until(lambda: self.leaders() and self.leaders()[0] is not other_than, seconds=seconds, what="a leader")
        return self.leaders()[0]

    async def sample(self) -> None:
        while True:
            self.most = max(self.most, len(self.leaders()))
            await asyncio.sleep(0.001)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        kube.install(made, "test", kinds=())
        yield made


@asynccontextmanager
async def election(server: Cluster, folder: Path, offsets: tuple[float, ...]) -> AsyncIterator[Election]:
    async with AsyncExitStack() as stack:
        candidates = []
        for number, offset in enumerate(offsets):
            proxy = await stack.enter_async_context(FaultProxy(server.server.url, server.server.ca_file))
            config = kube.kubeconfig(folder / f"{number}.kubeconfig", proxy.url, server.server.token("admin"))
            client = await stack.enter_async_context(Client(config))
            candidates.append(Candidate(f"c{number}", proxy, client, Clock(offset)))
            stack.push_async_callback(candidates[-1].kill)
        admin = await stack.enter_async_context(Client(server.server.kubeconfig("admin")))
        found = Election(server, candidates, admin)
        await stack.enter_async_context(kube.until_left(found.sample()))
        yield found


def run(
    server: Cluster,
    folder: Path,
    test: Callable[[Election], Awaitable[None]],
    offsets: tuple[float, ...] = (0.0, 0.0, 0.0),
) -> None:
    async def within() -> None:
        async with asyncio.timeout(60), election(server, folder, offsets) as found:
            await test(found)
            assert found.most == 1
        await kube.transports_closed()

    try:
        asyncio.run(within())
    finally:
        server.kubectl("delete", "lease", "-n", "test", "--all")


async def spoil(one: Candidate, fault: AnyFault) -> None:
    one.proxy.set(fault)
    one.proxy.drop_connections()


def test_one_of_three_leads_and_goes_on(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        await stays(lambda: at.leaders() == [first], seconds=TIMING.duration_seconds + 0.5, what="the leader")
        assert first.changes == 1

    run(server, tmp_path, test)


def test_what_the_leader_holds_back_is_seen_in_its_lease(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        first.held = "2026-01-02T03:04:05Z too few"

        async def said(what: tuple[str, str]) -> None:
            async with asyncio.timeout(TIMING.deadline_seconds):
                while await read_held(at.admin, "test", "leader") != what:  # noqa: ASYNC110 - the server is asked
                    await asyncio.sleep(0.02)

        await said((first.name, first.held))
        first.held = ""
        await said((first.name, ""))
        assert at.leaders() == [first]

    run(server, tmp_path, test)


def test_leader_that_is_killed_is_replaced_in_time(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        began = time.monotonic()
        await first.kill()
        second = await at.leader(other_than=first)
        assert time.monotonic() - began < TIMING.duration_seconds + 2 * TIMING.retry_seconds + TIMING.request_seconds
        await stays(lambda: at.leaders() == [second], seconds=0.5)

    run(server, tmp_path, test)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.HALF_OPEN,
        Fault.HANG_WRITES,
        HttpError(status=403),
        HttpError(status=500, body=b"<html>"),
        Delay(seconds=5),
    ],
    ids=str,
)
def test_leader_without_its_server_stops_before_another_leads(server: Cluster, tmp_path: Path, fault: AnyFault) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        began = time.monotonic()
        await spoil(first, fault)
        await until(lambda: not first.lease.is_leader(), what="the end of leading")
        assert time.monotonic() - began <= TIMING.deadline_seconds + 0.1
        second = await at.leader(other_than=first)
        first.proxy.clear()
        await stays(lambda: at.leaders() == [second], seconds=0.5)

    run(server, tmp_path, test)


def test_leader_whose_connections_are_refused_is_replaced(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        first.proxy.stop_listening()
        first.proxy.drop_connections()
        await at.leader(other_than=first)

    run(server, tmp_path, test)


def test_short_trouble_changes_nothing(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        for fault in (HttpError(status=500), Fault.HALF_OPEN, HttpError(status=429, retry_after=30)):
            first.proxy.requests.clear()
            await spoil(first, fault)
            await until(lambda: first.proxy.requests, what="a request that fails")
            first.proxy.clear()
            await stays(lambda: at.leaders() == [first], seconds=0.6)

    run(server, tmp_path, test)


def test_server_that_dies_leaves_no_leader_and_then_one(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        await at.leader()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(HANDS, server.stop, "apiserver")
        await until(lambda: not at.leaders(), what="no leader")
        await loop.run_in_executor(HANDS, server.start, "apiserver")
        found = await at.leader(seconds=10)
        await stays(lambda: at.leaders() == [found], seconds=0.5)

    run(server, tmp_path, test)


def test_clocks_that_differ_and_jump_make_no_second_leader(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        others = [one for one in at.candidates if one is not first]
        others[0].clock.offset += 3600.0
        others[1].clock.offset -= 3600.0
        await stays(lambda: at.leaders() == [first], seconds=TIMING.duration_seconds, what="the leader")
        first.clock.offset -= 3600.0
        await spoil(first, Fault.HALF_OPEN)
        others[0].clock.offset += 3600.0
        second = await at.leader(other_than=first, seconds=2 * TAKEOVER_SECONDS)
        second.clock.offset += 3600.0
        await until(lambda: at.leaders() == [second], what="the leader, again after a jump")

    run(server, tmp_path, test, (-1e6, 0.0, 1e9))


def test_renew_times_from_another_age_decide_nothing(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        for year in ("1970", "2999"):
            patch = f'{{"spec":{{"renewTime":"{year}-01-01T00:00:00.000000Z"}}}}'
            argv = ("patch", "lease", "leader", "-n", "test", "--type=merge", "-p", patch)
            await asyncio.to_thread(server.kubectl, *argv)
            await stays(lambda: at.leaders() == [first], seconds=0.5)

    run(server, tmp_path, test)


def test_release_hands_over_at_once(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        began = time.monotonic()
        await first.lease.release()
        assert not first.lease.is_leader()
        await at.leader(other_than=first)
        assert time.monotonic() - began < 2 * TIMING.retry_seconds + TIMING.request_seconds
        await stays(lambda: not first.lease.is_leader(), seconds=0.5)

    run(server, tmp_path, test)


def test_lease_that_a_person_deletes_stays_with_its_leader(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        await stays(lambda: at.leaders() == [first], seconds=0.5)  # the others have seen the Lease
        for _ in range(5):
            path = "/apis/coordination.k8s.io/v1/namespaces/test/leases/leader"
            await at.admin.request("DELETE", path, timeout_seconds=5)
            await stays(lambda: at.leaders() == [first], seconds=0.3)

    run(server, tmp_path, test)


def test_lease_that_goes_while_its_leader_is_cut_off_waits(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Election) -> None:
        first = await at.leader()
        await stays(lambda: at.leaders() == [first], seconds=0.5)  # the others have seen the Lease
        await spoil(first, Fault.HALF_OPEN)
        path = "/apis/coordination.k8s.io/v1/namespaces/test/leases/leader"
        await at.admin.request("DELETE", path, timeout_seconds=5)
        await at.leader(other_than=first)

    run(server, tmp_path, test)
