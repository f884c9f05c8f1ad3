"""Settings of ownership: what is refused, and with which words."""

import pytest

from announcer.core.own import Timing, read_timing


def test_no_setting_is_the_defaults_and_they_are_safe() -> None:
    assert read_timing([]) == Timing().check()


def test_settings_are_read_over_the_defaults() -> None:
    assert read_timing(["interval=0.2", "fence=20", "announce-steady=30"]) == Timing(
        interval=0.2, fence=20, announce_steady=30.0
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval=0.04", "interval = 0.04: must be from 0.05 to 1 s; try 0.1"),
        ("fence=9", "fence = 9: must exceed three refreshes; try 10"),
        ("fence=301", "fence = 301: must be 300 s or less"),
        ("refresh=4", "fence = 10: must exceed three refreshes; try 13"),
        ("farewell=5", "farewell = 5: must be from the fence to 3600 s"),
        ("missed=1", "missed = 1: must be from 2 to 20"),
        ("watch=0.1", "watch = 0.1: must be from 5 intervals to 60 s"),
        ("leave=0.5", "leave = 0.5: must be from 10 intervals to 30 s"),
        ("fence=ten", "fence = 'ten': is not a whole number"),
        ("interval=nan", "interval = nan: must be from 0.05 to 1 s"),
        ("bulk=1", "bulk: no such setting; there are interval"),
    ],
)
def test_unsafe_settings_are_refused_with_a_remedy(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        read_timing([text])
