"""`announcer status` on a folder: the table, the JSON, and what is said where there is nothing to say."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from announcer.cli import main, stores
from tests.builders import Raw, endpoints, group, node, raw, service
from tests.fakes.store import FakeStore

WEB = service(addresses=["10.113.113.100"])


def folder(path: Path, *objects: Raw) -> Path:
    for i, one in enumerate(objects):
        (path / f"{i}.yaml").write_text(json.dumps(one))
    return path


def advertised(name: str) -> Raw:
    one = {"services": ["test/web 10.113.113.100"], "mode": "virtual", "link": "kube-lb0"}
    found = one | {"prefix": "10.113.113.0/24", "reason": "Advertised"}
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status={"addresses": [found]})


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in ("status", *arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_table_names_nodes_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = service("lost", pool="none")
    made = folder(tmp_path, node("n1"), group(), WEB, endpoints(), lost, advertised("n1"), advertised("n2"))
    code, text = run(capsys, "--manifests", made)
    assert code == 0
    assert [line.split() for line in text.splitlines() if line.startswith("test/web")] == [
        ["test/web", "10.113.113.100", "virtual", "n1,n2", "10.113.113.0/24", "-"]
    ]
    assert "asks for pool 'none'" in text


def test_problems_are_listed_with_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = folder(tmp_path, node("n1"), group(pool="10.113.113-1-10.113.113.9"))
    _, text = run(capsys, "--manifests", made)
    assert "did you mean 10.113.113.1-10.113.113.9?" in text
    assert "1.yaml:1" in text


def test_json_has_services_and_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = folder(tmp_path, node("n1"), group(), WEB, advertised("n1"), raw("purelb.io/v9", "ServiceGroup", "g"))
    _, text = run(capsys, "--manifests", made, "-o", "json")
    found = json.loads(text)
    assert found["services"][0]["nodes"] == ["n1"]
    assert found["problems"][0]["reason"] == "UnsupportedKind"


def test_last_move_of_an_address_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = ["test/web 10.113.113.100"]
    fate = {"services": who, "mode": "local", "link": "eth0", "reason": "Holding"}
    first = {"time": "2026-11-25T11:00:00Z", "link": "eth0", "from": "", "to": "n1", "reason": "unheld"}
    move = first | {"time": "2026-11-25T12:00:00Z", "from": "n2", "reason": "node-dead", "silentSeconds": 0.263}
    status = {"addresses": [fate], "moves": [one | {"services": who} for one in (first, move)]}
    report = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status=status)
    made = folder(tmp_path, node("n1"), group(), WEB, report)
    line = "2026-11-25T12:00:00Z test/web 10.113.113.100 eth0: n2 -> n1, node-dead, no answer for 0.263 s"
    assert f"\nMOVES\n  {line}\n" in run(capsys, "--manifests", made)[1]
    (row,) = json.loads(run(capsys, "--manifests", made, "-o", "json")[1])["services"]
    assert row["last_move"] == {
        "time": "2026-11-25T12:00:00Z",
        "link": "eth0",
        "old": "n2",
        "new": "n1",
        "reason": "node-dead",
        "silent_seconds": 0.263,
    }


def test_sessions_are_shown_with_their_routes_and_the_last_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"peerAddress": "10.0.0.1", "peer": "tor", "state": "Down", "established": False}
    one |= {"since": "2026-11-26T12:00:00Z", "lastError": "NOTIFICATION received: 4/0 Hold Timer Expired"}
    one |= {"bfd": "down: path down", "routes": {"proven": 0, "pending": 2, "refused": 1}}
    report = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"sessions": [one]})
    made = folder(tmp_path, node("n1"), group(), WEB, report)
    (line,) = [line for line in run(capsys, "--manifests", made)[1].splitlines() if line.startswith("n1 ")]
    assert " ".join(line.split()) == f"n1 tor 10.0.0.1 Down {one['since']} down: path down 0 2 1 {one['lastError']}"
    assert json.loads(run(capsys, "--manifests", made, "-o", "json")[1])["sessions"] == [{"node": "n1", **one}]


def test_address_that_nobody_had_before_is_no_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = {"time": "2026-11-25T11:00:00Z", "link": "eth0", "from": "", "to": "n1", "reason": "unheld"}
    status = {"moves": [first | {"services": ["test/web 10.113.113.100"]}]}
    report = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status=status)
    assert "MOVES" not in run(capsys, "--manifests", folder(tmp_path, node("n1"), group(), WEB, report))[1]


def test_folder_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "--manifests", tmp_path / "nowhere")
    assert code == 1
    assert "is not a folder of manifests" in text


def test_folder_without_objects_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("announcer.cli.status.READ_TIMEOUT", 0.1)
    code, text = run(capsys, "--manifests", tmp_path)
    assert code == 1
    assert "has no object in it" in text


# -- a cluster -------------------------------------------------------------------------------------------------------


def allocator_holds(text: str) -> Callable[..., Awaitable[tuple[str, str]]]:
    async def held(*_: object) -> tuple[str, str]:
        return "allocator-1", text

    return held


def cluster(monkeypatch: pytest.MonkeyPatch, *objects: Raw) -> FakeStore:
    """What `--kubeconfig` leads to."""

    @asynccontextmanager
    async def nobody(_arguments: object) -> AsyncIterator[None]:
        yield

    found = FakeStore(*objects)
    monkeypatch.setattr(stores, "client", nobody)
    monkeypatch.setattr(stores, "kubernetes", lambda *_: found)
    monkeypatch.setattr(stores, "held", allocator_holds(""))
    monkeypatch.setattr("announcer.cli.status.PATIENCE", 0.05)
    return found


def test_cluster_shows_the_same_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = cluster(monkeypatch, node("n1"), group(), WEB, endpoints(), advertised("n1"))
    code, text = run(capsys, "--kubeconfig", "k")
    assert code == 0
    assert text.splitlines()[1].split() == ["test/web", "10.113.113.100", "virtual", "n1", "10.113.113.0/24", "-"]
    assert store.writes == 0


def test_what_a_node_could_not_do_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    held = "store: the API server lists too few of Service; what was there before stays in force"
    report = raw("announcer.io/v1alpha1", "NodeAnnouncement", "n1", status={"errors": [held]})
    cluster(monkeypatch, node("n1"), group(), WEB, report)
    assert f"NODES\n  n1: {held}" in run(capsys, "--kubeconfig", "k")[1]
    assert json.loads(run(capsys, "--kubeconfig", "k", "-o", "json")[1])["nodes"] == [
        {"node": "n1", "links": [], "errors": [held]}
    ]


def test_cluster_that_cannot_be_read_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = cluster(monkeypatch)
    store.is_synced, store.is_held = False, True
    code, text = run(capsys, "--kubeconfig", "k")
    assert (code, text) == (1, "announcer status: held\n")


def test_class_that_is_ours_decides_what_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster(monkeypatch, node("n1"), group(), service(pool="none", loadBalancerClass="mine"))
    assert "NoAddress" in run(capsys, "--kubeconfig", "k")[1]
    assert "asks for pool 'none'" in run(capsys, "--kubeconfig", "k", "--load-balancer-class", "mine")[1]


# -- what is held back -------------------------------------------------------------------------------------------------


def doubtful(name: str) -> Raw:
    status = {"errors": ["too few"], "holds": [{"since": "2026-01-02T03:04:05Z", "message": "too few"}]}
    return raw("announcer.io/v1alpha1", "NodeAnnouncement", name, status=status)


def test_folder_shows_who_holds_back_before_everything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = folder(tmp_path, node("n1"), group(), WEB, doubtful("n1"))
    text = run(capsys, "--manifests", made)[1]
    assert text.splitlines()[0].startswith("HELD BACK")
    assert text.splitlines()[1] == "  node n1: since 2026-01-02T03:04:05Z: too few"
    assert text.count("too few") == 1
    assert json.loads(run(capsys, "--manifests", made, "-o", "json")[1])["holds"] == [
        {"who": "node n1", "since": "2026-01-02T03:04:05Z", "message": "too few"}
    ]


def test_cluster_shows_what_the_allocator_holds_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster(monkeypatch, node("n1"), group(), WEB, advertised("n1"))
    assert "HELD BACK" not in run(capsys, "--kubeconfig", "k")[1]
    monkeypatch.setattr(stores, "held", allocator_holds("2026-01-02T03:04:05Z the API server lists too few of Service"))
    text = run(capsys, "--kubeconfig", "k")[1]
    assert "  allocator allocator-1: since 2026-01-02T03:04:05Z: the API server lists too few of Service\n" in text
