"""What is in the images and in their history: nothing of the machine that they were built on.

That is how it reaches packages: mirrors and indexes that are not the public ones, and certificates that no package has.
"""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

from lab import bases
from lab.command import run
from tests.images.pods import containers, docker

PUBLIC = {"deb.debian.org", "security.debian.org", "pypi.org", "files.pythonhosted.org"}
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n(.{64})\n(.{64})")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
VERSION = containers()["agent"]["image"].partition(":")[2]
IMAGES = tuple(f"announcer{part}:{VERSION}" for part in ("", "-exabgp", "-bfd", "-clab"))


@cache
def words() -> frozenset[bytes]:
    """That tell of this machine."""
    told = run(["apt-get", "indextargets", "--format", "$(SITE)"]) + run(["pip", "config", "list"])
    hosts = {host.encode() for host in re.findall(r"https?://([^/:\s]+)", told)} - {host.encode() for host in PUBLIC}
    packaged = b"".join(file.read_bytes() for file in Path("/usr/share/ca-certificates").glob("*/*.crt"))
    trusted = BUNDLE.read_bytes() if BUNDLE.exists() else b""
    own = set(CERTIFICATE.findall(trusted)) - set(CERTIFICATE.findall(packaged))
    return frozenset(hosts | {second for _, second in own})


def files(image: str) -> Iterator[tuple[str, bytes]]:
    """Of all its layers, also those that a later one has hidden."""
    argv = ["docker", "save", image]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for outer in archive:
                content = archive.extractfile(outer)
                yield from layer(content.read()) if content else ()


def layer(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Nothing of what isn't one, as a description of the image."""
    with suppress(tarfile.ReadError), tarfile.open(fileobj=BytesIO(data)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            yield member.name.removeprefix("./"), content.read() if content else b""


@pytest.mark.parametrize("image", IMAGES)
def test_image_tells_nothing_of_the_machine(image: str) -> None:
    found = list(files(image))
    assert any(name == bases.SOURCES or name.startswith(f"{bases.SOURCES}.d/") for name, _ in found)
    assert [name for name, data in found if any(word in data for word in words())] == []
    empty = {"etc/pip.conf", "etc/resolv.conf"}
    assert [name for name, data in found if name in empty and data] == []


@pytest.mark.parametrize("image", IMAGES)
def test_history_tells_nothing_of_the_machine(image: str) -> None:
    told = docker("history", "--no-trunc", "--format={{json .}}", image) + docker("inspect", image)
    assert json.loads(told.splitlines()[0])["CreatedBy"]
    assert bases.BUILD_BASE not in told
    assert not any(word in told.encode() for word in words())
