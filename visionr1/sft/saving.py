"""Committing SFT's checkpoints behind its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from visionr1.engine.saving import Committer, Parts
from visionr1.engine.zero import any_rank
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import Background


@dataclass(frozen=True, kw_only=True)
class _Upload:
    step: int
    parts: Parts
    state: dict[str, Any]
    begun: float


class RankSaving:
    """Commits what all ranks have written: on S3 while the next steps train, one checkpoint at a time.

    Each rank uploads its part in a thread; the first call that finds all ranks ready commits. All methods are collective.

    Args:
        keep_last: how many of the newest checkpoints stay.
        on_commit: called on rank 0 with each committed step and the seconds that upload and commit took.
    """

    def __init__(
        self, checkpoints: Checkpoints, device: torch.device, keep_last: int, on_commit: Callable[[int, float], object]
    ) -> None:
        self._checkpoints, self._device = checkpoints, device
        self._committer = Committer(checkpoints, lambda steps: steps[-keep_last:], on_commit)
        self._uploading = Background("upload")
        self._upload: _Upload | None = None

    def check(self) -> None:
        """Commits the checkpoint before if every rank has uploaded its part.

        Raises:
            StorageError: this rank could not upload its part.
        """
        if self._upload is not None and not any_rank(self._uploading.running(), self._device):
            self._commit(self._upload)
            self._upload = None

    def begin(self, step: int) -> None:
        """Waits for the commit before, so that a machine holds the files of one checkpoint at a time; makes room for `step`."""
        self._finish()
        if dist.get_rank() == 0:
            self._checkpoints.staging(step)
            self._checkpoints.clear(step)
        dist.barrier()

    def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        """Makes what the ranks wrote a checkpoint; a local one is there at once, one on S3 later unless `wait` is true."""
        self._upload = _Upload(step=step, parts=parts, state=state, begun=time.monotonic())
        self._uploading.start(partial(self._checkpoints.upload, step, parts[dist.get_rank()]))
        if wait or self._checkpoints.local:
            self._finish()

    def _finish(self) -> None:
        self._uploading.wait()
        self.check()

    def _commit(self, upload: _Upload) -> None:
        """Returns when the checkpoint is there for all ranks."""
        if dist.get_rank() == 0:
            self._committer.commit(upload.step, upload.parts, upload.state, upload.begun)
        dist.barrier()
