"""Every page of docs/: links lead somewhere, and the README leads to each page."""

import re
from pathlib import Path

import pytest

from lab.topology import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *REPOSITORY.glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


def target(page: Path, link: str) -> Path:
    place = link.partition("#")[0]
    return (page.parent / place).resolve() if place else page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_what_is_there(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if link.startswith("https://"):
            continue
        found = target(page, link)
        assert found.exists(), link
        _, _, anchor = link.partition("#")
        assert not anchor or anchor in anchors(found.read_text("utf-8")), link


def test_readme_leads_to_every_page() -> None:
    """By itself or by a page in the same folder as others."""
    seen, ahead = set(), [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = [
            target(page, link) for link in LINK.findall(page.read_text("utf-8")) if not link.startswith("https://")
        ]
        ahead += [one for found in links for one in (sorted(found.glob("*.md")) if found.is_dir() else [found])]
    assert set(DOCS.rglob("*.md")) <= seen
