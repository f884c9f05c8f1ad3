"""One suite for the folder of manifests and the Kubernetes API: what the daemons rely on is true of both."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

from announcer.core.dialects import assemble, parse
from announcer.core.model import UNKNOWN, ObjectRef, Snapshot, TrafficPolicy, Unknown
from announcer.store import StoreError, StoreHealth
from announcer.store.kubernetes import Client
from announcer.store.manifests import ManifestStore
from tests import kube
from tests.builders import Raw, group, node, service
from tests.cluster import cluster
from tests.fakes.apiproxy import FaultProxy, HttpError, Request
from tests.waiting import stays, until

SERVICE = ObjectRef(kind="Service", namespace="test", name="web")
POOL = ObjectRef(kind="ServiceGroup", namespace="purelb-system", name="default")
REPORT = ObjectRef(kind="NodeAnnouncement", name="n1")
INGRESS = {"loadBalancer": {"ingress": [{"ip": "10.113.113.100", "ipMode": "VIP"}]}}
OTHER = {"loadBalancer": {"ingress": [{"ip": "10.113.113.101", "ipMode": "VIP"}]}}
BAD = group(pool="10.113.113-100-10.113.113.200")


class Store(Protocol):
    def snapshot(self) -> Snapshot | Unknown: ...
    def health(self) -> StoreHealth: ...
    async def run(self, wake: Callable[[], None]) -> None: ...
    async def refresh(self) -> None: ...
    async def write_status(self, ref: ObjectRef, status: Raw) -> None: ...


class Source(Protocol):
    """Where the objects are, seen by the people who put them there."""

    store: Store

    async def put(self, *objects: Raw) -> None: ...
    async def delete(self, *objects: Raw) -> None: ...
    async def status(self, ref: ObjectRef) -> Raw: ...
    async def go_away(self) -> None: ...
    async def come_back(self) -> None: ...
    async def refuse_writes(self) -> None: ...
    async def take_writes(self) -> None: ...
    def writes(self) -> object:
        """Something that is another after each write."""
        ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.root, self.away = root, root.with_name("away")
        root.mkdir()
        self.store: Store = ManifestStore(root, parse=parse, assemble=assemble, settle_seconds=0.05)

    def _file(self, one: Raw) -> Path:
        return self.root / f"{one['kind']}-{one['metadata']['name']}.json"

    async def put(self, *objects: Raw) -> None:
        for one in objects:
            self._file(one).write_text(json.dumps(one))

    async def delete(self, *objects: Raw) -> None:
        for one in objects:
            self._file(one).unlink()

    def _status_file(self, ref: ObjectRef) -> Path:
        return self.root / ".status" / ref.kind.lower() / (ref.namespace or "_cluster") / f"{ref.name}.json"

    async def status(self, ref: ObjectRef) -> Raw:
        path = self._status_file(ref)
        found: Raw = json.loads(path.read_text())["status"] if path.exists() else {}
        return found

    async def go_away(self) -> None:
        self.root.rename(self.away)

    async def come_back(self) -> None:
        self.away.rename(self.root)

    async def refuse_writes(self) -> None:
        (self.root / ".status").write_text("a file, where a folder has to be")

    async def take_writes(self) -> None:
        (self.root / ".status").unlink()

    def writes(self) -> object:
        return [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in self.root.rglob(".status/**/*.json")]


class Api:
    def __init__(self, store: Store, objects: kube.Objects, proxy: FaultProxy) -> None:
        self.store, self.objects, self.proxy = store, objects, proxy

    async def put(self, *objects: Raw) -> None:
        await self.objects.put(*objects)

    async def delete(self, *objects: Raw) -> None:
        await self.objects.delete(*objects)

    async def status(self, ref: ObjectRef) -> Raw:
        version = {"Service": "v1", "ServiceGroup": "purelb.io/v1", "NodeAnnouncement": "announcer.io/v1alpha1"}
        metadata = {"name": ref.name, "namespace": ref.namespace}
        found = await self.objects.get({"apiVersion": version[ref.kind], "kind": ref.kind, "metadata": metadata})
        status: Raw = found.get("status", {})
        return status

    async def go_away(self) -> None:
        self.proxy.stop_listening()
        self.proxy.drop_connections()

    async def come_back(self) -> None:
        await self.proxy.listen()

    async def refuse_writes(self) -> None:
        self.proxy.set(HttpError(status=403), matches=_is_write)

    async def take_writes(self) -> None:
        self.proxy.clear()

    def writes(self) -> object:
        return [request for request in self.proxy.requests if _is_write(request) and "events" not in request.path]


def _is_write(request: Request) -> bool:
    return request.method != "GET"


Open = Callable[[Path], AbstractAsyncContextManager[Source]]


@asynccontextmanager
async def _folder(tmp_path: Path) -> AsyncIterator[Source]:
    yield Folder(tmp_path / "manifests")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        kube.install(made, "test", "purelb-system")
        token = made.server.token("admin")

        @asynccontextmanager
        async def opened(tmp_path: Path) -> AsyncIterator[Source]:
            async with (
                FaultProxy(made.server.url, made.server.ca_file) as proxy,
                Client(kube.kubeconfig(tmp_path / "kubeconfig", proxy.url, token)) as client,
                Client(made.server.kubeconfig("admin")) as admin,
            ):
                store = kube.store(client)
                yield Api(store, kube.Objects(admin), proxy)
                made.kubectl("delete", "services,servicegroups,nodes,nodeannouncements", "--all", "-A", "--wait=false")

        yield opened


@pytest.fixture(params=["folder", pytest.param("api", marks=pytest.mark.kubernetes)])
def source(request: pytest.FixtureRequest) -> Open:
    found: Open = request.getfixturevalue("api") if request.param == "api" else _folder
    return found


class Home:
    def __init__(self, source: Source) -> None:
        self.source, self.store, self.wakes = source, source.store, 0

    def wake(self) -> None:
        self.wakes += 1

    @property
    def snapshot(self) -> Snapshot:
        found = self.store.snapshot()
        assert isinstance(found, Snapshot)
        return found

    def services(self) -> list[str]:
        found = self.store.snapshot()
        return [s.ref.name for s in found.services if s.is_load_balancer] if isinstance(found, Snapshot) else []

    def is_local(self, name: str) -> bool:
        return any(s.ref.name == name and s.traffic_policy is TrafficPolicy.LOCAL for s in self.snapshot.services)

    def ingress(self) -> list[str]:
        return [str(a) for s in self.snapshot.services for a in s.status_addresses]

    async def has(self, *names: str) -> None:
        await until(lambda: self.services() == sorted(names), what=f"services {names}")

    async def write(self, ref: ObjectRef, status: Raw) -> None:
        """Until it is written: a store may be told of an object a moment after it could be seen."""
        await self.store.write_status(ref, status)

        deadline = asyncio.get_running_loop().time() + 5
        while {k: (await self.source.status(ref)).get(k) for k in status} != status:
            assert asyncio.get_running_loop().time() < deadline, f"{ref} was not written"
            await asyncio.sleep(0.01)


def run(source: Open, tmp_path: Path, test: Callable[[Home], Awaitable[None]], *objects: Raw) -> None:
    async def within() -> None:
        async with asyncio.timeout(30), source(tmp_path) as opened:
            home = Home(opened)
            assert home.store.snapshot() is UNKNOWN
            await opened.put(node("n1"), service(), *objects)
            async with kube.until_left(home.store.run(home.wake)):
                await until(lambda: home.services(), what="the first objects")
                await test(home)
        await kube.transports_closed()

    asyncio.run(within())


def test_everything_is_known_at_once_after_unknown(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        assert (home.services(), [n.name for n in home.snapshot.nodes]) == (["web"], ["n1"])
        assert home.store.health() == StoreHealth(is_synced=True)
        assert home.wakes > 0

    run(source, tmp_path, test)


def test_source_that_is_away_from_the_beginning_is_unknown(source: Open, tmp_path: Path) -> None:
    async def test() -> None:
        async with asyncio.timeout(30), source(tmp_path) as opened:
            await opened.put(service())
            await opened.go_away()
            home = Home(opened)
            async with kube.until_left(home.store.run(home.wake)):
                await until(lambda: home.store.health().message, what="a message")
                await stays(lambda: home.store.snapshot() is UNKNOWN, seconds=0.2)
                await opened.come_back()
                await home.has("web")

    asyncio.run(test())


def test_objects_appear_change_and_vanish(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.source.put(service("api"))
        await home.has("api", "web")
        before = home.wakes
        await home.source.put(service("api", externalTrafficPolicy="Local"))
        await until(lambda: home.is_local("api"), what="the change")
        assert home.wakes > before
        await home.source.delete(service("api"))
        await home.has("web")

    run(source, tmp_path, test)


def test_bad_object_keeps_its_last_good_version(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        good = home.snapshot.pools
        await home.source.put(BAD)
        await until(lambda: home.snapshot.problems, what="the problem")
        assert {p.ref.name for p in home.snapshot.problems} == {"default"}
        assert home.snapshot.pools == good
        assert home.services() == ["web"]
        await home.source.put(group(pool="10.113.113.10-10.113.113.20"))
        await until(lambda: not home.snapshot.problems and home.snapshot.pools != good, what="the new pool")

    run(source, tmp_path, test, group())


def test_object_that_was_never_good_is_only_a_problem(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.source.put(BAD)
        await until(lambda: home.snapshot.problems, what="the problem")
        assert (home.snapshot.pools, home.services()) == ((), ["web"])
        await home.source.delete(BAD)
        await until(lambda: not home.snapshot.problems, what="the end of the problem")

    run(source, tmp_path, test)


def test_status_is_written_and_read_back(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.write(SERVICE, INGRESS)
        await until(lambda: home.ingress() == ["10.113.113.100"], what="the status read back")
        await home.write(SERVICE, OTHER)
        await until(lambda: home.ingress() == ["10.113.113.101"], what="the new status")
        await home.write(SERVICE, {"loadBalancer": {}})
        await until(lambda: home.ingress() == [], what="no status")

    run(source, tmp_path, test)


def test_equal_status_is_written_once(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.write(SERVICE, INGRESS)
        await until(lambda: home.ingress() == ["10.113.113.100"], what="the status read back")
        written = home.source.writes()
        for _ in range(3):
            await home.store.write_status(SERVICE, INGRESS)
        await stays(lambda: home.source.writes() == written, seconds=0.2, what="a single write")

    run(source, tmp_path, test)


def test_report_of_a_node_is_made_where_there_is_none(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        status = {"links": [{"ifname": "eth0", "lladdr": "02:00:00:00:00:02", "subnets": ["10.111.111.0/24"]}]}
        await home.store.write_status(REPORT, status)
        await until(lambda: any(report.links for report in home.snapshot.reports), what="the report")
        assert home.snapshot.reports[0].node == "n1"
        written = home.source.writes()
        await home.store.write_status(REPORT, status)
        await stays(lambda: home.source.writes() == written, seconds=0.2, what="a single write")

    run(source, tmp_path, test)


def test_moves_of_a_node_are_read_back_and_written_once(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        names = ["test/web 10.111.111.100"]
        move = {"time": "2026-11-25T12:00:00Z", "link": "eth0", "from": "n2", "to": "n1", "reason": "node-dead"}
        status = {"moves": [move | {"silentSeconds": 0.263, "count": 1, "services": names}]}
        await home.store.write_status(REPORT, status)
        await until(lambda: any(report.moves for report in home.snapshot.reports), what="the report")
        (found,) = home.snapshot.reports[0].moves
        assert (found.old, found.new, found.silent_seconds, found.services) == ("n2", "n1", 0.263, tuple(names))
        written = home.source.writes()
        await home.store.write_status(REPORT, status)
        await stays(lambda: home.source.writes() == written, seconds=0.2, what="a single write")

    run(source, tmp_path, test)


def test_source_that_goes_leaves_everything_and_comes_back(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        before = home.snapshot
        await home.source.go_away()
        await until(lambda: home.store.health().is_stale, what="is_stale")
        assert (home.store.health().is_synced, bool(home.store.health().message)) == (True, True)
        await stays(lambda: home.store.snapshot() == before, seconds=0.3, what="the snapshot")
        await home.source.come_back()
        await until(lambda: home.store.health() == StoreHealth(is_synced=True), what="health")
        await home.source.put(service("api"))
        await home.has("api", "web")

    run(source, tmp_path, test)


def test_refused_write_hurts_nothing_and_comes_later(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.source.refuse_writes()
        for _ in range(3):
            with suppress(StoreError):
                await home.store.write_status(SERVICE, INGRESS)
        await home.source.put(service("api"))
        await home.has("api", "web")
        await home.source.take_writes()
        await home.write(SERVICE, INGRESS)

    run(source, tmp_path, test)


def test_status_of_what_is_gone_makes_nothing(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.source.put(service("api"))
        await home.has("api", "web")
        await home.source.delete(service("api"))
        await home.has("web")
        await home.write(SERVICE, INGRESS)
        assert home.services() == ["web"]

    run(source, tmp_path, test)


def test_refresh_knows_what_was_written_before(source: Open, tmp_path: Path) -> None:
    async def test(home: Home) -> None:
        await home.source.put(service("api"))
        await home.store.refresh()
        await home.has("api", "web")

    run(source, tmp_path, test)
