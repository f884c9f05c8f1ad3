"""Every row of the fault table (docs: what an API server may do to its clients) in front of a real API server."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from announcer.store import StoreError, StoreHealth
from announcer.store.kubernetes import Client, Timing
from tests import kube
from tests.builders import NODES, endpoints, group, node, service
from tests.cluster import Cluster, cluster
from tests.fakes.apiproxy import AnyFault, Fault, FaultProxy, HttpError, Request
from tests.waiting import stays, until

pytestmark = pytest.mark.kubernetes
WEB, API, SHOP = service("web"), service("api"), service("shop")
SERVICES = "/api/v1/services"
HANDS = ThreadPoolExecutor(max_workers=1)
HTML = b"<html><body>Internal Server Error</body></html>"


class Bench:
    """A store whose API server is behind a proxy, and somebody who changes objects without it."""

    def __init__(self, proxy: FaultProxy, client: Client, objects: kube.Objects, stack: AsyncExitStack) -> None:
        self.proxy, self.client, self.objects, self.stack = proxy, client, objects, stack

    async def start(self, timing: Timing = kube.QUICK) -> kube.Running:
        found = await self.stack.enter_async_context(kube.running(kube.store(self.client, timing=timing)))
        await found.is_synced()
        return found

    def keeps(self, running: kube.Running, *names: str) -> None:
        """Fail at the end if any of these Services was ever missing."""

        def judge() -> None:
            for one in running.seen:
                assert set(names) <= {s.ref.name for s in one.services}

        self.stack.callback(judge)

    async def away(self) -> None:
        """The server answers 503 to everything, watches end."""
        self.proxy.set(HttpError(status=503, body=b""))
        self.proxy.drop_connections()

    def asked(self, path: str = SERVICES) -> list[Request]:
        return [request for request in self.proxy.requests if request.path == path]

    def lists(self) -> int:
        return sum(request.query.get("limit") == "500" for request in self.asked())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        kube.install(made, "test", "purelb-system")
        yield made


def run(server: Cluster, tmp_path: Path, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60), AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(FaultProxy(server.server.url, server.server.ca_file))
            config = kube.kubeconfig(tmp_path / "kubeconfig", proxy.url, server.server.token("admin"))
            client = await stack.enter_async_context(Client(config))
            admin = await stack.enter_async_context(Client(server.server.kubeconfig("admin")))
            objects = kube.Objects(admin)
            await objects.put(WEB, API, SHOP)
            await test(Bench(proxy, client, objects, stack))
        await kube.transports_closed()

    try:
        asyncio.run(within())
    finally:
        server.kubectl("delete", "services,servicegroups,nodes,endpointslices", "--all", "-A", "--wait=true")


async def in_background(work: Callable[..., object], *arguments: object, **more: object) -> None:
    """In a thread that lives as long as this process: what it starts ends with the thread (prctl(2) PDEATHSIG)."""
    await asyncio.get_running_loop().run_in_executor(HANDS, partial(work, *arguments, **more))


def is_watch_of_services(request: Request) -> bool:
    return request.is_watch and request.path == SERVICES


def test_watch_closed_at_once_is_asked_for_seldom(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        at.proxy.set(Fault.CLOSE_AT_ONCE)
        running = await at.start(Timing())
        began = len(at.proxy.requests)
        await stays(lambda: running.names() == ["api", "shop", "web"], seconds=5, what="the snapshot")
        asked = Counter(request.path for request in at.proxy.requests[began:])
        assert max(asked.values()) < 10, asked
        assert running.store.health().is_stale
        at.proxy.clear()
        await at.objects.delete(API)
        await running.has("shop", "web")

    run(server, tmp_path, test)


@pytest.mark.parametrize("fault", [Fault.GONE_EVENT, HttpError(status=410)])
def test_after_410_deletions_are_found_and_nothing_else_changes(
    server: Cluster, tmp_path: Path, fault: AnyFault
) -> None:
    async def test(at: Bench) -> None:
        running = await at.start()
        at.keeps(running, "web", "shop")
        await at.away()
        await until(lambda: running.store.health().is_stale)
        await at.objects.delete(API)
        await at.objects.put(service("new"))
        before = at.lists()
        at.proxy.set(fault, matches=lambda request: request.is_watch)
        await running.has("new", "shop", "web")
        assert at.lists() > before

    run(server, tmp_path, test)


@pytest.mark.parametrize(
    "fault",
    [
        HttpError(status=403),
        HttpError(status=404),
        HttpError(status=429, retry_after=1),
        HttpError(status=500, body=HTML, content_type="text/html"),
        HttpError(status=503, body=b"", content_type="text/plain"),
        HttpError(status=200, body=HTML, content_type="text/html"),
        HttpError(status=200, body=b"{}"),
        HttpError(status=200, body=b'{"kind":"ServiceList","metadata":{},"items":[]}'),
    ],
    ids=lambda fault: f"{fault.status}-{fault.content_type}-{len(fault.body or b'')}",
)
def test_error_keeps_everything_and_is_retried_seldom(server: Cluster, tmp_path: Path, fault: HttpError) -> None:
    async def test(at: Bench) -> None:
        running = await at.start(replace(kube.QUICK, retry_first=0.08, retry_most=3.0))
        at.keeps(running, "web", "api", "shop")
        at.proxy.set(fault)
        at.proxy.drop_connections()
        before = len(at.asked())
        await until(lambda: running.store.health().is_stale)
        await stays(lambda: len(at.asked()) - before < 10, seconds=0.5, what="less than 10 requests")
        if fault.retry_after:
            assert len(at.asked()) - before <= 2
        at.proxy.clear()
        await at.objects.put(service("new"))
        await running.has("api", "new", "shop", "web")
        await until(lambda: running.store.health() == StoreHealth(is_synced=True))

    run(server, tmp_path, test)


def test_reset_in_the_middle_of_a_line_resumes_where_it_was(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        running = await at.start()
        at.keeps(running, "web", "api", "shop")
        lists = at.lists()
        at.proxy.set(Fault.RESET_MID_LINE, matches=is_watch_of_services)
        await at.objects.put(service("new"))
        await until(lambda: running.store.health().is_stale)
        at.proxy.clear()
        await running.has("api", "new", "shop", "web")
        assert at.lists() == lists

    run(server, tmp_path, test)


def test_server_that_is_killed_and_started_again_loses_nothing(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        running = await at.start()
        at.keeps(running, "web", "api", "shop")
        await in_background(server.stop, "apiserver")
        await until(lambda: running.store.health().is_stale)
        await in_background(server.start, "apiserver")
        await at.objects.put(service("new"))
        await running.has("api", "new", "shop", "web")
        await until(lambda: running.store.health() == StoreHealth(is_synced=True))

    run(server, tmp_path, test)


def test_half_open_connection_is_given_up(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        running = await at.start(replace(kube.QUICK, idle=0.5))
        at.keeps(running, "web", "api", "shop")
        at.proxy.set(Fault.HALF_OPEN)
        await at.objects.put(service("new"))
        await until(lambda: running.store.health().is_stale)
        at.proxy.clear()
        await running.has("api", "new", "shop", "web")

    run(server, tmp_path, test)


def test_list_that_hangs_is_given_up_and_asked_for_again(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        at.proxy.set(Fault.HANG_LISTS)
        timing = replace(kube.QUICK, page=0.3)
        running = await at.stack.enter_async_context(kube.running(kube.store(at.client, timing=timing)))
        await until(lambda: at.lists() >= 2, what="a second try")
        assert not running.store.health().is_synced
        assert running.store.health().message
        at.proxy.clear()
        await running.has("api", "shop", "web")
        at.proxy.set(Fault.HANG_LISTS)
        at.proxy.drop_connections()
        await until(lambda: running.store.health().is_stale)
        assert running.names() == ["api", "shop", "web"]

    run(server, tmp_path, test)


async def lists_nothing(at: Bench, running: kube.Running) -> None:
    """The server says that there is no Service, and is asked."""
    at.proxy.set(Fault.EMPTY_LIST, matches=lambda request: request.path == SERVICES)
    with pytest.raises(StoreError, match="not believed"):
        await running.store.refresh()
    assert running.store.health().is_held


def test_empty_list_is_believed_when_a_second_agrees(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        running = await at.start()
        began = time.monotonic()
        await lists_nothing(at, running)
        assert "Service" in running.store.health().message
        await running.has()
        assert time.monotonic() - began >= kube.QUICK.hold
        assert not running.store.health().is_held

    run(server, tmp_path, test)


def test_empty_list_that_was_a_mistake_changes_nothing(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        running = await at.start(replace(kube.QUICK, hold=30.0))
        at.keeps(running, "web", "api", "shop")
        await lists_nothing(at, running)
        at.proxy.clear()
        await until(lambda: running.store.health() == StoreHealth(is_synced=True))
        await at.objects.put(service("new"))
        await running.has("api", "new", "shop", "web")

    run(server, tmp_path, test)


def test_hold_is_released_by_hand(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        running = await at.start(replace(kube.QUICK, hold=300.0))
        await lists_nothing(at, running)
        running.store.release()
        await running.has()
        assert not running.store.health().is_held

    run(server, tmp_path, test)


def test_list_without_most_announced_addresses_is_held(server: Cluster, tmp_path: Path) -> None:
    announced = [service(f"a{i}", addresses=[f"10.113.113.10{i}"]) for i in range(3)]
    silent = [service(f"s{i}", type="ClusterIP") for i in range(6)]
    slices = [endpoints(f"a{i}", ready=True) | {"addressType": "IPv4"} for i in range(3)]
    for one in slices:
        for number, endpoint in enumerate(one["endpoints"]):
            endpoint["addresses"] = [f"10.0.0.{number + 1}"]

    async def test(at: Bench) -> None:
        await at.objects.put(group(), *map(node, NODES), *announced, *silent, *slices)
        running = await at.start(replace(kube.QUICK, hold=1.5))
        await at.away()
        await at.objects.delete(*announced[:2])
        at.proxy.set(HttpError(status=410), matches=is_watch_of_services)
        await until(lambda: running.store.health().is_held)
        assert {"a0", "a1"} <= set(running.names())
        await running.has("a2", "api", "shop", "web")

    run(server, tmp_path, test)


def test_server_restored_empty_is_not_believed_before_the_hold_ends(server: Cluster, tmp_path: Path) -> None:
    data = server.server.folder / "etcd"

    def restore(frm: str, to: str) -> None:
        server.stop()
        data.rename(data.with_name(to))
        if data.with_name(frm).exists():
            data.with_name(frm).rename(data)
        server.start()

    async def test(at: Bench) -> None:
        for i in range(200):  # an old server: its versions are far ahead of a new one's
            await at.objects.put(service("web", externalTrafficPolicy="Local" if i % 2 else "Cluster"))
        patient, hasty = await at.start(replace(kube.QUICK, hold=300.0)), await at.start()
        at.keeps(patient, "web", "api", "shop")
        before = patient.of_people()
        try:
            await in_background(restore, "none", "kept")
            await hasty.has(seconds=20)
            await until(lambda: patient.store.health().is_held)
            assert patient.of_people() == before
        finally:
            await in_background(restore, "kept", "empty")
            shutil.rmtree(data.with_name("empty"))
        await until(lambda: patient.store.health() == StoreHealth(is_synced=True), seconds=20)
        await hasty.has("api", "shop", "web", seconds=20)
        assert patient.of_people() == before

    run(server, tmp_path, test)


def test_kind_that_is_removed_from_the_server_is_believed_after_the_hold(server: Cluster, tmp_path: Path) -> None:
    async def test(at: Bench) -> None:
        await at.objects.put(group())
        running = await at.start()
        assert running.snapshot.pools
        crd = f"{kube.POOLS.plural}.{kube.POOLS.group}"
        await in_background(server.kubectl, "delete", "crd", crd)
        await until(lambda: not running.snapshot.pools, seconds=10)
        await in_background(kube.install, server, kinds=(kube.POOLS,))
        await at.objects.put(group())
        await until(lambda: running.snapshot.pools, seconds=10)

    run(server, tmp_path, test)
