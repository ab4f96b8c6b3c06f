"""Committing a stage's checkpoints behind its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from visionr1.engine.saving import Committer, Parts
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import Background


class Saving:
    """Uploads, commits and drops old checkpoints: on S3 while the next steps train, one checkpoint at a time.

    Args:
        upload: Brings the workers' files of a step to the store; called for a remote store only.
        keep: Which of the committed steps stay.
        on_commit: Called with each committed step and the seconds that upload and commit took, in another thread.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        upload: Callable[[int, Parts], object],
        keep: Callable[[list[int]], Collection[int]],
        on_commit: Callable[[int, float], object],
    ) -> None:
        self._checkpoints, self._upload = checkpoints, upload
        self._committer = Committer(checkpoints, keep, on_commit)
        self._work = Background("commit")

    def check(self) -> None:
        """Raises what kept the checkpoint before from its commit, if that is known already."""
        self._work.running()

    def begin(self, step: int) -> None:
        """Waits for the commit before, so that a machine holds the files of one checkpoint at a time; makes room for `step`."""
        self._work.wait()
        self._checkpoints.staging(step)

    def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        """Makes what the workers wrote a checkpoint; a local one is there at once, one on S3 later unless `wait` is true."""
        self._work.start(lambda: self._commit(step, parts, state))
        if wait or self._checkpoints.local:
            self._work.wait()

    def _commit(self, step: int, parts: Parts, state: dict[str, Any]) -> None:
        begun = time.monotonic()
        if not self._checkpoints.local:
            self._checkpoints.clear(step)
            self._upload(step, parts)
        self._committer.commit(step, parts, state, begun)
