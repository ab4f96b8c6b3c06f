"""Checkpoints that exist wholly or not at all.

Every process writes its files into a folder that only its attempt has, publishes them (bytes and SHA-256 of each) and uploads
them if the store is remote; one process then puts them into place and commits the checkpoint by writing its manifest, last.
Whatever lacks a manifest is not a checkpoint: nothing reads it, and the next attempt at that step removes it. Deleting takes the
manifest first, for the same reason.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from visionr1.errors import BadInput, Fenced
from visionr1.rundir.copies import one_at_a_time, scratch
from visionr1.rundir.epoch import check_epoch, epoch_of
from visionr1.rundir.layout import (
    MANIFEST,
    TRAINER,
    checkpoint_prefix,
    checkpoint_step,
    checkpoints_prefix,
    staged_epoch,
    staged_prefix,
)
from visionr1.rundir.manifest import FileEntry, Manifest, Place
from visionr1.rundir.reading import read_json
from visionr1.rundir.series import Series
from visionr1.rundir.sound import damage, nothing, sha256, size_of
from visionr1.storage.progress import showing
from visionr1.storage.store import (
    TEMPORARY,
    Damaged,
    Moved,
    NotFound,
    StorageError,
    Store,
    check_key,
    fsync,
    make_folders,
    os_errors,
)

_AWAITED_SECONDS: Final = 0.5
"""Time between two looks for files that others upload."""
_DOWNLOADS: Final = 2
"""A file that arrives damaged is fetched once more: the fault may lie on the way."""
_MANIFEST: Final = TypeAdapter(Manifest)
_FAULT: Final = "this is no checkpoint manifest; delete it to use the checkpoint before"
_MOST_MANIFEST_BYTES: Final = 8 << 20
"""Some 40,000 files: 512 processes with 80 each. The operator, which has little memory, reads manifests too."""


class Checkpoints:
    """The checkpoints of one phase. For a remote store, files pass through a folder of this user's in TMPDIR."""

    def __init__(self, store: Store, phase: str) -> None:
        self.store = store
        self.phase = phase

    @property
    def local(self) -> bool:
        """Whether the files lie where they are written, so that there is nothing to upload."""
        return self.store.local_path(checkpoints_prefix(self.phase)) is not None

    def staging(self, step: int) -> Path:
        """An empty local folder for the files of `step`, which no other attempt writes to.

        Removes all that is there for this step, be it left by an attempt that was interrupted or a committed checkpoint. One
        process of the run calls it, before the others call `folder`. It never waits for a remote store: there `clear` removes,
        which is to be called before the first `upload`.
        """
        check_epoch(self.store)
        if self.local:
            self._delete(step)
        self.forget(step)
        with os_errors(self._staged(step)):
            shutil.rmtree(self._staged(step), ignore_errors=True)
        return self.folder(step)

    def clear(self, step: int) -> None:
        """Removes what a remote store has of a step that is about to be uploaded; a local one was cleared by `staging`."""
        if not self.local:
            self._delete(step)

    def folder(self, step: int) -> Path:
        """What `staging` gave, for the other processes that write; for a remote store each machine has its own.

        It has one step at a time. Files of other steps, which an interrupted attempt left, are removed.
        """
        check_epoch(self.store)
        self.clear_left()
        folder = self._staged(step)
        with os_errors(folder):
            make_folders(folder)
            for other in folder.parent.iterdir():
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)  # another process may do the same
        return folder

    def clear_left(self) -> None:
        """Removes what attempts before this one have left unfinished on this machine: half a checkpoint, half a deletion."""
        folder = self._local(checkpoints_prefix(self.phase))
        with os_errors(folder):
            for left in folder.glob(f"{TEMPORARY}*"):
                epoch = staged_epoch(left.name)
                if epoch is None or epoch < epoch_of(self.store):
                    shutil.rmtree(left, ignore_errors=True)  # another process may do the same

    def publish(self, step: int, folder: Path, names: Iterable[str]) -> list[FileEntry]:
        """Measures and hashes this process's files; in a local store they are then on the disk.

        Args:
            folder: What `staging` or `folder` gave.
            names: Paths of the files within it, with `/`.

        Raises:
            StorageError: A file is missing, or cannot be read.
        """
        check_epoch(self.store)
        names = [check_key(name) for name in names]
        if MANIFEST in names:
            raise ValueError(f"{MANIFEST} is the name of what commits a checkpoint")
        total = sum(size_of(folder / name) for name in names)
        with showing(f"saving {self.phase} step {step}", total) as moved:
            return [self._publish_file(step, folder / name, name, moved) for name in names]

    def upload(self, step: int, entries: Collection[FileEntry]) -> None:
        """Brings what this machine's `publish` returned into a remote store and removes it here; local files are there already.

        Raises:
            StorageError: A file cannot be stored.
        """
        if self.local:
            return
        with showing(f"uploading {self.phase} step {step}", sum(entry.bytes for entry in entries)) as moved:
            for entry in entries:
                path = self._staged(step) / check_key(entry.path)
                self.store.put_file(path, self._key(step, entry.path), moved)
                path.unlink()

    def await_files(self, step: int, entries: Collection[FileEntry]) -> None:
        """Returns when all files are in the store whole, which other machines bring there."""
        while True:
            there = self.store.sizes(self._key(step))
            if all(there.get(self._key(step, entry.path)) == entry.bytes for entry in entries):
                return
            time.sleep(_AWAITED_SECONDS)

    def commit(self, step: int, entries: Iterable[FileEntry], state: dict[str, Any]) -> int:
        """Writes the manifest; from then on the checkpoint exists. One process calls it, with all processes' entries.

        Returns:
            Bytes of the whole checkpoint.

        Raises:
            StorageError: A published file is not in the store whole, as when nodes do not share the run directory.
            Fenced: Another attempt has taken the run over.
        """
        files = tuple(sorted(entries, key=lambda entry: entry.path))
        if len({entry.path for entry in files}) != len(files):
            raise ValueError(f"two processes published the same file of {self.phase} step {step}")
        if self.local:
            self._put_into_place(step)
        there = self.store.sizes(self._key(step))
        for entry in files:
            key = self._key(step, entry.path)
            if key not in there:
                raise StorageError(f"{self.store.url}/{key}: published, but missing; all nodes must share the run directory")
            if there[key] != entry.bytes:
                raise StorageError(f"{self.store.url}/{key}: {there[key]} of {entry.bytes} bytes arrived; save it again")
        epoch = epoch_of(self.store)
        manifest = Manifest(phase=self.phase, step=step, time=time.time(), state=state, files=files, epoch=epoch)
        self._write_manifest(step, manifest.model_dump_json(indent=1).encode())
        return sum(entry.bytes for entry in files)

    def steps(self) -> list[int]:
        """Global steps of the committed checkpoints of the run's series (see `series.py`), in order."""
        series, found = Series(self.store), []
        for step in self._found()[0]:
            with suppress(NotFound):  # deleted since it was listed
                if self._belongs(step, series):
                    found.append(step)
        return found

    def folders(self) -> list[int]:
        """Global steps of which anything is there, committed or not, in order."""
        return sorted(step for steps in self._found() for step in steps)

    def latest(self, series: Series | None = None) -> int | None:
        """The newest of `steps`, or of those that belong to `series`. Of the older ones nothing is read."""
        series = series or Series(self.store)
        for step in reversed(self._found()[0]):
            try:
                if self._belongs(step, series):
                    return step
            except NotFound:  # a newer one has taken its place since it was listed
                return self.latest(series)
        return None

    def _belongs(self, step: int, series: Series) -> bool:
        try:
            epoch = self._manifest(step).epoch
        except BadInput:  # whoever uses the checkpoint reports its manifest
            return True
        return series.has(self.phase, step, epoch)

    def state(self, step: int) -> dict[str, Any]:
        """The state that `commit` was given.

        Raises:
            NotFound: The checkpoint is not committed.
        """
        return self._manifest(step).state

    def epoch(self, step: int) -> int:
        """The epoch of the attempt that committed it.

        Raises:
            NotFound: The checkpoint is not committed.
        """
        return self._manifest(step).epoch

    def training_state(self, step: int) -> dict[str, Any]:
        """The state, with the sampler's place in the data under `sampler`.

        Raises:
            NotFound: The checkpoint is not committed.
            BadInput: Its manifest has no such place.
        """
        state = self.state(step)
        try:
            return state | {"sampler": Place.model_validate(state.get("sampler")).model_dump()}
        except ValidationError:
            raise BadInput(f"{self.store.url}/{self._key(step, MANIFEST)}: {_FAULT}") from None

    def fetch(self, step: int, *, trainer: bool = True) -> Path:
        """A local folder with the checkpoint's files. Every byte is checked against the manifest.

        Without `trainer`, its states, which are several times as large as the weights, are left out.

        For a remote store the folder is this machine's copy; processes of one machine share it, `forget` removes it.

        Raises:
            NotFound: The checkpoint is not committed.
            StorageError: A file differs from the manifest.
        """
        paths = {check_key(entry.path): entry for entry in self._manifest(step).files}
        chosen = [entry for path, entry in paths.items() if trainer or not path.startswith(f"{TRAINER}/")]
        with showing(f"reading {self.phase} step {step}", sum(entry.bytes for entry in chosen)) as moved:
            if (folder := self.store.local_path(self._key(step))) is not None:
                for entry in chosen:
                    self.store.local_path(self._key(step, entry.path))  # refuses a symbolic link out of the run directory
                    self._expect_sound(step, folder / entry.path, entry, moved)
                return folder
            with one_at_a_time(self._fetched(step)) as folder:
                for entry in chosen:
                    self._download(step, folder / entry.path, entry, moved)
                return folder

    def forget(self, step: int) -> None:
        """Removes this machine's copy of a remote checkpoint; the checkpoint itself stays."""
        if not self.local:
            for folder in (self._fetched(step), self._staged(step)):
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self, step: int) -> None:
        """Deletes what there is of a step, this machine's copy included."""
        self._delete(step)
        self.forget(step)

    def remove_after(self, step: int | None) -> None:
        """Removes all later checkpoints, or all (None), the newest first: an older attempt has made them."""
        for later in reversed(self.folders()):
            if step is None or later > step:
                self.remove(later)

    def retain(self, keep: Collection[int]) -> None:
        """Deletes all checkpoints but those in `keep` (see `kept`) and the newest.

        Folders older than the newest checkpoint that no manifest commits go as well.
        """
        committed, uncommitted = self._found()
        for step in sorted({*committed, *uncommitted}):
            if committed and step < committed[-1] and (step in uncommitted or step not in keep):
                self.remove(step)

    def _found(self) -> tuple[list[int], list[int]]:
        """Steps with a manifest, and steps without."""
        files = [found for key in self.store.list(checkpoints_prefix(self.phase)) if (found := checkpoint_step(key)) is not None]
        committed = {step for step, name in files if name == MANIFEST}
        return sorted(committed), sorted({step for step, _ in files} - committed)

    def _delete(self, step: int) -> None:
        """Takes the manifest first: a checkpoint that is half deleted is not one."""
        self.store.delete(self._key(step, MANIFEST))
        self.store.delete(self._key(step))

    def _key(self, step: int, name: str | None = None) -> str:
        prefix = checkpoint_prefix(self.phase, step)
        return prefix if name is None else f"{prefix}/{check_key(name)}"

    def _staged(self, step: int) -> Path:
        return self._local(staged_prefix(self.phase, epoch_of(self.store), step))

    def _local(self, key: str) -> Path:
        """Where this machine writes what is to be uploaded, or is in the run directory already."""
        return self.store.local_path(key) or scratch(self.store.url) / "staged" / key

    def _put_into_place(self, step: int) -> None:
        check_epoch(self.store)
        staged, final = self._staged(step), self._local(self._key(step))
        if not staged.is_dir():  # nothing was published
            return
        with os_errors(final):
            try:
                os.rename(staged, final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._refuse_if_newer(step)  # another attempt has put its files there since `staging`
                self._delete(step)
                os.rename(staged, final)
            fsync(final.parent)
            with suppress(OSError):  # an empty folder is in nobody's way
                staged.parent.rmdir()

    def _refuse_if_newer(self, step: int) -> None:
        try:
            if self._manifest(step).epoch <= epoch_of(self.store):
                return
        except NotFound:
            return
        address = f"{self.store.url}/{self._key(step, MANIFEST)}"
        raise Fenced(f"{address}: a newer attempt has committed this step; this attempt ends")

    def _fetched(self, step: int) -> Path:
        return scratch(self.store.url) / "fetched" / self._key(step)

    def _manifest(self, step: int) -> Manifest:
        return read_json(self.store, self._key(step, MANIFEST), _MANIFEST, _FAULT, _MOST_MANIFEST_BYTES)

    def _write_manifest(self, step: int, data: bytes) -> None:
        """Nothing vouches for the manifest itself, so a remote one is read again; one that is torn goes."""
        key = self._key(step, MANIFEST)
        if not self.store.create_bytes(key, data):  # another attempt has committed the step since `staging`
            self._refuse_if_newer(step)
            self.store.delete(key)
            if not self.store.create_bytes(key, data):
                raise StorageError(f"{self.store.url}/{key}: another process writes it, too; end that one, and start again")
        if self.local:
            return
        try:
            arrived = self.store.read_bytes(key)
        except Damaged:
            arrived = b""
        if arrived != data:
            self.store.delete(key)
            raise StorageError(f"{self.store.url}/{key}: it was damaged on arrival and was removed; save the checkpoint again")

    def _publish_file(self, step: int, path: Path, name: str, moved: Moved) -> FileEntry:
        if path != self._staged(step) / name:
            raise ValueError(f"{path}: the files of {self.phase} step {step} belong into what staging({step}) gave")
        with os_errors(path):
            entry = FileEntry(path=name, bytes=path.stat().st_size, sha256=sha256(path, moved))
            if self.local:
                for durable in (path, *(parent for parent in path.parents if parent.is_relative_to(self._staged(step)))):
                    fsync(durable)
        return entry

    def _download(self, step: int, path: Path, entry: FileEntry, moved: Moved) -> None:
        for left in reversed(range(_DOWNLOADS)):
            if damage(path, entry) is None:
                return
            try:
                self.store.get_file(self._key(step, entry.path), path, moved)
            except NotFound:
                path.unlink(missing_ok=True)
            except Damaged:
                if not left:
                    raise
        self._expect_sound(step, path, entry, nothing)

    def _expect_sound(self, step: int, path: Path, entry: FileEntry, moved: Moved) -> None:
        if (wrong := damage(path, entry, moved)) is not None:
            address = f"{self.store.url}/{self._key(step, entry.path)}"
            raise StorageError(f"{address} {wrong}; restore it, or delete {MANIFEST} beside it to use the checkpoint before")
