"""Alerts and dashboard: metrics, labels and values that exist, and a page for each alert."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from announcer.core.model import BfdState, Reason
from announcer.core.own import Cause
from announcer.daemons.telling import PLANNED, ROUTES
from lab.topology import REPOSITORY
from tests.deploying import DEPLOY, alerts
from tests.unit.metrics.test_collector import documented

RULES = {rule["alert"]: rule for rule in alerts()}
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "components" / "dashboard" / "announcer.json").read_text("utf-8"))
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
METRICS = {**documented("agent"), **documented("allocator")}
SELECTOR = re.compile(r"\b(announcer_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)(=~|=)\"([^\"]*)\"")
TARGET = {"node", "instance", "job", "pod"}
VALUES = {
    "reason": {*Reason, *Cause},
    "action": set(PLANNED),
    "state": {
        *("announced", "pending", "unannounced", "assigned", "refused", "available", "established", "down"),
        *(state.value for state in BfdState),
        *ROUTES,
    },
}


def expressions() -> dict[str, str]:
    found = {name: rule["expr"] for name, rule in RULES.items()}
    for panel in DASHBOARD["panels"]:
        found |= {f"{panel['title']} {one['refId']}": one["expr"] for one in panel.get("targets", ())}
    return found


def base(name: str) -> str:
    stem = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    return stem if METRICS.get(stem, ("",))[0] == "histogram" else name


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_expression_names_what_there_is(where: str, expression: str) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors
    for name, inside in selectors:
        kind, labels = METRICS[base(name)]
        assert not name.endswith("_total") or kind == "counter"
        for label, operator, text in MATCHER.findall(inside):
            assert label in labels | TARGET
            given = set(text.split("|")) if operator == "=~" else {text}
            assert label not in VALUES or given <= {str(value) for value in VALUES[label]}


def grouped(expression: str) -> Iterator[str]:
    for clause in re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression):
        yield from (label.strip() for label in clause.split(","))


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=expressions())
def test_labels_that_are_grouped_by_are_those_of_the_metrics(where: str, expression: str) -> None:
    labels = set().union(*(METRICS[base(name)][1] for name, _ in SELECTOR.findall(expression)))
    assert set(grouped(expression)) <= labels | TARGET | {"le"}


SECTIONS = ("## What it means", "## What to look at", "## What to do")


@pytest.mark.parametrize("name", RULES)
def test_alert_has_its_page(name: str) -> None:
    rule = RULES[name]
    page = RUNBOOKS / f"{name}.md"
    assert rule["annotations"]["runbook_url"] == str(page.relative_to(REPOSITORY))
    text = page.read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    assert [text.count(section) for section in SECTIONS] == [1, 1, 1]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_page_is_of_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == set(RULES)


def test_panels_have_numbers_of_their_own_and_a_place_in_the_grid() -> None:
    panels = DASHBOARD["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in panels)
