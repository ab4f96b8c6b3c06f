"""One process at a time in a local run directory."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from visionr1.errors import BadInput
from visionr1.rundir.attempts import ATTEMPT
from visionr1.rundir.layout import LOCK
from visionr1.rundir.reading import SMALL
from visionr1.storage.store import Store, make_folders, os_errors


@dataclass(frozen=True)
class _Holder:
    """Who has the directory, for people."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    pid: int
    host: str
    command: str
    time: str


_HOLDER: Final = TypeAdapter(_Holder)


@contextmanager
def run_lock(store: Store) -> Iterator[int | None]:
    """Holds a local run directory for this process, by `flock` on `.lock`, which says who has it.

    Yields the lock's file descriptor: a child that inherits it (`pass_fds`) keeps the run locked even if its parent is killed.
    A remote store yields None: there the cluster's controller sees to it that a run has one driver.

    Raises:
        BadInput: Another process uses it.
    """
    path = store.local_path(LOCK)
    if path is None:
        yield None
        return
    with os_errors(path):
        make_folders(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with os_errors(path):
            _acquire(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadInput(f"{path.parent} is in use{_holder(descriptor)}; wait for it or stop it") from error
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    holder = _Holder(os.getpid(), socket.gethostname(), shlex.join(sys.argv), now)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = _HOLDER.validate_json(os.pread(descriptor, SMALL, 0))
    except ValueError:
        return ""  # read between the other's locking and writing
    return f" by process {holder.pid} on {holder.host} since {holder.time} ({holder.command})"


@contextmanager
def phase_lock(store: Store, recipe_sha256: str | None) -> Iterator[None]:
    """Locks a local run directory for one phase. Not if `visionr1 run` has locked it for it, or SFT's other nodes share it.

    Nor in a pod of the operator, which names the recipe: what is left of an older pod has the lock, and an epoch ends it.

    Raises:
        BadInput: Another process uses it.
    """
    shared = recipe_sha256 is not None or ATTEMPT in os.environ or "PET_NNODES" in os.environ
    path = store.local_path(LOCK)
    # The phase itself reports that there is no run here; a lock would make the folder.
    nothing = path is not None and not path.parent.exists()
    with nullcontext() if shared or nothing else run_lock(store):
        yield
