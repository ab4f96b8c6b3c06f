"""The image files of rows: where they lie, and reading them from paths that nobody has looked at."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from visionr1.data.badrow import BadRow, is_clean, what
from visionr1.data.regular import NotRegular, open_file, stamp
from visionr1.data.rows import IMAGE_MARK, MAX_IMAGES
from visionr1.errors import BadInput
from visionr1.storage import NotFound, open_store
from visionr1.storage.store import check_key

MAX_IMAGE_BYTES: Final = 128 * 2**20
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BASE64: Final = re.compile(r"(?=.{256}|iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\s]+={0,2}", re.DOTALL)
"""Too long for a path, or how PNG, JPEG, GIF and WEBP begin."""

ReadFile = Callable[[str], bytes]
"""Reads an image file by the path that a row gives; raises as `Pictures.read` does."""


class Pictures(Protocol):
    """Where the image files of a data set lie."""

    def read(self, path: str) -> bytes:
        """The file. Raises FileNotFoundError, PermissionError for a path that may not be read, NotRegular for a pipe."""

    def stamp(self, path: str) -> str:
        """What differs once the file has changed, such as its size and time; "" for one that cannot be read."""


def pictures_below(root: str) -> Pictures:
    """Those below a local directory or s3://bucket/prefix."""
    return _Bucket(root) if root.startswith("s3://") else _Folder(root)


class _Folder:
    def __init__(self, root: str) -> None:
        self._top = Path(os.path.expanduser(root)).resolve()

    def _file(self, path: str) -> Path:
        try:
            file = (self._top / path).resolve()
        # A name that is too long or a loop of links is no file either.
        except (OSError, RuntimeError, ValueError) as error:
            raise FileNotFoundError(f"no file {path[:80]} in {self._top}") from error
        if not file.is_relative_to(self._top):
            raise PermissionError(f"{path} leads out of {self._top}")
        return file

    def read(self, path: str) -> bytes:
        file = self._file(path)
        try:
            with open_file(file) as opened:
                if os.fstat(opened.fileno()).st_size > MAX_IMAGE_BYTES:
                    raise PermissionError(f"{path} is larger than {MAX_IMAGE_BYTES >> 20} MiB")
                return opened.read()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
                raise FileNotFoundError(f"no file {path[:80]} in {self._top}") from None
            raise

    def stamp(self, path: str) -> str:
        # Called for each image of a run: whether the path leads out is asked where it is read.
        try:
            return stamp(os.stat(self._top / path))
        except (OSError, ValueError):
            return ""


class _Bucket:
    def __init__(self, root: str) -> None:
        self._root = root
        self._store = open_store(root)

    def _key(self, path: str) -> str:
        try:
            return check_key(str(PurePosixPath(path)))
        except BadInput:
            raise PermissionError(f"{path} is not a key below {self._root}") from None

    def read(self, path: str) -> bytes:
        try:
            data = self._store.read_bytes(self._key(path), MAX_IMAGE_BYTES + 1)
        except NotFound:
            raise FileNotFoundError(f"no object {path} in {self._root}") from None
        if len(data) > MAX_IMAGE_BYTES:
            raise PermissionError(f"{path} is larger than {MAX_IMAGE_BYTES >> 20} MiB")
        return data

    @cached_property
    def _versions(self) -> dict[str, str]:
        # One listing tells it of a thousand objects; asking for each would take as long as reading them.
        return self._store.versions()

    def stamp(self, path: str) -> str:
        try:
            return self._versions.get(self._key(path), "")
        except PermissionError:
            return ""


class NoPictures:
    """Of a data set from the hub, which has no folder of image files."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        raise FileNotFoundError(f"the row names the file {path}, but a data set from the hub has no folder of images")

    def stamp(self, path: str) -> str:
        """Of no file."""
        return ""


def image_items(cell: Any) -> list[Any]:
    """What a row's cell for images holds: none, one or several."""
    return [] if cell is None else cell if isinstance(cell, list) else [cell]


def read_images(row_id: str, problem: str, items: list[Any], read: ReadFile) -> tuple[bytes, ...]:
    """A row's images, read only if their number is right: a row may name a large file any number of times."""
    marks, images = problem.count(IMAGE_MARK), len(items)
    if marks != images:
        raise BadRow(row_id, "image marks", f"{marks} {IMAGE_MARK} in the problem, {images} image{'' if images == 1 else 's'}")
    if images > MAX_IMAGES:
        raise BadRow(row_id, "too many images", f"{images} images, over {MAX_IMAGES}")
    return tuple(_image(row_id, item, read) for item in items)


def _image(row_id: str, item: Any, read: ReadFile) -> bytes:
    """An image is bytes, a path, a data address, or a group of `bytes` and `path` (Hugging Face) or `image` (verl)."""
    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path") or item.get("image")
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str) or not item or not is_clean(item):
        raise BadRow(row_id, "row malformed", f"an image is {what(item)}, not a path or bytes")
    if item[:5].lower() == "data:":
        return _from_data_address(row_id, item)
    item = item.removeprefix("file://") if item.startswith("file:///") else item
    if _ADDRESS.match(item):
        raise BadRow(row_id, "image path", f"{item} is an address; images are not fetched, so download it and give its path")
    if _BASE64.fullmatch(item):
        raise BadRow(row_id, "image missing", "the image looks like base64; write data:image/png;base64, before it")
    try:
        return read(item)
    except (FileNotFoundError, NotRegular) as error:
        raise BadRow(row_id, "image missing", str(error)) from None
    except PermissionError as error:
        raise BadRow(row_id, "image path", str(error)) from None


def _from_data_address(row_id: str, address: str) -> bytes:
    """The file in `data:image/png;base64,...` (RFC 2397)."""
    head, comma, text = address.partition(",")
    try:
        if comma and head.lower().endswith(";base64"):
            return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        pass
    raise BadRow(row_id, "image unreadable", f"a data address is data:image/png;base64,..., this one is {address[:40]}...")
