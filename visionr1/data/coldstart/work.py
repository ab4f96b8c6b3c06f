"""Every reply is kept as soon as it is there, so that an interrupted run never asks twice.

Replies stay on disk: in memory is only where each of them lies, so that memory does not grow with their length.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from visionr1.data.coldstart.reply import Reply
from visionr1.errors import BadInput
from visionr1.recipe.coldstart import Teacher
from visionr1.recipe.schema import Model
from visionr1.rundir.epoch import check_epoch
from visionr1.rundir.layout import COLDSTART_WORK, work_key
from visionr1.storage import StorageError, Store
from visionr1.storage.store import make_folders, open_regular, os_errors

FLUSH_SECONDS: Final = 10.0
"""A local file has each reply at once. It is made to survive a power cut, and S3 gets what is new, only so often."""
_AGAIN_SECONDS: Final = 1.0
_PART_BYTES: Final = 200 << 20
_MOST_BYTES: Final = 512 << 20
"""Of a part; a part is full at _PART_BYTES and one reply."""
_HEAD: Final = b'{"request": "'
_KEY: Final = slice(len(_HEAD), len(_HEAD) + 64)
_DOWNLOADS: Final = 16


class _Entry(BaseModel):
    """A line of a part; the row's id and the step in it are for people."""

    model_config = ConfigDict(strict=True)

    request: str
    reply: Reply


