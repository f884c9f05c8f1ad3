"""One file's text to raw objects and Problems; a mistake in one document leaves the others alone.

YAML is read as Kubernetes reads it: a timestamp is a string, and a key that stands twice in a mapping is a mistake. At
the top level of a document that mistake is nearly always a `---` that was forgotten between two objects.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import yaml

from announcer.core.dialects.mistakes import explain
from announcer.core.model import ObjectRef, Problem, Reason

SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A raw object and where it begins, as `file:line`."""

    raw: Mapping[str, Any]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Loader(yaml.CSafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in some if tag != "tag:yaml.org,2002:timestamp"]
    for first, some in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str, name: str) -> Contents:
    """`name` is the file's path within the folder, for people."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for line, part in _split(text):
        try:
            documents += _read_one(part, name, line)
        except _MistakeError as mistake:
            problems += mistake.problems
    return Contents(documents=tuple(documents), problems=tuple(problems))


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Documents with the number of the line before their first. `---` at a line's start always separates."""
    start = 0
    for found in [*SEPARATOR.finditer(text), None]:
        end = found.start() if found else len(text)
        if text[start:end].strip():
            yield text.count("\n", 0, start), text[start:end]
        start = found.end() if found else end


class _MistakeError(Exception):
    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


def _read_one(text: str, name: str, line: int) -> list[Document]:
    if text.lstrip().startswith("{"):  # what we write ourselves; ten times faster than as YAML
        try:
            return list(_objects(json.loads(text), f"{name}:{line + 1}"))
        except ValueError:
            pass
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return []
        _refuse_duplicates(node, name, line)
        raw = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = mark.line if mark else 0
        words = getattr(error, "problem", None) or str(error)
        raise _MistakeError(explain(text, where, words, f"{name}:{line + where + 1}")) from error
    finally:
        loader.dispose()
    return list(_objects(raw, f"{name}:{line + node.start_mark.line + 1}"))


def _objects(raw: object, source: str) -> Iterator[Document]:
    if (
        not isinstance(raw, Mapping)
        or not isinstance(raw.get("kind"), str)
        or not isinstance(raw.get("apiVersion"), str)
    ):
        raise _MistakeError(
            Problem(
                ref=ObjectRef(kind="document", name="", source=source),
                field="apiVersion, kind",
                value="",
                message="is not a Kubernetes object: both must be there, as strings",
                reason=Reason.UNREADABLE_FILE,
            )
        )
    if raw["kind"] == "List" and isinstance(raw.get("items"), list):
        for item in raw["items"]:
            yield from _objects(item, source)
        return
    yield Document(raw=raw, source=source)


def _refuse_duplicates(top: yaml.Node, name: str, line: int) -> None:
    """Every mapping is looked at once, however many aliases lead to it."""
    seen: set[int] = set()
    waiting: list[yaml.Node] = [top]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, yaml.Node] = {}
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    raise _MistakeError(*_duplicate(top, node, key, name, line))
                keys[key.value if isinstance(key, yaml.ScalarNode) else str(id(key))] = value
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _duplicate(top: yaml.Node, node: yaml.MappingNode, key: yaml.ScalarNode, name: str, line: int) -> list[Problem]:
    at = line + key.start_mark.line + 1
    refs = _refs(top, f"{name}:{at}")
    if node is not top or len(refs) < 2:
        message = f"the key stands twice in one mapping, again in line {at}"
        return [Problem(ref=refs[0], field=key.value, value="", message=message, reason=Reason.UNREADABLE_FILE)]
    return [
        Problem(
            ref=ref,
            field=key.value,
            value="",
            message=f"stands twice in one document: {' and '.join(map(str, refs))} run into each other",
            remedy=f"put a line `---` before line {at}",
            reason=Reason.MISSING_SEPARATOR,
        )
        for ref in refs
    ]


def _refs(top: yaml.Node, source: str) -> list[ObjectRef]:
    """The objects that a document's top level names, one per `kind`, in order."""
    pairs = [(k.value, v) for k, v in top.value if isinstance(k, yaml.ScalarNode)] if _is_mapping(top) else []
    kinds = [value.value for key, value in pairs if key == "kind"] or ["document"]
    names = [dict(_scalars(value)) for key, value in pairs if key == "metadata"] or [{}]
    names += [{}] * (len(kinds) - len(names))
    return [
        ObjectRef(kind=kind, namespace=found.get("namespace", ""), name=found.get("name", ""), source=source)
        for kind, found in zip(kinds, names, strict=False)
    ]


def _is_mapping(node: yaml.Node) -> "TypeGuard[yaml.MappingNode]":
    return isinstance(node, yaml.MappingNode)


def _scalars(node: yaml.Node) -> Iterator[tuple[str, str]]:
    if _is_mapping(node):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode):
                yield key.value, value.value
