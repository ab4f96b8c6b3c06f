"""Whether a file is what the manifest of its checkpoint says."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from visionr1.rundir.manifest import FileEntry
from visionr1.storage.store import Moved, NotFound, StorageError, os_errors

_CHUNK: Final = 1 << 20


def nothing(_: int) -> None:
    """Progress that nobody watches."""


def damage(path: Path, entry: FileEntry, moved: Moved = nothing) -> str | None:
    """What is wrong with a file, or None."""
    with os_errors(path):
        if not path.is_file():
            return "is missing"
        if path.stat().st_size != entry.bytes:
            return f"has {path.stat().st_size} bytes instead of {entry.bytes}"
        if sha256(path, moved) != entry.sha256:
            return "is damaged: its SHA-256 is not the manifest's"
    return None


def sha256(path: Path, moved: Moved) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            moved(len(chunk))
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file that is to be published. Raises StorageError if it was not written."""
    try:
        with os_errors(path):
            return path.stat().st_size
    except NotFound as error:
        raise StorageError(f"{path}: cannot be published, because it was not written") from error
