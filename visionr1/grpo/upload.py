"""Uploading a worker's part of a checkpoint, in another process, so that the worker can continue to train."""

from __future__ import annotations

import ray

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.manifest import FileEntry
from visionr1.storage import open_store


@ray.remote(max_retries=0)
def upload(run_url: str, epoch: int, phase: str, step: int, entries: list[FileEntry]) -> None:
    """To run on the machine of the worker that wrote the files: they lie there."""
    Checkpoints(FencedStore(open_store(run_url), epoch), phase).upload(step, entries)
