"""Logs: one record is one line, in both forms."""

import json
import logging

import pytest

from announcer import log


def record(**values: object) -> logging.LogRecord:
    made = logging.LogRecord("announcer.x", logging.WARNING, "f.py", 1, "it happened", None, None)
    made.fields = values
    return made


def test_json_has_event_level_and_fields() -> None:
    line = json.loads(log.JsonFormatter().format(record(address="10.0.0.1", count=3)))
    assert (line["event"], line["level"], line["address"], line["count"]) == ("it happened", "warning", "10.0.0.1", 3)


@pytest.mark.parametrize(("value", "shown"), [("a", "x=a"), ("a b", 'x="a b"'), ("a\nb", 'x="a\\nb"'), ("", 'x=""')])
def test_text_shows_fields_on_one_line(value: str, shown: str) -> None:
    line = log.TextFormatter().format(record(x=value))
    assert line.endswith(f"warning it happened  {shown}")
    assert "\n" not in line
