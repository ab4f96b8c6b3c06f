"""One small interface over the place where a run is kept: a local directory or s3://bucket/prefix."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

from visionr1.errors import BadInput

TEMPORARY: Final = ".tmp-"
"""Prefix of files and folders that are still being written, or deleted; they are never listed."""

MOST_FILES: Final = 100_000
"""Files and folders in one listing. A run has some thousands, and the operator lists the folders of every run."""

Moved = Callable[[int], object]
"""Told how many more bytes of a file have moved."""


class StorageError(Exception):
    """The store cannot do it now, but a later attempt may succeed. One line: what, where, what to do."""


class Damaged(StorageError):
    """What arrived is not what was sent; sent once more it may arrive whole."""


class NotFound(KeyError):
    """There is nothing under this key."""

    def __str__(self) -> str:
        return f"{self.args[0]}: not found"


class Store(Protocol):
    """Bytes under keys such as `checkpoints/sft/step-5/manifest.json`.

    Keys are relative, with `/`; one that leaves the store is a BadInput. A prefix names a folder: `step-1` is not a prefix
    of `step-10/...`. Every write is atomic: a reader sees the old bytes or the new ones. A key that is missing raises
    NotFound; wrong settings raise BadInput; whatever may pass (a full disk, a network) raises StorageError.
    """

    @property
    def url(self) -> str:
        """What `open_store` was given: an absolute path, or s3://bucket/prefix."""

    def read_bytes(self, key: str, most: int | None = None) -> bytes:
        """All bytes of a key, or the first `most` of them."""

    def write_bytes(self, key: str, data: bytes) -> None:
        """Writes a key, or replaces it, as a whole."""

    def create_bytes(self, key: str, data: bytes) -> bool:
        """Writes a key that is not there, as a whole. False if it is there: of two that create it, one gets True."""

    def replace_bytes(self, key: str, data: bytes, before: bytes | None) -> bool:
        """Writes a key as a whole if it still is `before` (None: not there). False if somebody has written something else there.

        On S3 one request does both. In a directory somebody may come between the two.
        """

    def exists(self, key: str) -> bool:
        """Whether this very key is there; a folder is none."""

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every key below the folder `prefix`, in order of the keys; "" is the whole store.

        Raises:
            BadInput: there are more than MOST_FILES, which no run writes.
        """

    def version(self, key: str) -> str | None:
        """What differs once a key has been written again: its size with its time (a directory) or ETag (S3). None without it."""

    def versions(self) -> dict[str, str]:
        """The version of every key; on S3 of any number of them, for images lie there, too."""

    def list(self, prefix: str = "") -> list[str]:
        """The sorted keys below the folder `prefix`."""

    def delete(self, prefix: str) -> None:
        """Removes this key and all keys below it; what is not there is no error."""

    def put_file(self, local: Path, key: str, moved: Moved = lambda _: None) -> None: ...

    def get_file(self, key: str, local: Path, moved: Moved = lambda _: None) -> None:
        """Copies to the path `local`. Its directory is made if needed."""

    def local_path(self, key: str) -> Path | None:
        """Where the key is on this machine's file system. None for a remote store."""


def check_key(key: str) -> str:
    r"""The key itself, if it is relative, normal and stays inside the store.

    Raises:
        BadInput: It is absolute, empty, has `..`, `.`, `//`, `\` or control characters.
    """
    parts = PurePosixPath(key).parts
    normal = key == "/".join(parts) and not {"/", "..", "."} & set(parts)
    if not normal or not key or any(character == "\\" or ord(character) < 32 for character in key):
        raise BadInput(f"{key!r} is not a name inside a run directory: it must be relative, with '/' and without '..'")
    return key


def explain(error: OSError, path: Path) -> Exception:
    """The operating system's error at `path` as an error of one line for people."""
    if isinstance(error, FileNotFoundError):
        return NotFound(str(path))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path}: the disk is full; free some space, keep fewer checkpoints or choose another run directory")
    if error.errno == errno.EFBIG:
        return StorageError(f"{path}: larger than a file may be here; raise the limit (ulimit -f) or use another file system")
    if error.errno == errno.EROFS:
        return StorageError(f"{path}: the file system is read-only; mount it writable or choose another run directory")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StorageError(f"{path}: no permission; give user {os.getuid()} access or choose another run directory")
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return BadInput(f"{path}: a file and a directory are in each other's place; choose another run directory")
    if error.errno == errno.ENXIO:  # a pipe or socket opened for writing
        return _not_regular(path)
    return StorageError(f"{path}: {error.strerror or error}; check the disk or mount, then start again")


