"""Committing a checkpoint that several processes have written, in SFT and GRPO alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.manifest import FileEntry

Parts = list[list[FileEntry]]
"""Each process's files of one checkpoint."""


class Committer:
    """Makes uploaded files a checkpoint, then drops those that are no longer kept.

    Args:
        keep: which of the committed steps stay.
        on_commit: called with each committed step and the seconds that its upload and commit took.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        keep: Callable[[list[int]], Collection[int]],
        on_commit: Callable[[int, float], object],
    ) -> None:
        self._checkpoints, self._keep, self._on_commit = checkpoints, keep, on_commit

    def commit(self, step: int, parts: Parts, state: dict[str, Any], begun: float) -> None:
        """`begun` is when the upload began, by `time.monotonic`."""
        self._checkpoints.commit(step, [entry for part in parts for entry in part], state)
        self._checkpoints.remove_after(step)  # steps only grow, so later ones are of an attempt that was taken over
        self._on_commit(step, time.monotonic() - begun)
        self._checkpoints.retain(self._keep(self._checkpoints.steps()))


def total_bytes(parts: Parts) -> int:
    """Size of the whole checkpoint."""
    return sum(entry.bytes for part in parts for entry in part)
