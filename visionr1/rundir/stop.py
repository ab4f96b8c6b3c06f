"""stop/: a file here asks a driver to stop."""

from __future__ import annotations

from visionr1.errors import BadInput
from visionr1.storage import StorageError, Store


def asked_to_stop(store: Store, stop_when: str | None) -> bool:
    """Whether there is a file with the key `stop_when`. If the store does not answer, say no: it is asked again later."""
    try:
        return stop_when is not None and store.exists(stop_when)
    except (StorageError, BadInput) as error:
        print(f"cannot see whether to stop: {error}")
        return False
