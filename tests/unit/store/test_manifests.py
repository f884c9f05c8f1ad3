"""The manifest directory, with real folders and real inotify."""

import argparse
import asyncio
import json
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from announcer.cli import stores
from announcer.core.dialects import assemble, parse
from announcer.core.model import UNKNOWN, ObjectRef, Reason, Snapshot, Unknown
from announcer.store import StoreError
from announcer.store.manifests import ManifestStore
from tests.kube import until_left
from tests.waiting import stays, until

NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n"
GROUP = """\
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: g, namespace: p}
spec: {local: {v4pools: [{subnet: 10.0.0.0/24, pool: %s}]}}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: s, namespace: t}
spec: {type: LoadBalancer, ports: [{port: 80}]}
"""


class Running:
    """A store that runs, and what it knows."""

    def __init__(self, root: Path, settle_seconds: float) -> None:
        self.store = ManifestStore(root, parse=parse, assemble=assemble, settle_seconds=settle_seconds)
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    @property
    def snapshot(self) -> Snapshot:
        found = self.store.snapshot()
        assert isinstance(found, Snapshot)
        return found

    def nodes(self) -> list[str]:
        return [] if self.store.snapshot() is UNKNOWN else [n.name for n in self.snapshot.nodes]

    def problems(self) -> list[Reason]:
        return [p.reason for p in self.snapshot.problems]

    async def has(self, *nodes: str) -> None:
        await until(lambda: self.nodes() == list(nodes), what=f"nodes {nodes}")


@asynccontextmanager
async def running(root: Path, *, settle_seconds: float = 0.0) -> AsyncIterator[Running]:
    found = Running(root, settle_seconds)
    task = asyncio.ensure_future(found.store.run(found.wake))
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait({task})


