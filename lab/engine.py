"""A container engine for the lab's images: docker as it runs on the machine, or else a dockerd of our own.

A dockerd that is started here has a socket of its own, no bridge and no firewall rules, and is ended by its process id;
its images stay in the cache. Where a base of images can't be pulled, it gets a Debian of this machine's mirror in its
place, under the same name; in a dockerd of ours alone.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lab import binaries
from lab.command import LabError, run, wait_until

RUN: Final = Path("/run/announcer-dockerd")
PROGRAM: Final = "dockerd"
SOCKET: Final = f"unix://{RUN}/docker.sock"
CGROUP: Final = "announcer-dockerd"
FLAGS: Final = (
    *(f"--exec-root={RUN}/exec", f"--pidfile={RUN}/pid", f"--host={SOCKET}"),
    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    *(f"--cgroup-parent=/{CGROUP}", "--exec-opt=native.cgroupdriver=cgroupfs"),
)
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
PULL_SECONDS: Final = 300.0
BUILD_SECONDS: Final = 1800.0
OF_THE_MACHINE: Final = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
"""How this machine reaches packages: whom it trusts, and where pip looks."""


@contextmanager
def running() -> Iterator[bool]:
    """DOCKER_HOST leads to it for as long. True for a dockerd of ours alone: its builds need `--network=host`."""
    if _answers():
        yield False
        return
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = SOCKET
    try:
        with _locked(), _dockerd():
            yield True
    finally:
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before


def provide_bases(bases: Iterable[str], *, may_make: bool) -> None:
    """Pull what isn't there; raises LabError where that fails, and none may be made."""
    missing = []
    for base in bases:
        with suppress(LabError):
            run(["docker", "image", "inspect", base])
            continue
        try:
            run(["docker", "pull", "--quiet", base], timeout=PULL_SECONDS)
        except LabError:
            if not may_make:
                raise
            missing.append(base)
    if missing:
        _make(missing)


def _make(bases: list[str]) -> None:
    sys.stdout.write(f"images: {', '.join(bases)} can't be pulled; a Debian of this machine's mirror takes the place\n")
    sys.stdout.flush()
    mirror = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).split()[0]
    with tempfile.TemporaryDirectory(dir=binaries.cache()) as folder:
        root, archive = Path(folder, "base"), f"{folder}/base.tar"
        debootstrap = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
        run([*debootstrap, "bookworm", str(root), mirror], timeout=BUILD_SECONDS)
        for file in OF_THE_MACHINE:
            if Path("/", file).exists():
                shutil.copyfile(f"/{file}", root / file)
        leave_out = [f"--exclude=./{place}/*" for place in ("var/cache/apt", "var/lib/apt/lists", "proc", "sys")]
        run(["tar", "-C", str(root), *leave_out, "-cf", archive, "."], timeout=BUILD_SECONDS)
        for base in bases:
            run(["docker", "import", "--change", 'CMD ["python3"]', archive, base], timeout=BUILD_SECONDS)


@contextmanager
def _locked() -> Iterator[None]:
    """One dockerd of ours at a time, as its files are for one."""
    binaries.cache().mkdir(parents=True, exist_ok=True)
    with (binaries.cache() / "docker.lock").open("w") as file:
        wait_until(lambda: _try_to_lock(file.fileno()), BUILD_SECONDS, f"the end of another {PROGRAM} of the lab")
        yield


def _try_to_lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _dockerd() -> Iterator[None]:
    files, said = binaries.cache() / "docker", binaries.cache() / "docker.log"
    RUN.mkdir(exist_ok=True)
    try:
        with said.open("wb") as log:
            argv = [PROGRAM, f"--data-root={files}", *FLAGS]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
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


def _clean() -> None:
    """What a dockerd leaves: the mount of its namespace, empty cgroups and folders."""
    for mount in re.findall(rf" ({RUN}\S+) ", Path("/proc/self/mounts").read_text("utf-8")):
        run(["umount", mount])
    cgroups = Path("/sys/fs/cgroup")
    for cgroup in (*cgroups.glob(CGROUP), *cgroups.glob(f"*/{CGROUP}")):
        cgroup.rmdir()
    shutil.rmtree(RUN)


def _answers() -> bool:
    try:
        run(["docker", "version", "--format", "{{.Server.Version}}"])
    except LabError:
        return False
    return True
