"""The manifests in force: one of the lab's sets in the live folder or the API server, and swapped for another."""

import shutil
from pathlib import Path

from lab import control_plane
from lab.command import LabError
from lab.topology import MANIFEST_SETS, Lab

SETS = ("purelb", "metallb")
"""Sets that stand by themselves. `as-written`, the customer's document with its mistakes, is for tests."""


def apply(lab: Lab, manifest_set: str) -> None:
    """Bring a set into force. What another set brought goes; what people added stays, as does what announcer wrote."""
    if manifest_set not in SETS:
        raise LabError(f"MANIFESTS={manifest_set}: there are {' and '.join(SETS)}")
    if lab.is_cluster:
        control_plane.apply(lab, manifest_set)
    else:
        _fill_folder(lab, manifest_set)
    _marker(lab).write_text(f"{lab.store} {manifest_set} {lab.router}\n", encoding="ascii")


def _fill_folder(lab: Lab, manifest_set: str) -> None:
    """Each file in one step. Files that people added to the same set stay."""
    lab.manifests.mkdir(parents=True, exist_ok=True)
    files = sorted((MANIFEST_SETS / manifest_set).glob("*.yaml"))
    keep = {file.name for file in files}
    is_swap = current(lab) not in {None, manifest_set}
    for file in files:
        put(lab, file)
    for old in lab.manifests.rglob("*.yaml") if is_swap else ():
        if ".status" not in old.parts and old.relative_to(lab.manifests).as_posix() not in keep:
            old.unlink()


def put(lab: Lab, file: Path) -> None:
    """Copy one file into the live folder; nobody sees half of it."""
    fresh = lab.run_dir / f".{file.name}.new"
    shutil.copyfile(file, fresh)
    fresh.replace(lab.manifests / file.name)


def current(lab: Lab) -> str | None:
    """The set that was applied last, None without a lab."""
    return _read_marker(lab)[1]


def store(lab: Lab) -> str | None:
    """Where the objects of the running lab live, None without a lab."""
    return _read_marker(lab)[0]


def router(lab: Lab) -> str | None:
    """Which router the running lab has, None without a lab."""
    return _read_marker(lab)[2]


def _read_marker(lab: Lab) -> tuple[str | None, str | None, str | None]:
    try:
        found, manifest_set, router = _marker(lab).read_text(encoding="ascii").split()
    except (FileNotFoundError, ValueError):
        return None, None, None
    return found, manifest_set, router


def _marker(lab: Lab) -> Path:
    return lab.run_dir / "manifest-set"
