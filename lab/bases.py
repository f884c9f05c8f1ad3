"""What the lab's images are built on: pulled, or else a Debian of this machine's mirror under the same name.

It is made in a dockerd of ours alone (`lab.engine`). How this machine reaches packages is in BUILD_BASE, which only the
first stages of images are built on, and in nothing else: no image of ours tells of the machine that it was built on.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from lab import binaries
from lab.command import LabError, run

PULL_SECONDS: Final = 300.0
BUILD_SECONDS: Final = 1800.0
NOT_PULLED: Final = "[]"
"""What docker tells of the digests of an image that no registry has."""
BUILD_BASE: Final = "announcer-build-on-this-machine:2"
"""The bases that are made here, with OF_THE_MACHINE; the number changes with what they have."""
OF_THE_MACHINE: Final = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
"""How this machine reaches packages: whom it trusts, and where pip looks. debootstrap writes where apt looks."""
FROM_THE_MACHINE: Final = ("etc/resolv.conf", "etc/hostname", "var/log/bootstrap.log")
"""What debootstrap takes from the machine, or tells of it."""
SOURCES: Final = "etc/apt/sources.list"
NO_SOURCES: Final = "# none: what is in an image is all it needs\n"


def provide(bases: Iterable[str], *, may_make: bool) -> list[str]:
    """Pull what isn't there, and raise LabError where that fails and none may be made. Options of `docker build`."""
    wanted = list(bases)
    try:
        for base in wanted:
            if not _is_there(base, may_make=may_make):
                run(["docker", "pull", "--quiet", base], timeout=PULL_SECONDS)
    except LabError:
        if not may_make:
            raise
        _make(wanted)  # all, as what is built on BUILD_BASE has to run on them
    return [f"--build-arg=BUILD_BASE={BUILD_BASE}"] if may_make and _inspect(BUILD_BASE, "{{.Id}}") else []


def _is_there(base: str, *, may_make: bool) -> bool:
    """One that was made here counts as long as its BUILD_BASE is the one of now."""
    digests = _inspect(base, "{{.RepoDigests}}")
    return bool(digests) and (digests != NOT_PULLED or not may_make or bool(_inspect(BUILD_BASE, "{{.Id}}")))


def _inspect(image: str, field: str) -> str:
    """Empty where there is no such image."""
    with suppress(LabError):
        return run(["docker", "image", "inspect", f"--format={field}", image]).strip()
    return ""


def _make(bases: list[str]) -> None:
    sys.stdout.write(f"images: {', '.join(bases)} can't be pulled; a Debian of this machine's mirror takes the place\n")
    sys.stdout.flush()
    mirror = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).split()[0]
    with tempfile.TemporaryDirectory(dir=binaries.cache()) as folder:
        root = Path(folder, "base")
        debootstrap = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
        run([*debootstrap, "bookworm", str(root), mirror], timeout=BUILD_SECONDS)
        sources = (root / SOURCES).read_text("utf-8")
        make_neutral(root)
        for base in bases:
            _import(root, base)
        (root / SOURCES).write_text(sources, "utf-8")
        for file in OF_THE_MACHINE:
            if Path("/", file).exists():
                shutil.copyfile(f"/{file}", root / file)
        _import(root, BUILD_BASE)


def make_neutral(root: Path) -> None:
    """Take out of what debootstrap has made what it knows of this machine."""
    for file in FROM_THE_MACHINE:
        (root / file).unlink(missing_ok=True)
    (root / SOURCES).write_text(NO_SOURCES, "utf-8")


def _import(root: Path, name: str) -> None:
    leave_out = [f"--exclude=./{place}/*" for place in ("var/cache/apt", "var/lib/apt/lists", "proc", "sys")]
    archive = root.with_suffix(".tar")
    run(["tar", "-C", str(root), *leave_out, "-cf", str(archive), "."], timeout=BUILD_SECONDS)
    run(["docker", "import", "--change", 'CMD ["python3"]', str(archive), name], timeout=BUILD_SECONDS)
