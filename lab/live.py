"""The live folder of manifests: filled from one of the lab's sets, and swapped for another."""

import shutil
from pathlib import Path

from lab.command import LabError
from lab.topology import MANIFEST_SETS, Lab

SETS = ("purelb", "metallb")
"""Sets that stand by themselves. `as-written`, the customer's document with its mistakes, is for tests."""


def apply(lab: Lab, manifest_set: str) -> None:
    """Copy a set into the live folder, each file in one step.

    Files of another set go; files that people added to the same set stay, as does what announcer wrote.
    """
    if manifest_set not in SETS:
        raise LabError(f"MANIFESTS={manifest_set}: there are {' and '.join(SETS)}")
    lab.manifests.mkdir(parents=True, exist_ok=True)
    files = sorted((MANIFEST_SETS / manifest_set).glob("*.yaml"))
    keep = {file.name for file in files}
    is_swap = current(lab) not in {None, manifest_set}
    for file in files:
        put(lab, file)
    for old in lab.manifests.rglob("*.yaml") if is_swap else ():
        if ".status" not in old.parts and old.relative_to(lab.manifests).as_posix() not in keep:
            old.unlink()
    _marker(lab).write_text(f"{manifest_set}\n", encoding="ascii")


def put(lab: Lab, file: Path) -> None:
    """Copy one file into the live folder; nobody sees half of it."""
    fresh = lab.run_dir / f".{file.name}.new"
    shutil.copyfile(file, fresh)
    fresh.replace(lab.manifests / file.name)


def current(lab: Lab) -> str | None:
    """The set that was applied last, None without a lab."""
    try:
        return _marker(lab).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def _marker(lab: Lab) -> Path:
    return lab.run_dir / "manifest-set"
