"""Keeps the lab's processes running: `python -m lab.supervisor RUN_DIR`, with the list in RUN_DIR/children.json.

A process that ends is started again after its pause, unless RUN_DIR/hold/NAME exists. Their logs are bounded. SIGTERM
ends all of them and then the supervisor. It runs in the background for as long as the lab is up.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab.processes import SUPERVISOR, Child, is_held, record, spawn
from lab.topology import Lab

TICK_SECONDS = 0.1
LOG_CHECK_TICKS = 20
LOG_LIMIT_BYTES = 4 * 2**20
STOP_SECONDS = 6.0

log = logging.getLogger("lab.supervisor")


class Keeper:
    """One process over all its lives."""

    def __init__(self, lab: Lab, child: Child) -> None:
        self._lab, self._child = lab, child
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0

    def tick(self, now: float) -> None:
        """Notice an end; start what is due and not held."""
        name = self._child.name
        if self._process is not None and self._process.poll() is not None:
            log.info("%s ended with %d", name, self._process.returncode)
            self._process, self._start_at = None, now + self._child.restart_seconds
        if self._process is None and now >= self._start_at and not is_held(self._lab, name):
            self._process = spawn(self._lab, name, list(self._child.argv))
            record(self._lab, name, self._process.pid)
            log.info("%s started as %d", name, self._process.pid)

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Kill it where it has not ended by then."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end on SIGTERM", self._child.name)
            self._process.kill()
            self._process.wait(STOP_SECONDS)


def bound_logs(lab: Lab) -> None:
    """Keep the last part of a long log as NAME.log.1. Writers append, so a log can be cut under their hands."""
    for path in (lab.run_dir / "log").glob("*.log"):
        with suppress(FileNotFoundError):
            if path.stat().st_size > LOG_LIMIT_BYTES:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)


def supervise(lab: Lab, children: Sequence[Child], told: threading.Event) -> None:
    keepers = [Keeper(lab, child) for child in children]
    ticks = 0
    while not told.wait(TICK_SECONDS):
        for keeper in keepers:
            keeper.tick(time.monotonic())
        ticks += 1
        if ticks % LOG_CHECK_TICKS == 0:
            bound_logs(lab)
    for keeper in keepers:
        keeper.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for keeper in keepers:
        keeper.wait(max(0.0, deadline - time.monotonic()))


def main(run_dir: Path) -> None:
    """Go to the background first, so that the caller can wait for its child and ends without one."""
    if os.fork():
        os._exit(0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    lab = Lab(run_dir=run_dir)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    record(lab, SUPERVISOR, os.getpid())
    children = json.loads((run_dir / "children.json").read_text(encoding="utf-8"))
    supervise(lab, [Child(**{**child, "argv": tuple(child["argv"])}) for child in children], told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
