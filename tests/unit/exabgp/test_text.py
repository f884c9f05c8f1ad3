"""What may become a word of a line protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from announcer.exabgp.text import ExabgpError, word
from tests.builders import ip, net


def test_word_passes_addresses_prefixes_numbers_and_paths() -> None:
    values = (ip("10.0.0.1"), net("fd00::/64"), 64512, "65535:0", "/run/announcer/bridge")
    assert [word(value) for value in values] == ["10.0.0.1", "fd00::/64", "64512", "65535:0", "/run/announcer/bridge"]


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "a;b", "a{", "}", '"a"', "'a'", "[1", "a#b", "a\\b", "ä", "a\x00"])
def test_word_refuses_what_exabgp_reads_as_syntax(text: str) -> None:
    with pytest.raises(ExabgpError):
        word(text)


@given(st.text())
def test_word_lets_no_character_through_that_is_not_plain(text: str) -> None:
    try:
        passed = word(text)
    except ExabgpError:
        return
    assert passed.isascii()
    assert passed.isprintable()
    assert not set(passed) & set(" ;{}[]\"'#\\")
