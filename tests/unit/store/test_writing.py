"""Writing statuses: once per wanted state, each object for itself, and Events after."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from announcer.core.model import MANAGED_BY, MANAGER, ObjectRef
from announcer.core.report import Note
from announcer.store.kubernetes import ApiError, gates, writing
from announcer.store.kubernetes.patches import is_written, stamp
from announcer.store.kubernetes.writing import Writer
from tests.fakes.api import FakeApi
from tests.waiting import stays, until

WEB = ObjectRef(kind="Service", namespace="test", name="web")
OTHER = ObjectRef(kind="Service", namespace="test", name="other")
POOL = ObjectRef(kind="ServiceGroup", namespace="purelb-system", name="p")
NODE = ObjectRef(kind="NodeAnnouncement", name="n1")
MIRROR = ObjectRef(kind="ServiceL2Status", namespace="announcer-system", name="l2-1")
CONDITION = {"type": "announcer.io/Accepted", "status": "True", "reason": "Accepted", "message": ""}


def given(address: str) -> dict[str, object]:
    return {"loadBalancer": {"ingress": [{"ip": address}]}}


def run(
    test: Callable[[Writer, FakeApi], Awaitable[None]],
    *,
    may_write: Callable[[], bool] = lambda: True,
    term: Callable[[], int] = lambda: 1,
) -> FakeApi:
    api = FakeApi()
    api.put(WEB)
    api.put(POOL)

    async def inside() -> None:
        writer = Writer(api, "announcer-test", api.target, api.took, may_write=may_write, term=term)
        running = asyncio.ensure_future(writer.run())
        await test(writer, api)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(inside())
    return api


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(writing, "SPACING_SECONDS", 0.2)


def fails(status: int, part: str, times: int = 1_000_000) -> Callable[[str, str], ApiError | None]:
    left = iter(range(times))
    return lambda _method, path: (
        ApiError("no", status=status) if part in path and next(left, None) is not None else None
    )


def test_the_last_wanted_state_is_written_once() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        for number in range(50):
            writer.put(WEB, given(f"10.0.0.{number}"), {})
        await until(writer.is_idle)
        writer.put(WEB, given("10.0.0.49"), {})
        assert writer.is_idle()

    (body,) = run(test).writes()
    assert body["status"] == given("10.0.0.49")


def test_burst_of_writes_asks_for_one_new_decision_at_its_end() -> None:
    """A pass over ten thousand Services takes more of a processor than a thousand of their writes."""
    rested = list[bool]()

    async def inside() -> None:
        api = FakeApi()
        names = [ObjectRef(kind="Service", namespace="test", name=f"s{number}") for number in range(200)]
        writer = Writer(api, "announcer-test", api.target, api.took, lambda: rested.append(writer.is_idle()))
        running = asyncio.ensure_future(writer.run())
        for number, name in enumerate(names):
            api.put(name)
            writer.put(name, given(f"10.0.0.{number}"), {})
        await until(lambda: len(api.writes()) == len(names) and writer.is_idle())
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(inside())
    assert rested == [True]


def test_write_that_keeps_failing_keeps_no_decision_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed while it was written is only looked at when writes rest."""
    monkeypatch.setattr(writing, "REST_SECONDS", 0.0)
    rested = list[bool]()

    async def inside() -> None:
        api = FakeApi()
        api.put(POOL)
        api.fails = fails(403, "servicegroups")
        writer = Writer(api, "announcer-test", api.target, api.took, lambda: rested.append(writer.is_idle()))
        running = asyncio.ensure_future(writer.run())
        writer.put(POOL, {"conditions": [CONDITION]}, {})
        await until(lambda: rested)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(inside())
    assert not rested[0]


def test_what_a_schema_drops_is_sent_once_and_again_when_it_changes() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.drops = {"conditions"}
        for status in ("True", "True", "False", "False"):
            writer.put(POOL, {"conditions": [CONDITION | {"status": status}]}, {})
            await until(writer.is_idle)

    assert [b["status"]["conditions"][0]["status"] for b in run(test).writes()] == ["True", "False"]


