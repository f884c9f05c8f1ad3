"""What the lab's images are built with, and that nothing of the machine that builds them is among it."""

import re
from pathlib import Path

import pytest

from lab import bases, images
from lab.topology import REPOSITORY

DOCKERFILES = sorted((REPOSITORY / "images").glob("*.Dockerfile"))


def test_flags_of_the_caller_come_after_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FLAGS", '--label "a=b c"')
    assert images.make_argv(["--network=host"])[-1] == 'IMAGE_FLAGS=--network=host --label "a=b c"'
    monkeypatch.delenv("IMAGE_FLAGS")
    assert images.make_argv([])[-1].split("=") == ["IMAGE_FLAGS", " "]


def test_other_flags_make_another_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGE_FLAGS", raising=False)
    before = images.fingerprint()
    monkeypatch.setenv("IMAGE_FLAGS", "--build-arg BASE=registry.example/python")
    assert images.fingerprint() != before


def test_bases_are_those_that_the_files_name() -> None:
    assert images.all_bases() == ["debian:bookworm-slim", "python:3.11-slim-bookworm"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.stem)
def test_packages_are_fetched_in_a_stage_of_its_own(file: Path) -> None:
    """Only there is BUILD_BASE, which knows how the machine reaches them."""
    first, last = re.split(r"^FROM ", file.read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert first.startswith("${BUILD_BASE} AS build\n")
    assert "BUILD_BASE" not in last
    assert not re.search(r"apt-get update|pip install|curl http|PIP_INDEX_URL", last)


def test_base_that_is_made_here_knows_nothing_of_the_machine(tmp_path: Path) -> None:
    left = {"etc/passwd": "root\n", "etc/apt/sources.list": "deb http://mirror.example/debian bookworm main\n"}
    for name, text in (left | dict.fromkeys(bases.FROM_THE_MACHINE, "mirror.example\n")).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    bases.make_neutral(tmp_path)
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == left | {"etc/apt/sources.list": bases.NO_SOURCES}