class WorkLog:
    """Replies by request, in parts `<folder>/<random>.jsonl`; each process that asks writes parts of its own.

    A last line without an end was being written when its process was killed; it does not count. Raises BadInput for a part that
    cannot be read. Close it after use.

    `patience` is for how many seconds S3 may be away: what is new then stays in a file here, and is sent when S3 is back.
    """

    def __init__(self, store: Store, folder: str = COLDSTART_WORK, patience: float = 0.0) -> None:
        self._store, self._folder, self._patience = store, folder, patience
        self._away_since: float | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="visionr1-replies-")
        self._places: dict[bytes, tuple[int, int, int]] = {}
        """Part, first byte and bytes of each reply, by the first half of its request's hash."""
        self._keys: list[str] = []
        self._paths: list[Path] = []
        self._files: dict[int, BinaryIO] = {}
        self._writing: BinaryIO | None = None
        self._sent = self._size = self._written = 0
        self._lines: list[bytes] = []
        """Added and not yet written."""
        self._lines_lock = threading.Lock()
        self._flushed_at = time.monotonic()
        self._parts = threading.RLock()
        """Held while a part is made safe, which another thread does while replies are added, and while the next one begins."""
        keys = store.list(folder)
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            for key, path in zip(keys, pool.map(self._local, keys), strict=True):
                self._read(key, path)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, request: str) -> bool:
        return _short(request.encode()) in self._places

    def _local(self, key: str) -> Path:
        path = self._store.local_path(key)
        if path is None:
            path = self._temporary_path(key)
            self._store.get_file(key, path)
        return path

    def _temporary_path(self, key: str) -> Path:
        return Path(self._temporary.name) / key.replace("/", "_")

    def _read(self, key: str, path: Path) -> None:
        number, position = len(self._paths), 0
        self._keys.append(key)
        self._paths.append(path)
        with os_errors(path):
            file = self._open(number)
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise BadInput(f"{self._store.url}/{key}: larger than {_MOST_BYTES >> 20} MiB, which no run writes; remove it")
            for line in file:
                whole = line.endswith(b"}}\n")
                if not line.startswith(_HEAD[: len(line)]) or (line.endswith(b"\n") and not whole):
                    raise self._damaged(number)
                if not whole:
                    break
                self._places[_short(line[_KEY])] = (number, position, len(line))
                position += len(line)

    def _damaged(self, number: int) -> BadInput:
        name = f"{self._store.url}/{self._keys[number]}"
        return BadInput(f"{name} is damaged (it has a line that is no reply); remove it, and its requests are sent again")

    def _open(self, number: int) -> BinaryIO:
        if number not in self._files:
            if len(self._files) >= 256:  # far below the usual limit of open files
                self._files.pop(next(iter(self._files))).close()
            self._files[number] = open_regular(self._paths[number])
        return self._files[number]

    def get(self, request: str) -> Reply | None:
        """The reply that this request has had; None if it has not been answered yet. Raises BadInput for a damaged one."""
        place = self._places.get(_short(request.encode()))
        if place is None:
            return None
        number, position, size = place
        if number == len(self._paths) - 1 and position >= self._written:
            self.write_out()
        with os_errors(self._paths[number]):
            line = os.pread(self._open(number).fileno(), size, position)
        try:
            entry = _Entry.model_validate_json(line)
        except ValidationError:
            raise self._damaged(number) from None
        return entry.reply if entry.request == request else None

    def add(self, request: str, row_id: str, step: str, reply: Reply) -> None:
        """Takes a reply; it is kept from the next `write_out` on. `row_id` and `step` are for people who read the files."""
        entry = {"request": request, "row": row_id, "step": step, "reply": vars(reply)}
        line = json.dumps(entry).encode() + b"\n"
        # While S3 is away the part becomes a longer one, and S3 is asked only now and then.
        if self._writing is None or (self._size >= _PART_BYTES and self._away_since is None):
            with self._parts:
                if self.flush(at_once=True):
                    self._begin_part()
        with self._lines_lock:
            self._lines.append(line)
            self._places[_short(request.encode())] = (len(self._paths) - 1, self._size, len(line))
            self._size += len(line)

    def write_out(self) -> None:
        """Writes the replies that were added to the file, all at once: each write lets other threads in first."""
        with self._lines_lock:
            if self._lines:
                assert self._writing is not None
                with os_errors(self._paths[-1]):
                    self._writing.write(b"".join(self._lines))
                    self._writing.flush()
                self._lines.clear()
                self._written = self._size

    def _begin_part(self) -> None:
        if self._store.local_path(self._folder) is not None:
            check_epoch(self._store)
        key = work_key(self._folder, uuid.uuid4().hex)
        path = self._store.local_path(key) or self._temporary_path(key)
        with os_errors(path):
            make_folders(path.parent)
            if self._writing is not None:
                self._writing.close()
            self._writing = open_regular(path, flags=os.O_WRONLY | os.O_CREAT)
        self._keys.append(key)
        self._paths.append(path)
        self._sent = self._size = self._written = 0

    def flush(self, at_once: bool = False) -> bool:
        """Makes what is new safe if the last time was FLUSH_SECONDS ago, or at once. False if S3 is away, which may pass.

        Raises:
            Fenced: another attempt has taken the run over.
            StorageError: the disk does not take it, or S3 has been away for longer than there is patience.
        """
        with self._parts:
            self.write_out()
            size = self._written  # replies that are written from here on are for the next time
            if self._writing is None or self._sent == size:
                return True
            if not at_once and time.monotonic() - self._flushed_at < FLUSH_SECONDS:
                return True
            self._flushed_at = time.monotonic()
            if self._store.local_path(self._folder) is not None:
                check_epoch(self._store)
                with os_errors(self._paths[-1]):
                    os.fsync(self._writing.fileno())
            elif not self._send(size):
                return False
            self._sent = size
            return True

    def _send(self, size: int) -> bool:
        """Sends the part up to `size`, in pieces that are parts for who reads them. False if S3 is away."""
        with os_errors(self._paths[-1]), self._paths[-1].open("rb") as part:
            while self._sent < size:
                new = os.pread(part.fileno(), min(size - self._sent, _PART_BYTES), self._sent)
                new = new[: new.rindex(b"\n") + 1]  # no reply is as long as a piece
                try:
                    self._store.write_bytes(work_key(self._folder, uuid.uuid4().hex), new)
                except StorageError as error:
                    self._wait_for_storage(error)
                    return False
                self._sent += len(new)
        self._away_since = None
        return True

    def _wait_for_storage(self, error: StorageError) -> None:
        """Raises the error if there is no patience left."""
        now = time.monotonic()
        begins, self._away_since = self._away_since is None, self._away_since or now
        if now - self._away_since >= self._patience:
            raise error
        if begins:
            print(f"{error}. Until then new replies stay on this machine, and the work goes on.", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Makes everything safe and gives the files back."""
        while not self.flush(at_once=True):
            time.sleep(_AGAIN_SECONDS)
        for file in (self._writing, *self._files.values()):
            if file is not None:
                file.close()
        self._files.clear()
        self._writing = None
        self._temporary.cleanup()


def _short(request: bytes) -> bytes:
    """Half of a request's hash, which is enough to tell billions apart, and takes less memory."""
    try:
        return bytes.fromhex(request[:32].decode())
    except ValueError:
        return request[:32]


def request_key(teacher: Teacher, model: Model, prompt: str, pictures: Iterable[str], sample: int = 0) -> str:
    """Names a request by all that its reply depends on, but not by the address, since servers move.

    `pictures` are the SHA-256 of the images. The model's pixel limits are part of it, for they shape the pictures that are sent.
    """
    parts = [teacher.model, teacher.temperature, teacher.max_tokens, prompt, [*pictures], model.min_pixels, model.max_pixels]
    return hashlib.sha256(json.dumps([*parts, sample] if sample else parts).encode()).hexdigest()
