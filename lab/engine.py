"""A container engine for the lab's images: docker as it runs on the machine, or else a dockerd of our own.

A dockerd that is started here has a socket of its own, no bridge and no firewall rules, and is ended by its process id;
its images stay in the cache. One whose run was killed is known by the mark in its environment, and ended by the next
run, or by `left`.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from lab import binaries
from lab.command import LabError, run, wait_until
from lab.ending import kill

RUN: Final = Path("/run/announcer-dockerd")
"""Its files while it runs; its last part is the name of its cgroup as well."""
PROGRAM: Final = "dockerd"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
LOCK_SECONDS: Final = 1800.0
MARK: Final = "ANNOUNCER_ENGINE"
"""In the environment of our dockerd, and so of the containerd and the shims that it starts: RUN."""


@contextmanager
def running() -> Iterator[bool]:
    """DOCKER_HOST leads to it for as long. True for a dockerd of ours alone: its builds need `--network=host`."""
    if _answers():
        yield False
        return
    with _locked(), _led_to_ours():
        _end_left()
        with _dockerd():
            _remove_containers()
            yield True


@contextmanager
def left() -> Iterator[bool]:
    """Whether a dockerd of ours has outlived its run, which was killed. DOCKER_HOST leads to it for as long; then it is
    ended, with its containers. One whose run lives is nobody else's to end: False.
    """
    if not _marked():
        yield False
        return
    with _try_locked() as is_nobodys, _led_to_ours():
        try:
            yield is_nobodys and _answers()
        finally:
            if is_nobodys:
                _end_left()


@contextmanager
def _led_to_ours() -> Iterator[None]:
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = _socket()
    try:
        yield
    finally:
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before


@contextmanager
def _locked() -> Iterator[None]:
    """One dockerd of ours at a time, as its files are for one."""
    with ExitStack() as stack:
        wait_until(lambda: _take(stack), LOCK_SECONDS, f"the end of another {PROGRAM} of the lab")
        yield


@contextmanager
def _try_locked() -> Iterator[bool]:
    with ExitStack() as stack:
        yield _take(stack)


def _take(stack: ExitStack) -> bool:
    """The lock is on the folder RUN, which goes with it: who has locked one that is gone has nothing."""
    RUN.mkdir(exist_ok=True)
    number = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_it = os.path.samestat(os.fstat(number), RUN.stat())
    except (BlockingIOError, FileNotFoundError):
        is_it = False
    if is_it:
        stack.callback(os.close, number)
        stack.callback(shutil.rmtree, RUN)
    else:
        os.close(number)
    return is_it


@contextmanager
def _dockerd() -> Iterator[None]:
    files, said = binaries.cache() / "docker", binaries.cache() / "docker.log"
    files.parent.mkdir(parents=True, exist_ok=True)
    argv = [PROGRAM, f"--data-root={files}", *_flags()]
    try:
        with said.open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: str(RUN)},
                start_new_session=True,
            )
    except OSError as error:
        raise LabError(f"no docker answers, and none can be started: {error}") from error
    try:
        wait_until(lambda: _answers() or process.poll() is not None, START_SECONDS, f"{PROGRAM}: {said}")
        if process.poll() is not None:
            raise LabError(f"{PROGRAM} ended with {process.returncode}: {said}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        _clean()


def _end_left() -> None:
    """A dockerd of a run that was killed; without it, what it had started."""
    with suppress(LabError, OSError, ValueError):
        pid = int((RUN / "pid").read_text("ascii"))
        if pid in _marked():
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: pid not in _marked(), STOP_SECONDS, f"the end of {PROGRAM}")
    wait_until(
        lambda: not kill(_marked(), _cgroups()), STOP_SECONDS, f"the end of what a {PROGRAM} of the lab has left"
    )
    _clean()


def _marked() -> set[int]:
    """A zombie has no environment any more: it counts as ended."""
    mark, found = f"{MARK}={RUN}".encode(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def _remove_containers() -> None:
    """Those of a run that was killed, which a new dockerd starts again."""
    if found := run(["docker", "ps", "--all", "--quiet"]).split():
        run(["docker", "rm", "--force", "--volumes", *found], timeout=STOP_SECONDS)


def _clean() -> None:
    """What a dockerd leaves beside its folder: mounts of its namespaces, and empty cgroups."""
    for mount in re.findall(rf" ({RUN}\S+) ", Path("/proc/self/mounts").read_text("utf-8")):
        run(["umount", mount])
    for cgroup in _cgroups():
        for folder, _, _ in os.walk(cgroup, topdown=False):
            Path(folder).rmdir()


def _cgroups() -> list[Path]:
    cgroups = Path("/sys/fs/cgroup")
    return [*cgroups.glob(RUN.name), *cgroups.glob(f"*/{RUN.name}")]


def _socket() -> str:
    return f"unix://{RUN}/docker.sock"


def _flags() -> tuple[str, ...]:
    return (
        *(f"--exec-root={RUN}/exec", f"--pidfile={RUN}/pid", f"--host={_socket()}"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false"),
        *(f"--cgroup-parent=/{RUN.name}", "--exec-opt=native.cgroupdriver=cgroupfs"),
    )


def _answers() -> bool:
    try:
        run(["docker", "version", "--format", "{{.Server.Version}}"])
    except LabError:
        return False
    return True
