"""docs/security.md: each claim's test exists."""

import re

from lab.topology import REPOSITORY

PAGE = (REPOSITORY / "docs" / "security.md").read_text("utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
CLAIMS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| could")]
OTHERS = "nothing of ours"


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE)
    assert named
    for file, name in named:
        assert f"def {name}(" in (REPOSITORY / "tests" / file).read_text("utf-8"), f"{file}::{name}"


def test_every_claim_names_a_test_or_says_that_nothing_of_ours_stands_against_it() -> None:
    assert [line for line in CLAIMS if not NAMED.search(line[-1]) and OTHERS not in line[1]] == []


def test_every_way_to_write_a_test_is_understood() -> None:
    assert PAGE.count("::test_") == len(NAMED.findall(PAGE))
