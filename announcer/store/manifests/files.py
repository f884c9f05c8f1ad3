"""Looking at the folder: which files are there, and what those say that changed since the last look.

A look runs in a worker thread, and shares nothing: it gets what is known and gives back what it found.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from announcer.core.model import ObjectRef, Problem, Reason
from announcer.store.manifests import documents
from announcer.store.manifests.documents import Contents

STATUS_FOLDER = ".status"
LARGEST_FILE = 32 << 20
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """`stamp` (inode, time in ns, size) tells whether the file has to be read again."""

    stamp: Stamp
    contents: Contents


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Files by path within the folder, shallower first, then by name: of one object in two, the first counts."""

    manifests: Mapping[str, File]
    statuses: Mapping[str, File]


def look(root: Path, known: Look, watch: Callable[[Path], None]) -> Look | None:
    """None where the folder can't be read at all. Each folder is watched before it is listed, so nothing is missed."""
    watch(root.parent)
    if not root.is_dir():
        return None
    try:
        manifests = {path: _read(root, path, known.manifests.get(path)) for path in _walk(root, "", watch)}
        statuses: dict[str, File | None] = {}
        if (root / STATUS_FOLDER).is_dir():
            found = _walk(root, STATUS_FOLDER, watch)
            statuses = {path: _read(root, path, known.statuses.get(path)) for path in found}
    except OSError:
        return None
    order = sorted((path for path, file in manifests.items() if file), key=lambda path: (path.count("/"), path))
    return Look(
        manifests={path: file for path in order if (file := manifests[path])},
        statuses={path: file for path, file in sorted(statuses.items()) if file},
    )


def _walk(root: Path, folder: str, watch: Callable[[Path], None]) -> Iterator[str]:
    watch(root / folder)
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=True):
                yield from _walk(root, path, watch)
            elif entry.name.endswith((".yaml", ".yml", ".json")):
                yield path


def _read(root: Path, path: str, known: File | None) -> File | None:
    """The file as it is now; None if it is gone by now."""
    try:
        stat = (root / path).stat()
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if known is not None and known.stamp == stamp:
            return known
        if not (root / path).is_file() or stat.st_size > LARGEST_FILE:
            why = f"is larger than {LARGEST_FILE >> 20} MiB, or no file"
            return File(stamp=stamp, contents=_unreadable(path, why))
        text = (root / path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        return File(stamp=stamp, contents=_keep(known, _unreadable(path, f"is not UTF-8: {error.reason}")))
    except OSError as error:
        return File(stamp=(0, 0, 0), contents=_keep(known, _unreadable(path, f"can't be read: {error.strerror}")))
    return File(stamp=stamp, contents=_keep(known, documents.read(text, path)))


def _keep(known: File | None, new: Contents) -> Contents:
    """A file with a mistake keeps the objects that it gave before and doesn't give now: it may be half written."""
    if known is None or not new.problems:
        return new
    have = {_name(document) for document in new.documents}
    kept = tuple(document for document in known.contents.documents if _name(document) not in have)
    return Contents(documents=new.documents + kept, problems=new.problems)


def _name(document: documents.Document) -> tuple[object, ...]:
    metadata = document.raw.get("metadata")
    found = metadata if isinstance(metadata, Mapping) else {}
    return document.raw["kind"], found.get("namespace"), found.get("name")


def _unreadable(path: str, why: str) -> Contents:
    ref = ObjectRef(kind="file", name=path, source=path)
    return Contents(problems=(Problem(ref=ref, field="", value="", message=why, reason=Reason.UNREADABLE_FILE),))
