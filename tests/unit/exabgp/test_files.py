"""Which of the files that agent and ExaBGP share is the newest."""

from pathlib import Path

import pytest

from announcer.exabgp import files


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        ((), ""),
        (("exabgp.conf",), "exabgp.conf"),
        (("exabgp.conf", "exabgp.checked"), "exabgp.checked"),
        (("exabgp.conf", "exabgp.checked", "exabgp.next"), "exabgp.next"),
    ],
)
def test_newest_is_what_was_put_last_also_while_it_is_checked(
    tmp_path: Path, names: tuple[str, ...], newest: str
) -> None:
    for name in names:
        (tmp_path / name).write_text(name, "ascii")
    assert files.newest(tmp_path) == newest
