"""The ranks' part in saving: each uploads what it wrote, and rank 0 commits once all of it is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.distributed as dist

from visionr1.engine.saving import Parts, Saving
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import Background


class RankSaving:
    """What `Saving` is for one process, for a group of ranks. `begin` and `commit` are collective.

    Args:
        keep_last: how many of the newest checkpoints stay.
        on_commit: called on rank 0 with each committed step and the seconds that upload and commit took, in another thread.
    """

    def __init__(self, checkpoints: Checkpoints, keep_last: int, on_commit: Callable[[int, float], object]) -> None:
        self._checkpoints = checkpoints
        self._saving = Saving(checkpoints, self._upload_all, lambda steps: steps[-keep_last:], on_commit)
        self._uploading = Background("upload")

    def check(self) -> None:
        """Raises StorageError if this rank could not upload its part of the checkpoint before, or not commit it."""
        self._saving.check()
        self._uploading.running()

    def begin(self, step: int) -> None:
        """Waits for the commit before, so that a machine holds the files of one checkpoint at a time; makes room for `step`."""
        self._uploading.wait()
        if dist.get_rank() == 0:
            self._saving.begin(step)
            self._checkpoints.clear(step)
        dist.barrier()

    def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        """Makes what the ranks wrote a checkpoint; a local one is there at once, one on S3 later unless `wait` is true."""
        rank = dist.get_rank()
        if rank == 0:
            self._saving.commit(step, parts, state, wait=wait)
        else:
            self._uploading.start(partial(self._checkpoints.upload, step, parts[rank]))
        if wait or self._checkpoints.local:
            self._uploading.wait()
            dist.barrier()

    def _upload_all(self, step: int, parts: Parts) -> None:
        """On rank 0. If another rank cannot upload its part, that rank ends, and the group with it."""
        self._checkpoints.upload(step, parts[0])
        self._checkpoints.await_files(step, [entry for part in parts for entry in part])
