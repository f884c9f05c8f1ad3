"""One file's text: what is read, and what is said about mistakes."""

from itertools import pairwise

import pytest

from announcer.core.model import Reason
from announcer.store.manifests.documents import read

NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n"


def names(text: str) -> list[str]:
    return [str(document.raw["metadata"]["name"]) for document in read(text, "f.yaml").documents]


def test_several_documents_are_read_with_their_lines() -> None:
    contents = read("---\n" + NODE % "a" + "---\n# nothing\n---\n" + NODE % "b", "f.yaml")
    assert [d.source for d in contents.documents] == ["f.yaml:2", "f.yaml:8"]
    assert contents.problems == ()


def test_list_is_unfolded() -> None:
    assert names("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Node, metadata: {name: a}}]\n") == ["a"]


def test_timestamp_stays_a_string() -> None:
    (document,) = read(NODE % "a" + "at: 2026-01-01T00:00:00Z\n", "f").documents
    assert document.raw["at"] == "2026-01-01T00:00:00Z"


def test_broken_document_leaves_the_others() -> None:
    contents = read(NODE % "a" + "---\nkind: Service\nspec: [1\n---\n" + NODE % "b", "f.yaml")
    assert [d.raw["metadata"]["name"] for d in contents.documents] == ["a", "b"]
    assert contents.problems[0].reason is Reason.UNREADABLE_FILE


def test_missing_separator_names_both_objects_and_the_line() -> None:
    contents = read(NODE % "a" + NODE % "b", "f.yaml")
    assert contents.documents == ()
    assert [str(p.ref) for p in contents.problems] == ["Node a", "Node b"]
    assert {p.remedy for p in contents.problems} == {"put a line `---` before line 4"}


@pytest.mark.parametrize(
    "text",
    [
        NODE % "a" + "labels: {x: 1, x: 2}\n",
        "- just\n- a list\n",
        "kind: Node\n",
        "a: *nowhere\n",
        "\tx: 1\n",
        '{"kind": ',
    ],
)
def test_what_is_no_object_is_a_problem_and_no_crash(text: str) -> None:
    contents = read(text, "f.yaml")
    assert contents.documents == ()
    assert contents.problems


def test_aliases_that_multiply_cost_nothing() -> None:
    levels = (f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghijklmnopqrstuvwx"))
    bomb = "a: &a [x, x]\n" + "".join(levels)
    assert read(NODE % "a" + bomb, "f.yaml").problems == ()
