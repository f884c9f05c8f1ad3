"""The container images of the lab's pods, as one archive in the cache: built from images/ by docker when those changed.

`lab.engine` has the docker that builds them, `lab.bases` what they are built on. `build_all` is `make images`, for the
lab in containers. Both honor IMAGE_FLAGS of the environment, where make puts what it is called with.
"""

import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from lab import bases, binaries, engine
from lab.command import LabError, run
from lab.topology import REPOSITORY

BASE: Final = "python:3.11-slim-bookworm"
FILES: Final = {
    "announcer": "images/announcer.Dockerfile",
    "announcer-exabgp": "images/exabgp.Dockerfile",
    "announcer-lab": "lab/cluster/pod.Dockerfile",
}
SOURCES: Final = ("announcer", "exabgp", "images", "lab/cluster", "lab/http_server.py", "pyproject.toml", "README.md")
"""What goes into them."""
BUILD_SECONDS: Final = 1800.0


def provide() -> Path:
    """The archive, after building it where it is missing; raises LabError. Archives of other sources go."""
    place = binaries.cache()
    archive = place / f"images-{fingerprint()}.tar"
    if archive.exists():
        return archive
    place.mkdir(parents=True, exist_ok=True)
    sys.stdout.write("images: building them into the cache, which takes minutes the first time\n")
    sys.stdout.flush()
    with engine.running() as is_ours, tempfile.TemporaryDirectory(dir=place) as fresh:
        options = ["--quiet", "--network=host", *_based_on([BASE], may_make=is_ours), *shlex.split(_told())]
        version = _version()
        for name, file in FILES.items():
            build = ["docker", "build", *options, "--file", file, "--tag", f"{name}:{version}", "."]
            run(build, timeout=BUILD_SECONDS, folder=REPOSITORY)
        names = [f"{name}:{version}" for name in FILES]
        run(["docker", "save", "--output", f"{fresh}/images.tar", *names], timeout=BUILD_SECONDS)
        for old in place.glob("images-*.tar"):
            old.unlink(missing_ok=True)
        Path(fresh, "images.tar").replace(archive)
    return archive


def build_all(*, in_ours: bool) -> None:
    """All of images/, in the engine that runs; raises LabError."""
    told = _based_on(all_bases(), may_make=in_ours)
    argv = make_argv([*(["--network=host"] if in_ours else []), *told])
    try:
        subprocess.run(argv, cwd=REPOSITORY, check=True, timeout=BUILD_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"the images were not built: {error}") from error


def all_bases() -> list[str]:
    """What images/ is built on where nobody says otherwise."""
    texts = [file.read_text("utf-8") for file in (REPOSITORY / "images").glob("*.Dockerfile")]
    return sorted({name for text in texts for name in re.findall(r"^ARG \w*BASE=([^$\s]+)", text, re.MULTILINE)})


def _based_on(names: list[str], *, may_make: bool) -> list[str]:
    """Options of `docker build`. None where who called us names a base, which is then theirs to have there."""
    return [] if "BASE=" in _told() else bases.provide(names, may_make=may_make)


def make_argv(options: list[str]) -> list[str]:
    """`make images` with options of `docker build` before those of who called us, as the last of two counts."""
    return ["make", "--no-print-directory", "images", f"IMAGE_FLAGS={shlex.join(options)} {_told()}"]


def _told() -> str:
    return os.environ.get("IMAGE_FLAGS", "")


def fingerprint() -> str:
    found = hashlib.sha256(_told().encode())
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