@pytest.mark.parametrize("status", [400, 422])
def test_what_is_refused_for_good_is_not_sent_again_before_somebody_changes_it(status: int) -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.fails = fails(status, "services")
        for _ in range(3):
            writer.put(WEB, given("10.0.0.1"), {})
            await until(writer.is_idle)
        assert len(api.writes()) == 1
        api.put(WEB)
        writer.put(WEB, given("10.0.0.1"), {})
        await until(lambda: len(api.writes()) == 2)

    run(test)


def test_field_that_the_schema_lacks_is_left_out_from_then_on() -> None:
    words = "failed to create typed patch object (a/b; purelb.io/v1, Kind=ServiceGroup): .status.conditions: field not"

    async def test(writer: Writer, api: FakeApi) -> None:
        lacks = ApiError(f"{words} declared in schema", status=500)
        api.fails = lambda _method, _path: lacks if "conditions" in api.asked[-1][2]["status"] else None
        for count in (1, 2, 2):
            writer.put(POOL, {"allocatedIPv4": count, "conditions": [CONDITION]}, {})
            await until(writer.is_idle)

    found = [min(body["status"].items()) for body in run(test).writes()]
    assert found == [("allocatedIPv4", 1), ("allocatedIPv4", 1), ("allocatedIPv4", 2)]


def test_kind_that_lacks_all_of_it_is_not_written_to() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.fails = lambda _m, _p: ApiError(".status: field not declared in schema", status=500)
        for _ in range(2):
            writer.put(POOL, {"conditions": [CONDITION]}, {})
            await until(writer.is_idle)

    assert len(run(test).writes()) == 1


def test_one_object_that_fails_keeps_no_other_waiting() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.fails = fails(403, "servicegroups")
        for number in range(2 * writing.WORKERS):
            ref = ObjectRef(kind="ServiceGroup", namespace="a", name=f"p{number}")
            api.put(ref)
            writer.put(ref, {"conditions": [CONDITION]}, {})
        await until(lambda: len(api.writes("ServiceGroup")) >= gates.FAILURES)
        writer.put(WEB, given("10.0.0.1"), {})
        await until(lambda: api.objects[WEB].get("status") == given("10.0.0.1"), seconds=1.0)

    run(test)


@pytest.mark.parametrize("status", [0, 429, 503])
def test_server_that_is_away_is_not_hammered_and_gets_all_in_the_end(status: int) -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.fails = fails(status, "services", 5)
        refs = [ObjectRef(kind="Service", namespace="a", name=f"s{n}") for n in range(50)]
        for ref in refs:
            api.put(ref)
            writer.put(ref, given("10.0.0.1"), {})
        await until(writer.is_idle)
        assert all(api.objects[ref]["status"] == given("10.0.0.1") for ref in refs)

    assert len(run(test).writes()) == 55


@pytest.mark.parametrize("status", [401, 403, 500])
def test_kind_that_nothing_can_be_written_of_is_probed_by_one_at_a_time(status: int) -> None:
    refs = [ObjectRef(kind="Service", namespace="a", name=f"s{n}") for n in range(200)]

    async def test(writer: Writer, api: FakeApi) -> None:
        api.fails = fails(status, "services")
        for ref in refs:
            api.put(ref)
            writer.put(ref, given("10.0.0.1"), {})
        await stays(lambda: len(api.writes()) <= gates.FAILURES + 6, seconds=0.5)
        assert len(api.writes()) > gates.FAILURES
        api.fails = lambda _method, _path: None
        await until(writer.is_idle)
        assert all(api.objects[ref]["status"] == given("10.0.0.1") for ref in refs)

    run(test)


def test_one_object_that_fails_again_and_again_says_nothing_of_its_kind() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.put(OTHER)
        api.fails = fails(500, "services/other")
        writer.put(OTHER, given("10.0.0.2"), {})
        await until(lambda: len(api.writes()) > gates.FAILURES)
        writer.put(WEB, given("10.0.0.1"), {})
        await until(lambda: api.objects[WEB].get("status") == given("10.0.0.1"), seconds=0.1)

    run(test)


