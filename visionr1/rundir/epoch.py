"""epochs/: which attempt may write into a run directory.

Each attempt takes the next number, by creating a file that only one process can create. A writer looks for the next number
before each write. Once that is taken, the writer may not write any more: its process ends.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from visionr1.errors import BadInput, Fenced, Stopped, printable
from visionr1.rundir.layout import EPOCHS, epoch_key, epoch_number
from visionr1.rundir.reading import Count, Step, Time, read_json
from visionr1.storage.store import Moved, Store


@dataclass(frozen=True)
class EpochRecord:
    """Who took an epoch, for which phase, and from which committed global step of that phase it goes on (None: its beginning)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    phase: str
    step: Step | None
    host: str
    pid: Count
    time: Time


_RECORD: Final = TypeAdapter(EpochRecord)
_FAULT: Final = f"not the record of an epoch; when nothing is at work in the run, delete the folder {EPOCHS}"


class FencedStore:
    """A store that only the holder of the newest epoch can change; see `Store`. Each change raises Fenced for all others.

    Args:
        epoch: the number that this attempt has taken. With 0, the first attempt that takes one ends this writer.
    """

    def __init__(self, store: Store, epoch: int) -> None:
        self._store, self.epoch = store, epoch

    def check(self) -> None:
        """Raises Fenced if a newer attempt has taken the run over."""
        if self._store.exists(epoch_key(self.epoch + 1)):
            by = read_epoch(self._store, self.epoch + 1)
            when = datetime.fromtimestamp(by.time, UTC).isoformat(timespec="seconds")
            who = printable(f"process {by.pid} on {by.host}")
            raise Fenced(f"{self.url}: {who} took this run over at {when}, for {printable(by.phase)}; this attempt ends")

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turns any error in the block into Fenced if a newer attempt has the run: its writes may have caused the error."""
        try:
            yield
        except (Stopped, Fenced):
            raise
        except Exception:
            self.check()
            raise

    @property
    def url(self) -> str:
        return self._store.url

    def read_bytes(self, key: str, most: int | None = None) -> bytes:
        return self._store.read_bytes(key, most)

    def write_bytes(self, key: str, data: bytes) -> None:
        self.check()
        self._store.write_bytes(key, data)

    def create_bytes(self, key: str, data: bytes) -> bool:
        self.check()
        return self._store.create_bytes(key, data)

    def exists(self, key: str) -> bool:
        return self._store.exists(key)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._store.sizes(prefix)

    def version(self, key: str) -> str | None:
        return self._store.version(key)

    def versions(self) -> dict[str, str]:
        return self._store.versions()

    def list(self, prefix: str = "") -> list[str]:
        return self._store.list(prefix)

    def delete(self, prefix: str) -> None:
        self.check()
        self._store.delete(prefix)

    def put_file(self, local: Path, key: str, moved: Moved = lambda _: None) -> None:
        self.check()
        self._store.put_file(local, key, moved)

    def get_file(self, key: str, local: Path, moved: Moved = lambda _: None) -> None:
        self._store.get_file(key, local, moved)

    def local_path(self, key: str) -> Path | None:
        return self._store.local_path(key)


def epoch_of(store: Store) -> int:
    """The epoch that writes with this store belong to; 0 where nobody has taken one."""
    return store.epoch if isinstance(store, FencedStore) else 0


def check_epoch(store: Store) -> None:
    """To be called before a write into the run directory that does not go through the store. Raises Fenced."""
    if isinstance(store, FencedStore):
        store.check()


def newest_epoch(store: Store) -> int:
    """The largest number that was taken; 0 before the first."""
    return max((number for key in store.list(EPOCHS) if (number := epoch_number(key)) is not None), default=0)


def take_epoch(store: Store, phase: str, step: int | None) -> FencedStore:
    """Takes the next epoch. All attempts before are fenced from now on.

    Args:
        phase: what this attempt runs.
        step: see `EpochRecord`.

    Raises:
        BadInput: something else is in the place of the next record.
    """
    while True:
        number = newest_epoch(store) + 1
        record = EpochRecord(phase, step, socket.gethostname(), os.getpid(), time.time())
        if store.create_bytes(epoch_key(number), json.dumps(asdict(record)).encode()):
            return FencedStore(store, number)
        if newest_epoch(store) < number:  # else another attempt was faster
            raise BadInput(f"{store.url}/{epoch_key(number)}: {_FAULT}")


def read_epoch(store: Store, number: int) -> EpochRecord:
    """Who took this epoch.

    Raises:
        NotFound: nobody has.
        BadInput: the file is damaged.
    """
    return read_json(store, epoch_key(number), _RECORD, _FAULT)
