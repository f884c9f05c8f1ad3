"""Structured logs on stderr, for people (`text`) or for collectors (`json`).

A record's event is a fixed sentence; what varies goes into `extra={"fields": {...}}`, so that both forms can show it
and a collector can search by it. Control characters in values are escaped: one record is one line.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

Format = Literal["text", "json"]


def configure(style: Format, level: str) -> None:
    """Send every record of the process to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def fields(**values: object) -> Mapping[str, Any]:
    """For `extra`: `log.info("pass done", extra=fields(actions=3))`."""
    return {"fields": values}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        shown = " ".join(f"{name}={_word(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{'  ' + shown if shown else ''}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in _fields(record).items() if name not in line})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found = getattr(record, "fields", {})
    return found if isinstance(found, Mapping) else {}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not any(c in text for c in ' "=') else json.dumps(text)
