"""docs/routers shows what the lab runs, and says of everything else that it was not run."""

import pytest

from lab.routers import ROUTERS, frr
from lab.topology import REPOSITORY, Lab
from lab.topology import ROUTERS as NAMES

PAGES = REPOSITORY / "docs" / "routers"
OTHERS = ["arista-eos", "cisco-iosxr", "cisco-nxos", "juniper", "sonic"]


@pytest.mark.parametrize("router", NAMES)
def test_page_of_a_router_has_the_configurations_that_the_lab_runs(router: str) -> None:
    page = (PAGES / f"{router}.md").read_text("utf-8")
    for name, text in ROUTERS[router].configurations().items():
        assert f"`{name}`:\n\n```\n{text}```\n" in page


def test_page_of_frr_has_the_option_that_the_lab_starts_zebra_with() -> None:
    assert frr.REPLACE_V6 in frr.daemon_argv(Lab(), "zebra")
    assert f'zebra_options="-A 127.0.0.1 -s 90000000 {frr.REPLACE_V6}"' in (PAGES / "frr.md").read_text("utf-8")


@pytest.mark.parametrize("name", OTHERS)
def test_page_of_a_router_that_the_lab_has_not_says_so(name: str) -> None:
    assert "**Not run here.**" in (PAGES / f"{name}.md").read_text("utf-8")


def test_every_page_is_linked() -> None:
    index = (PAGES / "README.md").read_text("utf-8")
    pages = {page.stem for page in PAGES.glob("*.md")} - {"README"}
    assert pages == {*NAMES, *OTHERS}
    assert all(f"({page}.md)" in index for page in pages)
