"""Making what several processes have written a checkpoint, while the next steps train. SFT and GRPO share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.manifest import FileEntry
from visionr1.storage import Background

Parts = list[list[FileEntry]]
"""Each process's files of one checkpoint."""


class Saving:
    """Uploads, commits and drops old checkpoints: on S3 while the next steps train, one checkpoint at a time.

    Args:
        upload: Returns when the files of a step are all in the store. It is called for a remote store only.
        keep: Which of the committed steps stay.
        on_commit: Called with each committed step and the seconds that its upload and commit took, in another thread.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        upload: Callable[[int, Parts], object],
        keep: Callable[[list[int]], Collection[int]],
        on_commit: Callable[[int, float], object],
    ) -> None:
        self._checkpoints, self._upload, self._keep, self._on_commit = checkpoints, upload, keep, on_commit
        self._work = Background("commit")

    def check(self) -> None:
        """Raises what kept the checkpoint before from its commit, if that is known already."""
        self._work.running()

    def begin(self, step: int) -> None:
        """Waits for the commit before, so that a machine holds the files of one checkpoint at a time; makes room for `step`."""
        self._work.wait()
        self._checkpoints.staging(step)

    def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        """Makes what the processes wrote a checkpoint; a local one is there at once, one on S3 later unless `wait` is true."""
        self._work.start(lambda: self._commit(step, parts, state))
        if wait or self._checkpoints.local:
            self._work.wait()

    def _commit(self, step: int, parts: Parts, state: dict[str, Any]) -> None:
        begun = time.monotonic()
        if not self._checkpoints.local:
            self._upload(step, parts)
        self._checkpoints.commit(step, [entry for part in parts for entry in part], state)
        self._checkpoints.remove_after(step)  # steps only grow, so later ones are of an attempt that was taken over
        self._on_commit(step, time.monotonic() - begun)
        self._checkpoints.retain(self._keep(self._checkpoints.steps()))


def total_bytes(parts: Parts) -> int:
    """Size of the whole checkpoint."""
    return sum(entry.bytes for part in parts for entry in part)
