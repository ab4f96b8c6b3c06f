"""One process at a time in a local run directory."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from visionr1.errors import BadInput
from visionr1.rundir.layout import LOCK
from visionr1.storage.store import Store, make_folders, os_errors


@contextmanager
def run_lock(store: Store) -> Iterator[int | None]:
    """Holds a local run directory for this process, by `flock` on `.lock`, which says who has it.

    Yields the lock's file descriptor: a child that inherits it (`pass_fds`) keeps the run locked even if its parent is killed.
    A remote store yields None: there the cluster's controller sees to it that a run has one driver.

    Raises:
        BadInput: Another process holds it.
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
        raise BadInput(f"{path.parent} is in use{_holder(path)}; wait for it or stop it") from error
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(sys.argv),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        return f" by process {holder['pid']} on {holder['host']} since {holder['time']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        return ""  # read between the other's locking and writing