def run(test: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(test())


def test_objects_of_any_layout_are_read(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep" / "er" / "a.yml").write_text(NODE % "a")
        (tmp_path / "b.yaml").write_text(NODE % "b" + "---\n" + NODE % "c")
        (tmp_path / ".hidden.yaml").write_text(NODE % "hidden")
        (tmp_path / "notes.txt").write_text("no manifest")
        async with running(tmp_path) as store:
            await store.has("a", "b", "c")

    run(test)


def test_snapshot_is_unknown_before_the_first_object(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path / "not-yet") as store:
            await stays(lambda: store.store.snapshot() is UNKNOWN, seconds=0.2)
            (tmp_path / "not-yet").mkdir()
            (tmp_path / "not-yet" / "a.yaml").write_text(NODE % "a")
            await store.has("a")

    run(test)


def test_folder_that_is_being_filled_is_not_believed_yet(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path, settle_seconds=0.4) as store:
            for name in "abcdef":
                (tmp_path / f"{name}.yaml").write_text(NODE % name)
                await stays(lambda: store.store.snapshot() is UNKNOWN, seconds=0.15)
            await store.has(*"abcdef")

    run(test)


def test_change_is_noticed_in_new_folders_too(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.yaml").write_text(NODE % "a")
        async with running(tmp_path) as store:
            await store.has("a")
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "b.yaml").write_text(NODE % "b")
            await store.has("a", "b")

    run(test)


def test_deletion_counts_after_a_quiet_second(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.yaml").write_text(NODE % "a")
        (tmp_path / "b.yaml").write_text(NODE % "b")
        async with running(tmp_path) as store:
            await store.has("a", "b")
            (tmp_path / "b.yaml").unlink()
            await stays(lambda: store.nodes() == ["a", "b"], seconds=0.5)
            told = store.wakes
            await store.has("a")
            await until(lambda: store.wakes > told, what="that it is told")

    run(test)


@pytest.mark.parametrize("leave", ["nothing", "an empty folder"])
def test_folder_that_vanishes_keeps_everything_in_force(tmp_path: Path, leave: str) -> None:
    async def test() -> None:
        root = tmp_path / "m"
        root.mkdir()
        for name in "abc":
            (root / f"{name}.yaml").write_text(NODE % name)
        async with running(root) as store:
            await store.has("a", "b", "c")
            shutil.rmtree(root)
            if leave != "nothing":
                root.mkdir()
            await until(lambda: store.store.health().is_stale)
            await stays(lambda: store.nodes() == ["a", "b", "c"], seconds=1.5)
            root.mkdir(exist_ok=True)
            (root / "a.yaml").write_text(NODE % "a")
            await store.has("a")
            assert not store.store.health().is_stale

    run(test)


def test_half_written_file_keeps_what_it_gave(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.yaml").write_text(NODE % "a" + "---\n" + NODE % "b")
        async with running(tmp_path) as store:
            await store.has("a", "b")
            (tmp_path / "a.yaml").write_text(NODE % "a" + "---\napiVersion: v1\nkind: Node\nmetadata: {na")
            await until(lambda: store.problems() == [Reason.UNREADABLE_FILE])
            await stays(lambda: store.nodes() == ["a", "b"], seconds=1.3)

    run(test)


def test_refused_object_keeps_its_last_good_version(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "g.yaml").write_text(GROUP % "10.0.0.1-10.0.0.9")
        async with running(tmp_path) as store:
            await until(lambda: store.store.snapshot() is not UNKNOWN)
            (tmp_path / "g.yaml").write_text(GROUP % "10.0.0-1-10.0.0.9")
            await until(lambda: store.problems() == [Reason.INVALID_VALUE])
            assert [p.name for p in store.snapshot.pools] == ["g"]

    run(test)


def test_object_in_two_files_counts_where_it_is_shallower(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x.yaml").write_text(GROUP % "10.0.0.1-10.0.0.5")
        (tmp_path / "z.yaml").write_text(GROUP % "10.0.0.7-10.0.0.9")
        async with running(tmp_path) as store:
            await until(lambda: store.store.snapshot() is not UNKNOWN)
            assert str(store.snapshot.pools[0].ranges[0].first) == "10.0.0.7"
            assert store.problems() == [Reason.DUPLICATE_OBJECT]

    run(test)


def test_twin_that_does_not_count_is_told_its_own_mistakes_too(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.yaml").write_text(GROUP % "10.0.0.1-10.0.0.5")
        (tmp_path / "b.yaml").write_text(GROUP % "10.0.0-7-10.0.0.9")
        async with running(tmp_path) as store:
            await until(lambda: store.store.snapshot() is not UNKNOWN)
            assert set(store.problems()) == {Reason.DUPLICATE_OBJECT, Reason.INVALID_VALUE}
            assert len(store.snapshot.pools) == 1

    run(test)


def test_config_map_mount_is_followed(tmp_path: Path) -> None:
    async def test() -> None:
        for version in ("1", "2"):
            (tmp_path / f"..{version}").mkdir()
            (tmp_path / f"..{version}" / "n.yaml").write_text(NODE % f"n{version}")
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "n.yaml").symlink_to("..data/n.yaml")
        async with running(tmp_path) as store:
            await store.has("n1")
            (tmp_path / "..new").symlink_to("..2")
            (tmp_path / "..new").rename(tmp_path / "..data")
            await store.has("n2")

    run(test)


def test_status_is_written_beside_and_merged_into_the_object(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "s.yaml").write_text(SERVICE)
        ref = ObjectRef(kind="Service", namespace="t", name="s")
        async with running(tmp_path) as store, running(tmp_path) as other:
            await until(lambda: all(one.store.snapshot() is not UNKNOWN for one in (store, other)))
            await store.store.write_status(ref, {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}})
            await until(lambda: other.snapshot.services[0].status_addresses)
            written = json.loads((tmp_path / ".status" / "service" / "t" / "s.json").read_text())
            assert written["metadata"] == {"name": "s", "namespace": "t"}

    run(test)


def test_what_others_report_wakes_an_agent_only_where_it_says_other_links(tmp_path: Path) -> None:
    """A hundred agents that all report one Service must not make a hundred passes each."""

    async def test() -> None:
        (tmp_path / "n.yaml").write_text(NODE % "n1")
        n2 = ObjectRef(kind="NodeAnnouncement", name="n2")
        link = {"ifname": "eth0", "lladdr": "02:00:00:00:00:01", "subnets": ["10.0.0.0/24"], "hasCarrier": True}
        arguments = argparse.Namespace(manifests=tmp_path)
        store, writer = stores.manifests(arguments, agent_of="n1"), stores.manifests(arguments)
        assert store is not None
        assert writer is not None
        wakes: list[Snapshot | Unknown] = []
        async with until_left(store.run(lambda: wakes.append(store.snapshot()))):
            await until(lambda: wakes)
            await writer.write_status(n2, {"links": [link], "errors": []})
            await until(lambda: len(wakes) == 2)
            await writer.write_status(n2, {"links": [link], "errors": ["PutRoute: no"]})
            await stays(lambda: len(wakes) == 2, seconds=0.3)
            await writer.write_status(n2, {"links": [link | {"hasCarrier": False}], "errors": []})
            await until(lambda: len(wakes) == 3)

    run(test)


def test_service_wakes_an_agent_once_it_has_an_address(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "n.yaml").write_text(NODE % "n1")
        arguments = argparse.Namespace(manifests=tmp_path)
        store, other = stores.manifests(arguments, agent_of="n1"), stores.manifests(arguments)
        assert store is not None
        assert other is not None
        wakes: list[Snapshot | Unknown] = []
        async with until_left(store.run(lambda: wakes.append(store.snapshot()))), until_left(other.run(lambda: None)):
            await until(lambda: wakes)
            (tmp_path / "s.yaml").write_text(SERVICE)
            await until(lambda: not isinstance(seen := other.snapshot(), Unknown) and seen.services)
            await stays(lambda: len(wakes) == 1, seconds=0.3)
            ref = ObjectRef(kind="Service", namespace="t", name="s")
            await other.write_status(ref, {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}})
            await until(lambda: len(wakes) == 2)
            assert not isinstance(wakes[1], Unknown)
            assert [str(a) for a in wakes[1].services[0].status_addresses] == ["10.0.0.1"]

    run(test)


def test_agent_knows_a_service_that_has_an_address_by_external_ips_alone(tmp_path: Path) -> None:
    """The port guard opens its ports on an address of ours."""

    async def test() -> None:
        (tmp_path / "n.yaml").write_text(NODE % "n1")
        (tmp_path / "s.yaml").write_text(SERVICE.replace("type: LoadBalancer", "externalIPs: [10.0.0.1]"))
        store = stores.manifests(argparse.Namespace(manifests=tmp_path), agent_of="n1")
        assert store is not None
        async with until_left(store.run(lambda: None)):
            await until(lambda: store.snapshot() is not UNKNOWN)
            seen = store.snapshot()
            assert not isinstance(seen, Unknown)
            assert [str(a) for one in seen.services for a in one.external_addresses] == ["10.0.0.1"]

    run(test)


def test_object_that_stands_in_another_line_is_shown_there(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "n.yaml").write_text(NODE % "n1")
        async with running(tmp_path) as found:
            await found.has("n1")
            assert found.snapshot.nodes[0].ref.source == "n.yaml:1"
            (tmp_path / "n.yaml").write_text("# moved\n" + NODE % "n1")
            await until(lambda: found.snapshot.nodes[0].ref.source == "n.yaml:2")

    run(test)


def test_equal_status_is_not_written_again(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.yaml").write_text(NODE % "a")
        ref = ObjectRef(kind="NodeAnnouncement", name="a")
        async with running(tmp_path) as store:
            await store.has("a")
            await store.store.write_status(ref, {"links": []})
            path = tmp_path / ".status" / "nodeannouncement" / "_cluster" / "a.json"
            inode = path.stat().st_ino
            await store.store.write_status(ref, {"links": []})
            assert path.stat().st_ino == inode
            await until(lambda: [r.node for r in store.snapshot.reports] == ["a"])

    run(test)


def test_status_does_not_bring_a_folder_back_that_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        store = ManifestStore(tmp_path / "gone", parse=parse, assemble=assemble)
        with pytest.raises(StoreError, match="there is no folder"):
            await store.write_status(ObjectRef(kind="Node", name="a"), {})
        assert not (tmp_path / "gone").exists()

    run(test)


def test_status_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "a.yaml").write_text(NODE % "a")
        (tmp_path / ".status").write_text("in the way")
        store = ManifestStore(tmp_path, parse=parse, assemble=assemble)
        with pytest.raises(StoreError, match="was not written"):
            await store.write_status(ObjectRef(kind="Node", name="a"), {})

    run(test)


def test_secret_is_read_and_rotated_and_a_mistake_in_it_shows_nothing(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: tor, namespace: lb}\nstringData:\n  password: "

    async def test() -> None:
        (tmp_path / "secret.yaml").write_text(text + "first\n")
        async with running(tmp_path) as found:
            await until(lambda: found.store.snapshot() is not UNKNOWN)
            assert b64(found.snapshot) == b"first"
            (tmp_path / "secret.yaml").write_text(text + "second\n")
            await until(lambda: b64(found.snapshot) == b"second")
            for wrong in ('"third', "!third"):
                (tmp_path / "secret.yaml").write_text(text + wrong + "\n")
                await until(lambda: found.snapshot.problems, what="the mistake")
                assert b64(found.snapshot) == b"second"
                assert "third" not in str(found.snapshot.problems)

    run(test)


def b64(snapshot: Snapshot) -> bytes:
    (secret,) = snapshot.secrets
    return b64decode(secret.data["password"])
