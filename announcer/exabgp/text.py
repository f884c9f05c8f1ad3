"""The one place where a value becomes a word of ExaBGP's line protocols: its configuration file and its API."""

import re

# Letters, digits and what addresses, prefixes, paths and communities need. No blank, quote, bracket, brace, semicolon,
# number sign, backslash, control character or byte beyond ASCII: each of them means something to ExaBGP.
_WORD = re.compile(r"[A-Za-z0-9._:/+@=-]+")


class ExabgpError(Exception):
    """What was wanted of ExaBGP could not be had. Another pass may have more luck."""


def word(value: object) -> str:
    text = str(value)
    if not _WORD.fullmatch(text):
        raise ExabgpError(f"not a word for ExaBGP: {text!r}")
    return text