def test_decision_about_a_service_that_means_something_else_by_now_is_not_written() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.meanings[WEB] = "has 10.0.0.7"
        writer.put(WEB, given("10.0.0.1"), {}, basis="has nothing")
        await until(writer.is_idle)
        assert api.writes() == []
        writer.put(WEB, given("10.0.0.7"), {}, basis="has 10.0.0.7")
        await until(lambda: len(api.writes()) == 1)

    run(test)


def test_what_was_decided_in_another_term_is_not_sent() -> None:
    terms = [1]

    async def test(writer: Writer, api: FakeApi) -> None:
        writer.put(WEB, given("10.0.0.1"), {})
        terms[0] = 3
        await until(writer.is_idle)
        assert api.writes() == []
        writer.put(WEB, given("10.0.0.2"), {})
        await until(lambda: len(api.writes()) == 1)

    run(test, term=lambda: terms[0])


def test_leader_that_stops_between_making_an_object_and_its_status_writes_no_status() -> None:
    leads = [True]

    async def test(writer: Writer, api: FakeApi) -> None:
        def loses(_method: str, _path: str) -> None:
            leads[0] = False

        api.fails = loses
        writer.put(NODE, {"errors": ["x"]}, {})
        await until(writer.is_idle)

    assert len(run(test, may_write=lambda: leads[0]).writes()) == 1


class SlowApi(FakeApi):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def request(self, method: str, path: str, **rest: Any) -> bytes:
        data = await super().request(method, path, **rest)
        await self.answers.wait()
        return data


def test_writer_that_closes_waits_for_what_is_under_way_and_sends_nothing_more() -> None:
    async def test() -> None:
        api = SlowApi()
        refs = [ObjectRef(kind="Service", namespace="a", name=f"s{n}") for n in range(2 * writing.WORKERS)]
        writer = Writer(api, "announcer-test", api.target, api.took)
        running = asyncio.ensure_future(writer.run())
        for ref in refs:
            api.put(ref)
            writer.put(ref, given("10.0.0.1"), {})
        await until(lambda: len(api.writes()) == writing.WORKERS)
        closing = asyncio.ensure_future(writer.close())
        await stays(lambda: not closing.done(), seconds=0.05)
        api.answers.set()
        await closing
        await stays(lambda: len(api.writes()) == writing.WORKERS, seconds=0.05)
        await asyncio.wait_for(writer.close(), 0.1)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(test())


def test_nothing_is_remembered_of_objects_that_are_gone() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.put(OTHER)
        api.fails = lambda _m, path: ApiError("no", status=422 if "web" in path else 500)
        for ref in (WEB, OTHER):
            writer.put(ref, given("10.0.0.1"), {})
        await until(lambda: writer.remembered() == {WEB, OTHER})
        del api.objects[OTHER]
        await until(lambda: writer.remembered() == {WEB})
        writer.forget(WEB)
        assert writer.remembered() == set()

    run(test)


def test_conflict_is_tried_again_while_the_object_means_the_same() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        writer.put(WEB, given("10.0.0.1"), {})
        api.fails = fails(409, "services", 2)
        await until(lambda: api.objects[WEB].get("status") == given("10.0.0.1"))

    assert len(run(test).writes()) == 3


def test_conflict_about_an_object_that_means_something_else_is_left_to_the_next_decision() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        writer.put(WEB, given("10.0.0.1"), {})
        api.put(WEB)
        api.meanings[WEB] = "something else"
        await until(writer.is_idle)
        await stays(writer.is_idle, seconds=0.1)

    api = run(test)
    assert len(api.writes()) == 1
    assert "status" not in api.objects[WEB]


def test_version_that_changed_while_it_waited_is_no_conflict() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        writer.put(WEB, given("10.0.0.1"), {})
        api.put(WEB, metadata={"labels": {"some": "label"}})
        await until(writer.is_idle)

    assert len(run(test).writes()) == 1


def test_report_of_a_node_is_written_no_more_often_than_its_spacing() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        writer.put(NODE, {"errors": ["0"]}, {})
        await until(writer.is_idle)
        for number in range(1, 10):
            writer.put(NODE, {"errors": [str(number)]}, {})
        await stays(lambda: len(api.writes()) == 2, seconds=0.1)  # one that makes the object, one for its status
        await until(writer.is_idle)
        assert api.objects[NODE]["status"] == {"errors": ["9"]}

    assert len(run(test).writes()) == 3


