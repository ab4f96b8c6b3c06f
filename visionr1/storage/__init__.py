"""Where things are kept: local directories and s3://, checkpoints that a manifest commits, the run's lock."""

from visionr1.storage.background import Background
from visionr1.storage.checkpoints import Checkpoints, FileEntry, forget_copies, kept
from visionr1.storage.lock import run_lock
from visionr1.storage.store import NotFound, StorageError, Store, open_store

__all__ = [
    "Background",
    "Checkpoints",
    "FileEntry",
    "NotFound",
    "StorageError",
    "Store",
    "forget_copies",
    "kept",
    "open_store",
    "run_lock",
]
