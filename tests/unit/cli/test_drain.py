"""`announcer drain --wait`: which reports of the agent it believes, and what it makes of an API server in trouble."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from announcer.cli import _parser
from announcer.cli import drain as command
from announcer.core.dialects import EXCLUDE_LABEL
from announcer.core.plan import Pace
from tests import kube

DRAINED, SERVING = True, False
Said = tuple[int, bool] | None
"""A report, by its version; None is an API server in trouble."""


@dataclass
class Api:
    """A Node, and what is said of it: `before` the label is set, then one after the other; the last one stays."""

    before: Said
    after: list[Said]
    labels: dict[str, str] = field(default_factory=dict)
    is_patched: bool = False
    last: Said = None

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PATCH":
            self.is_patched = True
            return web.json_response({})
        if request.path == "/api/v1/nodes/n1":
            return web.json_response({"metadata": {"name": "n1", "labels": self.labels}})
        said = self.after[0] if self.is_patched else self.before
        if self.is_patched and len(self.after) > 1:
            self.after.pop(0)
        self.last = said
        if said is None:
            return web.json_response({"message": "no such report"}, status=503 if self.is_patched else 404)
        version, is_drained = said
        return web.json_response({"metadata": {"resourceVersion": str(version)}, "status": {"isDrained": is_drained}})


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LOOK_SECONDS", 0.01)


def drain(folder: Path, api: Api, *more: str) -> int:
    async def within() -> int:
        made = web.Server(api.answer, access_log=None)
        listener = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        config = kube.kubeconfig(folder / "config", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", "t")
        arguments = _parser().parse_args(["drain", "n1", f"--kubeconfig={config}", *more])
        try:
            async with asyncio.timeout(20):
                return await command.drain(arguments)
        finally:
            listener.close()
            await made.shutdown(5.0)

    code = asyncio.run(within())
    assert api.is_patched
    return code


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((5, DRAINED), [(5, DRAINED), (5, DRAINED), (6, SERVING), (7, DRAINED)]),
        ((5, SERVING), [(5, SERVING), None, None, (7, DRAINED)]),
        (None, [None, (7, DRAINED)]),
    ],
    ids=["old", "trouble", "first"],
)
def test_drained_is_what_a_report_newer_than_the_label_says(tmp_path: Path, before: Said, after: list[Said]) -> None:
    api = Api(before=before, after=after)
    assert drain(tmp_path, api, "--wait=10") == 0
    assert api.last == (7, DRAINED)


def test_node_that_has_the_label_and_is_drained_is_so_at_once(tmp_path: Path) -> None:
    assert drain(tmp_path, Api(before=(5, DRAINED), after=[(5, DRAINED)], labels={EXCLUDE_LABEL: ""}), "--wait=10") == 0


def test_undo_waits_through_trouble_for_a_report_of_being_in_service(tmp_path: Path) -> None:
    api = Api(before=(5, DRAINED), after=[(5, DRAINED), None, (6, SERVING)], labels={EXCLUDE_LABEL: ""})
    assert drain(tmp_path, api, "--undo", "--wait=10") == 0
    assert api.last == (6, SERVING)


@pytest.mark.parametrize(("after", "told"), [((5, DRAINED), "after 0.3 s; see"), (None, "no such report")])
def test_what_never_comes_ends_with_1_and_says_why(
    tmp_path: Path, after: Said, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drain(tmp_path, Api(before=(5, DRAINED), after=[after]), "--wait=0.3") == 1
    assert told in capsys.readouterr().err


def test_drain_seconds_of_the_agent_are_its_pace() -> None:
    assert _parser().parse_args(["agent", "--node=n1", "--drain-seconds=3"]).pace == Pace.of(3.0)
