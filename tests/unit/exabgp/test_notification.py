"""What is made of a NOTIFICATION's bytes."""

import pytest

from announcer.exabgp.notification import text_of


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x04\x00", "NOTIFICATION received: 4/0 Hold Timer Expired"),
        (b"\x02\x02\xfc\x00", "NOTIFICATION received: 2/2 OPEN Message Error, Bad Peer AS"),
        (b"\x06\x02", "NOTIFICATION received: 6/2 Cease, Administrative Shutdown"),
        (b"\x06\x02\x07tonight", 'NOTIFICATION received: 6/2 Cease, Administrative Shutdown: "tonight"'),
        (b"\x06\x04\x04a\nb\x1b more", 'NOTIFICATION received: 6/4 Cease, Administrative Reset: "a b"'),
        (b"\x06\x02\x02\xc3\xbc", 'NOTIFICATION received: 6/2 Cease, Administrative Shutdown: "\u00fc"'),
        (b"\x06\x02\x01\xff", 'NOTIFICATION received: 6/2 Cease, Administrative Shutdown: "\ufffd"'),
        (b"\x06\x02\xff" + 255 * b"x", f'NOTIFICATION received: 6/2 Cease, Administrative Shutdown: "{255 * "x"}"'),
        (b"\xee\x09", "NOTIFICATION received: 238/9"),
    ],
)
def test_notification_is_told_in_the_words_of_its_rfc(body: bytes, text: str) -> None:
    assert text_of(body, is_sent=False) == text


def test_notification_that_we_sent_says_so() -> None:
    assert text_of(b"\x04\x00", is_sent=True) == "NOTIFICATION sent: 4/0 Hold Timer Expired"


@pytest.mark.parametrize("body", [b"", b"\x06"])
def test_notification_without_a_code_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="code"):
        text_of(body, is_sent=False)
