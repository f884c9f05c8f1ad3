"""What happens before the command line is read."""

import subprocess
import sys

ENTER = """
import sys
from announcer import __main__ as entry
told = []
entry.go_before_others = lambda: told.append("announcer.cli" in sys.modules)
sys.argv = ["announcer", {command!r}, "--help"]
try:
    entry.main()
except SystemExit:
    print("before the rest is imported:", told)
"""


def _enter(command: str) -> str:
    argv = [sys.executable, "-c", ENTER.format(command=command)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()[-1]


def test_agent_goes_before_others_while_it_still_imports() -> None:
    assert _enter("agent") == "before the rest is imported: [False]"


def test_allocator_waits_like_others() -> None:
    assert _enter("allocator") == "before the rest is imported: []"
