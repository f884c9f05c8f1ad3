"""The configuration files in the directory that agent and ExaBGP share.

| file | is | put there by |
|---|---|---|
| `exabgp.next` | what ExaBGP is to run | the agent |
| `exabgp.checked` | the same, while another ExaBGP reads it | bridge or `exabgp/run` |
| `exabgp.conf` | what it runs, or starts with | bridge or `exabgp/run`, once ExaBGP was seen to take it |

Both are replaced at once and whole. Passwords are in them, so they are their owner's alone from the first byte on.
"""

import os
from pathlib import Path
from typing import Final

CONFIGURATION: Final = "exabgp.conf"
CANDIDATE: Final = "exabgp.next"
CHECKED: Final = "exabgp.checked"
MODE: Final = 0o600


def newest(directory: Path) -> str:
    """The text that was put last; empty where there is none yet, or one that nobody of us wrote.

    In the order in which a text goes from name to name: none is missed that moves meanwhile.
    """
    return _read(directory / CANDIDATE) or _read(directory / CHECKED) or _read(directory / CONFIGURATION)


def is_any(directory: Path) -> bool:
    return any((directory / name).exists() for name in (CANDIDATE, CONFIGURATION))


def put(directory: Path, text: str) -> None:
    """As a candidate, unless the configuration says the same already."""
    candidate = directory / CANDIDATE
    if _is_written(directory / CONFIGURATION, text):
        candidate.unlink(missing_ok=True)
    elif not _is_written(candidate, text):
        _write(candidate, text)


def _is_written(path: Path, text: str) -> bool:
    try:
        return _read(path) == text and path.stat().st_mode & 0o777 == MODE
    except FileNotFoundError:  # the bridge takes a candidate away
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w", encoding="ascii") as file:
        file.write(text)
    fresh.replace(path)
