"""What a rank of SFT leaves behind for each step; rank 0 writes the records."""

from __future__ import annotations

import sys
import time
from typing import Any

from visionr1.engine.journal import Clock, Journal, resident_bytes
from visionr1.progress import Advance
from visionr1.recipe.phases import SFT_PHASE
from visionr1.rundir.steplog import StepLog
from visionr1.sft.batches import Batch
from visionr1.sft.effort import RankEffort
from visionr1.sft.rank import WHERE, SftRank


class RankJournal:
    """Lists what is left out, and serves this rank's /metrics. Rank 0 also writes steps.jsonl and lines on the terminal."""

    def __init__(self, rank: SftRank, advance: Advance) -> None:
        self._exporter = rank.exporter
        self._effort = RankEffort(rank.sft, rank.recipe.model, rank.sizes, rank.device)
        self._journal: Journal | None = None
        if rank.rank == 0:
            self._journal = Journal(rank.store, StepLog(rank.store, SFT_PHASE, rank.done), rank.exporter, advance)
            rank.exporter.update(WHERE | {"stage_first_step": 0, "stage_last_step": rank.last_step})
        rank.exporter.update(WHERE | self._effort.peak_values())

    def write(self, step: int, learning_rate: float, batch: Batch, stats: dict[str, float], clock: Clock) -> None:
        """Records one step; on S3 it is stored while the next step runs, see `flush`.

        Raises:
            StorageError: the step before could not be stored, or a local disk cannot take this one.
        """
        for note in batch.left_out:
            print(f"left out {note}", file=sys.stderr)
        memory = {"host_memory_bytes": resident_bytes()}
        # The record has all ranks' tokens, /metrics this rank's.
        own = self._effort.step(batch.rows, clock.seconds["update"]) | {"trained_tokens": batch.targets} | memory
        if self._journal is None:
            self._exporter.update(WHERE | own)
            return
        record: dict[str, Any] = {
            **WHERE,
            "step": step,
            "time": time.time(),
            "learning_rate": learning_rate,
            "step_seconds": clock.rounded(),
            **stats,
            **memory,
        }
        self._journal.write(record, f"loss {stats['loss']:.3f}", own=own)

    def flush(self) -> None:
        """Returns when all steps are stored; raises what kept one from it."""
        if self._journal is not None:
            self._journal.flush()
