"""The container images of the lab's pods, as one archive in the cache: built from images/ by docker when those changed.

A docker daemon that runs is used; else one is started for as long as the build takes, with its files in the cache. The
base is pulled; where no registry can be reached, a Debian by `debootstrap` from the mirror of this machine takes its
place under the same name, in a daemon of ours alone.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lab import binaries
from lab.command import LabError, run, wait_until
from lab.topology import REPOSITORY

BASE: Final = "python:3.11-slim-bookworm"
FILES: Final = {
    "announcer": "images/announcer.Dockerfile",
    "announcer-exabgp": "images/exabgp.Dockerfile",
    "announcer-lab": "lab/cluster/pod.Dockerfile",
}
SOURCES: Final = ("announcer", "exabgp", "images", "lab/cluster", "lab/http_server.py", "pyproject.toml", "README.md")
"""What goes into them."""
START_SECONDS: Final = 30.0
PULL_SECONDS: Final = 120.0
BUILD_SECONDS: Final = 1800.0


def provide() -> Path:
    """The archive, after building it where it is missing; raises LabError. Archives of other sources go."""
    place = binaries.cache()
    archive = place / f"images-{_fingerprint()}.tar"
    if archive.exists():
        return archive
    place.mkdir(parents=True, exist_ok=True)
    sys.stdout.write("images: building them into the cache, which takes minutes the first time\n")
    sys.stdout.flush()
    with _docker(place) as (docker, is_ours), tempfile.TemporaryDirectory(dir=place) as fresh:
        _provide_base(docker, Path(fresh), may_import=is_ours)
        version = _version()
        for name, file in FILES.items():
            build = [*docker, "build", "--quiet", "--network=host", "--file", file, "--tag", f"{name}:{version}", "."]
            run(build, timeout=BUILD_SECONDS, folder=REPOSITORY)
        names = [f"{name}:{version}" for name in FILES]
        run([*docker, "save", "--output", f"{fresh}/images.tar", *names], timeout=BUILD_SECONDS)
        for old in place.glob("images-*.tar"):
            old.unlink(missing_ok=True)
        Path(fresh, "images.tar").replace(archive)
    return archive


def _fingerprint() -> str:
    found = hashlib.sha256()
    for file in (REPOSITORY / source for source in SOURCES):
        for one in sorted(file.rglob("*")) if file.is_dir() else [file]:
            if one.is_file() and one.suffix != ".pyc":
                found.update(f"{one.relative_to(REPOSITORY)}\n".encode() + one.read_bytes())
    return found.hexdigest()[:16]


def _version() -> str:
    """The tag that deploy/ has."""
    found = re.search(r'^version = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise LabError("pyproject.toml has no version")
    return found.group(1)


@contextmanager
def _docker(place: Path) -> Iterator[tuple[list[str], bool]]:
    """The command that speaks to a daemon, and whether that is one of ours alone."""
    with suppress(LabError):
        run(["docker", "version", "--format", "{{.Server.Version}}"])
        yield ["docker"], False
        return
    files = place / "docker"
    with tempfile.TemporaryDirectory(prefix="lab-docker-") as folder, Path(folder, "log").open("wb") as log:
        socket = f"unix://{folder}/socket"
        own = ["--data-root", str(files), "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid", "-H", socket]
        argv = ["dockerd", *own, "--bridge=none", "--iptables=false", "--ip6tables=false"]
        try:
            daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        except OSError as error:
            raise LabError(f"no docker to build images with: {error}") from error
        try:
            docker = ["docker", "--host", socket]
            wait_until(lambda: _answers(docker), START_SECONDS, f"dockerd: {_last_line(Path(folder, 'log'))}")
            yield docker, True
        finally:
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(START_SECONDS)
            daemon.kill()


def _answers(docker: list[str]) -> bool:
    with suppress(LabError):
        return bool(run([*docker, "version", "--format", "{{.Server.Version}}"]))
    return False


def _provide_base(docker: list[str], fresh: Path, *, may_import: bool) -> None:
    for argv in (["image", "inspect", BASE], ["pull", "--quiet", BASE]):
        try:
            run([*docker, *argv], timeout=PULL_SECONDS)
        except LabError as error:
            failure = error
        else:
            return
    if not may_import:
        raise failure
    sys.stdout.write(f"images: {BASE} can't be pulled; a Debian of this machine's mirror takes its place\n")
    sys.stdout.flush()
    root = fresh / "base"
    mirror = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).split()[0]
    debootstrap = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    run([*debootstrap, "bookworm", str(root), mirror], timeout=BUILD_SECONDS)
    # As this machine reaches packages: whom it trusts, and where pip looks.
    for file in ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):
        if Path("/", file).exists():
            run(["cp", f"/{file}", str(root / file)])
    archive = fresh / "base.tar"
    leave_out = [f"--exclude=./{folder}/*" for folder in ("var/cache/apt", "var/lib/apt/lists", "proc", "sys")]
    run(["tar", "-C", str(root), *leave_out, "-cf", str(archive), "."], timeout=BUILD_SECONDS)
    run([*docker, "import", "--change", 'CMD ["python3"]', str(archive), BASE], timeout=BUILD_SECONDS)


def _last_line(log: Path) -> str:
    return (log.read_text("utf-8", "replace").splitlines() or ["nothing in its log"])[-1]