def test_service_is_written_before_what_only_tools_read() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        for number in range(writing.WORKERS + 10):
            writer.put(ObjectRef(kind="ServiceL2Status", namespace="a", name=f"l2-{number}"), {"node": "n1"}, {})
        writer.put(WEB, given("10.0.0.1"), {})
        await until(writer.is_idle)

    assert run(test).writes()[0]["kind"] == "Service"


def test_mirror_is_made_with_its_labels_and_only_ours_is_removed() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        theirs = ObjectRef(kind="ServiceL2Status", namespace="metallb-system", name="l2-x")
        api.put(theirs)
        writer.put(MIRROR, {"node": "n1"}, {}, labels={MANAGED_BY: MANAGER})
        await until(writer.is_idle)
        assert api.objects[MIRROR]["metadata"]["labels"] == {MANAGED_BY: MANAGER}
        writer.remove(MIRROR)
        writer.remove(theirs)
        await until(lambda: MIRROR not in api.objects)
        assert theirs in api.objects

    (delete,) = (body for method, _, body in run(test).asked if method == "DELETE")
    assert delete == {"preconditions": {"uid": "uid-l2-1"}}


def test_annotation_of_ours_that_is_not_wanted_any_more_is_a_reason_to_write() -> None:
    raw = {"metadata": {"annotations": {"purelb.io/announcing-IPv4": "n1,eth0,10.0.0.1", "mine": "x"}}}
    assert not is_written(raw, {}, {}, frozenset({"purelb.io/announcing-IPv4"}))
    assert is_written(raw, {}, {"purelb.io/announcing-IPv4": "n1,eth0,10.0.0.1"}, frozenset({"mine-too"}))


def test_annotation_that_somebody_else_keeps_is_tried_once() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.put(WEB, metadata={"annotations": {"purelb.io/announcing-IPv4": "theirs"}})
        for _ in range(3):
            writer.put(WEB, given("10.0.0.1"), {})
            await until(writer.is_idle)

    assert len(run(test).writes()) == 1


def test_event_is_told_of_the_status_before_and_only_once_written() -> None:
    told: list[Mapping[str, Any]] = []

    def tell(before: Mapping[str, Any]) -> list[Note]:
        told.append(before)
        return [Note(ref=WEB, reason="AddressAssigned", message="m")]

    async def test(writer: Writer, api: FakeApi) -> None:
        api.put(WEB, status=given("10.0.0.1"))
        api.fails = fails(500, "services/web", 1)
        writer.put(WEB, given("10.0.0.2"), {}, tell=tell)
        await until(lambda: bool(api.events()))
        writer.put(WEB, given("10.0.0.2"), {}, tell=tell)
        await stays(lambda: len(api.events()) == 1, seconds=0.1)

    run(test)
    assert told == [given("10.0.0.1")]


def test_nothing_is_sent_by_one_who_does_not_lead() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        writer.put(WEB, given("10.0.0.1"), {})
        await until(writer.is_idle)

    assert run(test, may_write=lambda: False).asked == []


def test_object_that_is_gone_is_forgotten() -> None:
    async def test(writer: Writer, api: FakeApi) -> None:
        api.fails = fails(404, "services")
        writer.put(WEB, given("10.0.0.1"), {})
        writer.put(OTHER, given("10.0.0.1"), {})
        await until(writer.is_idle)

    assert len(run(test).writes()) == 1


def test_condition_keeps_its_time_while_its_status_stays() -> None:
    old = {"status": {"conditions": [CONDITION | {"lastTransitionTime": "then"}]}, "metadata": {"generation": 3}}
    (same,) = stamp({"conditions": [CONDITION | {"reason": "Other"}]}, old, "now")["conditions"]
    assert (same["lastTransitionTime"], same["observedGeneration"]) == ("then", 3)
    (other,) = stamp({"conditions": [CONDITION | {"status": "False"}]}, old, "now")["conditions"]
    assert other["lastTransitionTime"] == "now"
