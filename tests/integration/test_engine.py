"""A dockerd of our own whose run was killed: the next run ends it, and `lab-down`. docker and dockerd are fakes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import engine
from lab.command import LabError, wait_until
from lab.topology import REPOSITORY

SECONDS = 20.0
DOCKERD = f"""#!{sys.executable}
import os, signal, sys
from pathlib import Path
flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
socket = Path(flags["host"].removeprefix("unix://"))
for path, text in ((Path(flags["pidfile"]), str(os.getpid())), (socket, "")):
    path.write_text(text)
signal.signal(signal.SIGTERM, lambda *_: (socket.unlink(), sys.exit()))
while True:
    signal.pause()
"""
DOCKER = """#!/bin/sh
test -e "${DOCKER_HOST#unix://}"
"""
RUN = """
import signal, sys
from pathlib import Path
from lab import engine
engine.RUN = Path(sys.argv[1])
with engine.running():
    print("runs", flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the engine of these tests has its files; nothing of it is there afterwards."""
    programs, run = tmp_path / "programs", tmp_path / f"engine-{os.getpid()}"
    programs.mkdir()
    for name, text in (("dockerd", DOCKERD), ("docker", DOCKER)):
        (programs / name).write_text(text, "ascii")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody")
    monkeypatch.setattr(engine, "RUN", run)
    yield run
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((run / "pid").read_text("ascii")), signal.SIGKILL)


def start(place: Path) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", RUN, str(place)]
    process = subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "runs\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait(SECONDS)


def is_alive(pid: int) -> bool:
    """Zombies, which nobody here is the parent of, don't count."""
    with suppress(OSError):
        return bool(Path(f"/proc/{pid}/environ").read_bytes())
    return False


def pid_of(place: Path) -> int:
    return int((place / "pid").read_text("ascii"))


def test_engine_of_a_killed_run_is_found_and_ended(place: Path) -> None:
    end(start(place))
    pid = pid_of(place)
    assert is_alive(pid)
    with engine.left() as is_there:
        assert is_there
        assert os.environ["DOCKER_HOST"] == f"unix://{place}/docker.sock"
    assert (is_alive(pid), place.exists(), os.environ["DOCKER_HOST"]) == (False, False, "unix:///nobody")


def test_engine_of_a_killed_run_is_ended_also_where_its_containers_cannot_be(place: Path) -> None:
    end(start(place))
    pid = pid_of(place)
    with pytest.raises(LabError, match="no such container"), engine.left():
        raise LabError("no such container")
    assert (is_alive(pid), place.exists()) == (False, False)


def test_engine_of_a_killed_run_is_ended_by_the_next(place: Path) -> None:
    end(start(place))
    pid = pid_of(place)
    with engine.running() as is_ours:
        assert is_ours
        assert (is_alive(pid), is_alive(pid_of(place))) == (False, True)
    assert not place.exists()


def test_engine_that_hangs_is_ended_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end(start(place))
    pid = pid_of(place)
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    with engine.left():
        pass
    wait_until(lambda: not is_alive(pid), SECONDS, "its end")


def test_engine_of_a_run_that_lives_stays(place: Path) -> None:
    process = start(place)
    with engine.left() as is_there:
        assert not is_there
    assert is_alive(pid_of(place))
    end(process)


def test_process_that_has_only_the_number_of_a_dockerd_stays(place: Path) -> None:
    place.mkdir()
    (place / "pid").write_text(str(os.getppid()), "ascii")
    with engine.left() as is_there:
        assert not is_there
    with engine.running():
        assert is_alive(os.getppid())
