"""Running the system's own tools, outside and inside the lab's namespaces; the one place where they can fail."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 30.0


class LabError(Exception):
    """The lab can't be built, asked or taken away; the text says which command failed and what it said."""


def run(argv: Sequence[str], *, stdin: str = "", timeout: float = TIMEOUT_SECONDS, folder: Path | None = None) -> str:
    """What the command writes to stdout, run in `folder`; a status other than 0 is a LabError."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=True, cwd=folder
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or error.stdout.strip()
        raise LabError(f"`{' '.join(argv)}` ended with {error.returncode}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"`{' '.join(argv)}`: {error}") from error
    return done.stdout


def run_json(argv: Sequence[str], *, timeout: float = TIMEOUT_SECONDS) -> Any:
    return read_json(run(argv, timeout=timeout), argv)


def read_json(text: str, argv: Sequence[str]) -> Any:
    """What a command wrote; `ip` writes nothing at all for an empty list."""
    try:
        return json.loads(text or "[]")
    except json.JSONDecodeError as error:
        raise LabError(f"`{' '.join(argv)}` wrote no JSON: {error}") from error


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look every 50 ms until it holds; a LabError that names `what` once the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


def inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """`argv` as it has to be called from outside to run in a namespace. It becomes the same process (no fork)."""
    return ["ip", "netns", "exec", namespace, *argv]
