"""Opens files that nobody has looked at: a pipe or a device in a file's place would keep its reader waiting for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from visionr1.errors import BadInput
from visionr1.storage.store import open_regular


class NotRegular(BadInput):
    """Something else is in a file's place."""


def open_file(file: Path) -> BinaryIO:
    """Opens a file, or the one that a link leads to. Raises NotRegular for anything else, OSError as `open` does."""
    require_regular(file, os.stat(file))  # before it is opened, which some devices notice
    return open_regular(file)


def require_regular(file: Path, found: os.stat_result) -> None:
    """Raises NotRegular, naming what is there, unless `found` is that of a file."""
    kinds = {
        stat.S_IFIFO: "a pipe (FIFO)",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a directory",
    }
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise NotRegular(f"{file} is {kinds.get(kind, 'no file')}; put a file in its place")


def stamp(found: os.stat_result) -> str:
    """Size in bytes and time in nanoseconds of a file's last change."""
    return f"{found.st_size}:{found.st_mtime_ns}"
