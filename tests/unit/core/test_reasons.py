"""docs/troubleshooting.md has an entry for every Reason, and no other; its links lead somewhere."""

import re

from announcer.core.model import Reason
from lab.topology import REPOSITORY

PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text("utf-8")
ENTRY = re.compile(r"^\| `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def test_every_reason_has_one_entry_that_says_what_it_means_and_what_to_do() -> None:
    entries = [name for name, *_ in ENTRY.findall(PAGE)]
    assert sorted(entries) == sorted(Reason)