def _not_regular(path: Path) -> BadInput:
    return BadInput(f"{path}: not a regular file but a pipe, socket or device; remove it")


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turns an OSError in the block into the error that `explain` gives."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def fsync(path: Path) -> None:
    """Waits until a file's bytes, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Makes a directory and its parents; each new entry is on the disk afterwards."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`. What the block wrote there then replaces `path` in one move."""
    make_folders(path.parent)
    temporary = path.with_name(TEMPORARY + secrets.token_hex(8))
    try:
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class LocalStore:
    """A directory, also one that several nodes share; see `Store`."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    @property
    def url(self) -> str:
        return str(self.root)

    def local_path(self, key: str) -> Path:
        path = self.root / check_key(key)
        # Path.resolve() takes links that lead to themselves for an error of the program.
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise BadInput(f"{path}: a symbolic link leads out of the run directory; put the files themselves there")
        return path

    def read_bytes(self, key: str, most: int | None = None) -> bytes:
        path = self.local_path(key)
        with os_errors(path), open_regular(path, within=self.root) as file:
            return file.read(-1 if most is None else most)

    def write_bytes(self, key: str, data: bytes) -> None:
        path = self.local_path(key)
        with os_errors(path), replacing(path) as temporary:
            temporary.write_bytes(data)

    def create_bytes(self, key: str, data: bytes) -> bool:
        path = self.local_path(key)
        with os_errors(path):
            make_folders(path.parent)
            temporary = path.with_name(TEMPORARY + secrets.token_hex(8))
            try:
                temporary.write_bytes(data)
                fsync(temporary)
                os.link(temporary, path)  # unlike a move, it never replaces
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) and temporary.exists():
                    raise BadInput(
                        f"{path}: this file system makes no hard links, by which one attempt keeps all others out; "
                        "choose a run directory on another one, or on S3"
                    ) from error
                raise
            finally:
                temporary.unlink(missing_ok=True)
            fsync(path.parent)
        return True

    def replace_bytes(self, key: str, data: bytes, before: bytes | None) -> bool:
        if before is None:
            return self.create_bytes(key, data)
        if not self.exists(key) or self.read_bytes(key) != before:
            return False
        self.write_bytes(key, data)
        return True

    def exists(self, key: str) -> bool:
        path = self.local_path(key)
        with os_errors(path):
            return path.is_file()

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {key: found.st_size for key, found in self._found(prefix)}

    def version(self, key: str) -> str | None:
        return _version(self.local_path(key).stat()) if self.exists(key) else None

    def versions(self) -> dict[str, str]:
        return {key: _version(found) for key, found in self._found("")}

    def _found(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        top = self.local_path(prefix) if prefix else self.root
        with os_errors(top):
            for path, facts in sorted(_files(top, self.url)):
                if not path.name.startswith(TEMPORARY):
                    yield path.relative_to(self.root).as_posix(), facts

    def list(self, prefix: str = "") -> list[str]:
        return sorted(self.sizes(prefix))

    def delete(self, prefix: str) -> None:
        path = self.local_path(prefix)
        with os_errors(path):
            if path.is_dir() and not path.is_symlink():
                _remove_folder(path)
            elif path.exists():
                path.unlink(missing_ok=True)  # another process may delete it, too
            else:
                return
            fsync(path.parent)

    def put_file(self, local: Path, key: str, moved: Moved = lambda _: None) -> None:
        _copy(local, self.local_path(key), moved)

    def get_file(self, key: str, local: Path, moved: Moved = lambda _: None) -> None:
        _copy(self.local_path(key), local, moved, within=self.root)


def _remove_folder(path: Path) -> None:
    """Moves it out of the way first: who writes into it or deletes it at the same time then finds nothing there."""
    doomed = path.with_name(TEMPORARY + secrets.token_hex(8))
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EXDEV:  # a folder that came with a container's image cannot be moved
            raise
        doomed = path
    while doomed.exists():
        with suppress(FileNotFoundError):  # another process removes it, too
            shutil.rmtree(doomed)


def _version(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}"


def too_many_files(url: str, most: int) -> BadInput:
    """The error for a listing of more than `most` files."""
    return BadInput(f"{url}: more than {most:,} files, which no run writes; find out what writes them, and remove them")


def open_regular(path: Path, within: Path | None = None, flags: int = os.O_RDONLY) -> BinaryIO:
    """Opens a regular file, and never waits: a pipe or device in its place would block whoever reads or writes it.

    Args:
        within: the folder that the opened file must lie in, however it was reached.
        flags: as for os.open; without O_WRONLY the file can be read only.

    Raises:
        OSError: it cannot be opened.
        BadInput: it is not a regular file, or is outside `within`.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _not_regular(path)
        # The descriptor's own path: a link may have been put in place since the path was checked.
        if within is not None and not Path(os.path.realpath(f"/proc/self/fd/{descriptor}")).is_relative_to(
            os.path.realpath(within)
        ):
            raise BadInput(f"{path}: a symbolic link leads out of the run directory; put the files themselves there")
        return os.fdopen(descriptor, "ab" if flags & os.O_WRONLY else "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _files(top: Path, url: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files below `top` and what is known of them.

    An unreadable directory is an error: "no checkpoints" would start the run from its beginning.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # another process has just removed the directory
            raise error

    if top.is_dir():
        count = 0
        for folder, folders, names in os.walk(top, onerror=fail):
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
            count += len(folders) + len(names)
            if count > MOST_FILES:
                raise too_many_files(url, MOST_FILES)
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # removed since it was listed, as by a run that one looks at
                    facts = path.lstat()
                    if stat.S_ISREG(facts.st_mode):
                        yield path, facts


def _copy(source: Path, target: Path, moved: Moved, within: Path | None = None) -> None:
    with os_errors(source), open_regular(source, within) as reader, os_errors(target), replacing(target) as temporary:
        with temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
        moved(temporary.stat().st_size)
