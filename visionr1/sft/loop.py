"""SFT, step by step, on each rank."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from visionr1.engine.journal import Clock
from visionr1.engine.saving import total_bytes
from visionr1.engine.zero import any_rank
from visionr1.errors import Stopped
from visionr1.sft.journal import RankJournal
from visionr1.sft.rank import SftRank
from visionr1.sft.schedule import learning_rate


def run_sft(rank: SftRank, journal: RankJournal, should_stop: Callable[[], bool]) -> None:
    """Trains from the last committed step to the end; every step ends in a log record.

    Raises:
        Stopped: a rank was asked to stop, after a checkpoint.
        StorageError: a checkpoint or a record could not be stored.
    """
    last_step = rank.last_step
    with closing(rank.batches()) as batches:
        for step in range(rank.done + 1, last_step + 1):
            clock = Clock()
            with clock("update"):
                batch, sampler_state = next(batches)
                rate = learning_rate(rank.sft, step, last_step)
                stats = rank.update(batch, rate)
            rank.check()
            stopping = any_rank(should_stop(), rank.device)
            saved = None
            if stopping or step == last_step or step % rank.sft.checkpoint_every == 0:
                with clock("checkpoint"):
                    saved = rank.save(step)
                stats["checkpoint_bytes"] = total_bytes(saved)
            journal.write(step, rate, batch, stats, clock)
            if saved is not None:
                # Last of all: a step that is committed is never run again, so nothing may be left to write.
                journal.flush()
                rank.commit(step, saved, sampler_state, wait=stopping or step == last_step)
            if stopping and step < last_step:
                raise Stopped(f"SFT stopped after step {step}, which is committed")
