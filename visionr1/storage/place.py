"""From the address of a run directory to its store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from visionr1.errors import BadInput
from visionr1.storage.store import LocalStore, Store, check_key


def open_store(url: str) -> Store:
    """The store at a local path (made by the first write) or at s3://bucket/prefix. This call uses no disk and no network.

    S3 takes its settings from the standard AWS environment, see `visionr1.storage.s3`.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        if not url:
            raise BadInput("the run directory's name is empty: give a local path or s3://bucket/prefix")
        return LocalStore(Path(url))
    if scheme != "s3":
        raise BadInput(f"{scheme}:// cannot hold a run: give a local path or s3://bucket/prefix")
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise BadInput("an s3:// address must not have credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.query or parts.fragment:
        raise BadInput(f"{url}: give s3://bucket/prefix")
    from visionr1.storage.s3 import S3Store  # boto3 takes a third of a second to import

    return S3Store(parts.netloc, check_key(prefix) if prefix else "")
