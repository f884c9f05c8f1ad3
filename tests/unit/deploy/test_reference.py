"""docs/settings.md and docs/crds.md: what argparse and deploy/crds say, rewritten by GOLDEN=write."""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from announcer.cli import _parser
from lab.topology import REPOSITORY
from tests.unit.deploy.schemas import Schema, definitions, leaves

DOCS = REPOSITORY / "docs"
BEGIN, END = "<!-- generated -->", "<!-- end of generated -->"
READS = re.compile(r"environ(?:\.get\(|\[)[\"'](\w+)|\"(\w+)\" not in os\.environ")

DEFAULT = re.compile(r" \(%\(default\)s\)|; %\(default\)s|%\(default\)s: ")
"""In texts of options: it has a column of its own."""


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def shown(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return "\\|".join(map(str, action.choices)) if action.choices else str(action.metavar or action.dest.upper())


def default(action: argparse.Action, environment: dict[str, str]) -> str:
    if isinstance(action.default, bool):
        return "yes" if action.default else "no"
    if action.default in (None, [], argparse.SUPPRESS) or not isinstance(action.default, str | Path):
        return ""
    return next((f"`${name}`" for name, text in environment.items() if text == action.default), f"`{action.default}`")


def settings(environment: dict[str, str]) -> Iterator[str]:
    parser = _parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    for name, command in commands.choices.items():
        yield f"\n## announcer {name}\n\n{cell(helps[name])[:1].upper()}{cell(helps[name])[1:]}.\n"
        yield "| option | default | |\n|---|---|---|"
        for action in command._actions:
            if action.dest == "help":
                continue
            options = ", ".join(f"`{f'{option} {shown(action)}'.strip()}`" for option in action.option_strings)
            text = DEFAULT.sub("", action.help or "")
            yield f"| {options or f'`{shown(action)}`'} | {default(action, environment)} | {cell(text)} |"
    yield ""


def kinds() -> Iterator[str]:
    yield "\n| kind | versions | in a | short | says |\n|---|---|---|---|---|"
    for crd in definitions().values():
        spec, names = crd["spec"], crd["spec"]["names"]
        versions = ", ".join(f"`{spec['group']}/{one['name']}`" for one in spec["versions"])
        schema = spec["versions"][-1]["schema"]["openAPIV3Schema"]
        scope = {"Namespaced": "namespace", "Cluster": "cluster"}[spec["scope"]]
        short = ", ".join(names.get("shortNames", []))
        yield f"| {names['kind']} | {versions} | {scope} | {short} | {cell(schema.get('description', ''))} |"
    own = definitions()["nodeannouncements.announcer.io.yaml"]["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]
    yield "\n## NodeAnnouncement\n\n| field | type | |\n|---|---|---|"
    yield from (f"| `{path}` | {kind(field)} | {cell(field.get('description', ''))} |" for path, field in leaves(own))
    yield ""


def kind(field: Schema) -> str:
    found = f"list of {field['items']['type']}" if field["type"] == "array" else field["type"]
    return f"{found}: {', '.join(map(str, field['enum']))}" if "enum" in field else found


def check(page: str, text: str) -> None:
    path = DOCS / page
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    found, _, after = rest.partition(END)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", "utf-8")
        return
    assert found == f"\n{text}"


def test_settings_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"NODE_NAME": "the-node", "POD_NAMESPACE": "the-namespace"}
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    check("settings.md", "\n".join(settings(environment)) + "\n")


def test_definitions_are_those_of_deploy() -> None:
    check("crds.md", "\n".join(kinds()) + "\n")


def test_environment_is_what_the_program_reads() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (REPOSITORY / "announcer").rglob("*.py"))
    read = {name for names in READS.findall(code) for name in names if name}
    page = (DOCS / "settings.md").read_text("utf-8")
    table = page.partition("## Environment")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == read
