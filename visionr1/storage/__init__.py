"""Where bytes are kept: one small interface over local directories and s3://."""

from visionr1.storage.background import Background
from visionr1.storage.place import open_store
from visionr1.storage.store import NotFound, StorageError, Store

__all__ = ["Background", "NotFound", "StorageError", "Store", "open_store"]
