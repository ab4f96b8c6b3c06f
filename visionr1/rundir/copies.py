"""This machine's copies of a remote run's checkpoints, in a folder of this user's in TMPDIR."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from visionr1.errors import BadInput
from visionr1.rundir.layout import RECIPE, checkpoint_prefix, checkpoints_prefix
from visionr1.storage.store import Store, make_folders, os_errors


def forget_copies(store: Store, keep: Collection[tuple[str, int]]) -> None:
    """Removes this machine's copies of a remote run's checkpoints, except for the phases and steps in `keep`."""
    if store.local_path(RECIPE) is not None:
        return
    top = scratch(store.url) / "fetched"
    kept_here = {top / checkpoint_prefix(phase, step) for phase, step in keep}
    for folder in top.glob(f"{checkpoints_prefix('*')}/step-*"):
        if folder.is_dir() and folder not in kept_here:
            shutil.rmtree(folder, ignore_errors=True)


def scratch(url: str) -> Path:
    """This user's own folder in TMPDIR for one remote run; nobody else may have made or may enter it."""
    top = Path(tempfile.gettempdir()) / f"visionr1-{os.getuid()}"
    with os_errors(top):
        top.mkdir(mode=0o700, exist_ok=True)
        if top.is_symlink() or top.stat().st_uid != os.getuid():
            raise BadInput(f"{top} belongs to another user; set TMPDIR to your own directory")
    return top / hashlib.sha256(url.encode()).hexdigest()[:16]


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[Path]:
    """Lets one process of this machine fill `folder`; the next ones then find the files there."""
    with os_errors(folder):
        make_folders(folder.parent)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
