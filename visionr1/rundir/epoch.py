"""epochs/: which attempt may write into a run directory.

Each attempt takes the next number, by creating a file that only one process can create. A writer looks at the numbers before
each write. Once a later one is taken, or its own is gone, the writer may not write any more: its process ends.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from visionr1.errors import BadInput, Fenced, Stopped, printable
from visionr1.rundir.layout import EPOCHS, epoch_key, epoch_number
from visionr1.rundir.reading import Count, Step, Time, read_json
from visionr1.storage.store import Moved, NotFound, StorageError, Store


@dataclass(frozen=True)
class EpochRecord:
    """Who took an epoch, and where it goes on.

    Attributes:
        phase: what it runs.
        begun: whether the next two are known. First it takes the epoch, so that nobody commits any more, and then it looks.
        step: committed global step of the phase from which it goes on. None is the phase's beginning.
        undone: phases that it takes back as a whole: a rollback.
        late: earlier attempts that had not begun when it looked. What they note after that does not count.
        rollback: name of the rollback that took it. If that is tried again, it keeps its epoch.
    """

    # A later version of this program may have written it.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="ignore")

    phase: str
    host: str
    pid: Count
    time: Time
    begun: bool = False
    step: Step | None = None
    undone: tuple[str, ...] = ()
    late: tuple[int, ...] = ()
    rollback: str = ""


_RECORD: Final = TypeAdapter(EpochRecord)
_USE: Final = "use one that keeps to If-None-Match"
_FAULT: Final = f"not the record of an epoch; when nothing is at work in the run, delete the folder {EPOCHS}"


class FencedStore:
    """A store that only the holder of the newest epoch can change; see `Store`. Each change raises Fenced for all others.

    Args:
        epoch: the number that this attempt has taken. With 0, the first attempt that takes one ends this writer.
    """

    def __init__(self, store: Store, epoch: int) -> None:
        self._store, self.epoch = store, epoch

    def check(self) -> None:
        """Raises Fenced if a newer attempt has taken the run over, or if this attempt's own record is gone."""
        taken = _taken(self._store)
        if max(taken, default=0) > self.epoch:
            raise Fenced(f"{self.url}: {self._taken_over()}; this attempt ends")
        if self.epoch and self.epoch not in taken:
            gone = f"{self.url}/{epoch_key(self.epoch)}: the record of this attempt is gone"
            raise Fenced(f"{gone}, so nothing would keep another one out; it ends")

    def _taken_over(self) -> str:
        try:
            by = read_epoch(self._store, self.epoch + 1)
        except (BadInput, NotFound):  # the next attempt that begins reports what is wrong with that record
            return "another attempt took this run over"
        when = datetime.fromtimestamp(by.time, UTC).isoformat(timespec="seconds")
        return printable(f"process {by.pid} on {by.host} took this run over at {when}, for {by.phase}")

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

    def replace_bytes(self, key: str, data: bytes, before: bytes | None) -> bool:
        self.check()
        return self._store.replace_bytes(key, data, before)

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
    return max(_taken(store), default=0)


def _taken(store: Store) -> set[int]:
    return {number for key in store.list(EPOCHS) if (number := epoch_number(key)) is not None}


def take_epoch(store: Store, phase: str) -> FencedStore:
    """Takes the next epoch. All attempts before are fenced from now on.

    Args:
        phase: what this attempt runs.

    Raises:
        BadInput: something else is in the place of the next record, or the store cannot keep two writers apart.
    """
    while True:
        number = newest_epoch(store) + 1
        key, record = epoch_key(number), _record_of(phase)
        if store.create_bytes(key, _as_bytes(record)):
            if store.create_bytes(key, _as_bytes(replace(record, pid=record.pid + 1))):
                raise BadInput(
                    f"{store.url}: its server creates a key that is there already, so two attempts could write; {_USE}"
                )
            return FencedStore(store, number)
        if newest_epoch(store) < number:  # else another attempt was faster
            raise BadInput(f"{store.url}/{key}: {_FAULT}")


def begin_from(
    store: FencedStore, phase: str, step: int | None, late: tuple[int, ...], undone: tuple[str, ...] = (), rollback: str = ""
) -> None:
    """Notes from where the holder of an epoch goes on; see `EpochRecord`. What others have committed after that is outdated."""
    key = epoch_key(store.epoch)
    record = replace(_record_of(phase), begun=True, step=step, late=late, undone=undone, rollback=rollback)
    if not store.replace_bytes(key, _as_bytes(record), store.read_bytes(key)):
        raise StorageError(f"{store.url}/{key}: another process writes it, too; end that one, and start again")


def _record_of(phase: str) -> EpochRecord:
    return EpochRecord(phase, socket.gethostname(), os.getpid(), time.time())


def _as_bytes(record: EpochRecord) -> bytes:
    return json.dumps(asdict(record)).encode()


def read_epoch(store: Store, number: int) -> EpochRecord:
    """Who took this epoch.

    Raises:
        NotFound: nobody has.
        BadInput: the file is damaged.
    """
    return read_json(store, epoch_key(number), _RECORD, _FAULT)
