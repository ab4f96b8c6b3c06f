"""What a stage leaves behind for each step: a log record, metrics, the rollouts, a line on the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard

from visionr1.data.rows import Row
from visionr1.engine.journal import Clock, Journal, resident_bytes
from visionr1.grpo.advantage import zero_signal_ratio
from visionr1.metrics.exporter import Exporter
from visionr1.progress import Advance
from visionr1.recipe.phases import StagePhase
from visionr1.recipe.schema import Recipe
from visionr1.reward import Grade
from visionr1.rollout.types import Reply
from visionr1.rundir.layout import rollouts_key
from visionr1.rundir.steplog import StepLog
from visionr1.storage import Store


def step_record(
    phase: StagePhase,
    step: int,
    learning_rate: float,
    groups: Sequence[Sequence[Reply]],
    grades: Sequence[Grade],
    rewards_PG: np.ndarray,
    stats: dict[str, float],
    clock: Clock,
) -> dict[str, Any]:
    """The step's log record; its keys are the table's in `visionr1.metrics`."""
    completions = [completion for group in groups for completion in group]
    lengths = np.array([len(completion.token_ids) for completion in completions])
    return {
        "phase": phase.name,
        "stage": phase.number,
        "step": step,
        "time": time.time(),
        "reward_mean": float(rewards_PG.mean()),
        "reward_std": float(rewards_PG.std()),
        "reward_component_mean": {
            "format": float(np.mean([grade.format for grade in grades])),
            "accuracy": float(np.mean([grade.accuracy for grade in grades])),
        },
        "completion_tokens_mean": float(lengths.mean()),
        "completion_tokens_max": int(lengths.max()),
        "completion_truncated_ratio": float(np.mean([completion.finish_reason == "length" for completion in completions])),
        "advantage_zero_std_ratio": zero_signal_ratio(rewards_PG),
        "generated_tokens": int(lengths.sum()),
        "learning_rate": learning_rate,
        "step_seconds": clock.rounded(),
        **stats,
    }


class StageJournal:
    """Writes each step to rollouts/ and steps.jsonl in the run directory, to /metrics and to the terminal."""

    def __init__(self, recipe: Recipe, phase: StagePhase, store: Store, log: StepLog, exporter: Exporter, advance: Advance):
        self._recipe, self._phase, self._store, self._exporter = recipe, phase, store, exporter
        self._journal = Journal(store, log, exporter, advance)
        exporter.update(
            {
                "phase": phase.name,
                "stage": phase.number,
                "stage_first_step": phase.first_step,
                "stage_last_step": phase.last_step,
                "completion_tokens_limit": phase.stage.max_completion_tokens,
                "host_memory_bytes": resident_bytes(),
            }
        )

    def write(
        self,
        step: int,
        learning_rate: float,
        batch: Sequence[Row],
        groups: Sequence[Sequence[Reply]],
        grades: Sequence[Grade],
        rewards_PG: np.ndarray,
        stats: dict[str, float],
        clock: Clock,
    ) -> None:
        """Records one step everywhere. On S3 its objects are written while the next step runs; see `flush`.

        Raises:
            StorageError: the step before could not be stored, or a local disk cannot take this one.
        """
        stats = {**stats, "workers": self._recipe.rollout.workers}
        record = step_record(self._phase, step, learning_rate, groups, grades, rewards_PG, stats, clock)
        rollouts = rollout_lines(batch, groups, grades).encode() if self._recipe.metrics.save_rollouts else None

        def store_rollouts() -> None:
            if rollouts is not None:
                self._store.write_bytes(rollouts_key(self._phase.name, step), zstandard.compress(rollouts))

        length, cut = record["completion_tokens_mean"], record["completion_truncated_ratio"]
        line = f"reward {record['reward_mean']:.2f}  length {length:.0f}  cut {cut:.0%}"
        self._journal.write(record, line, own={"host_memory_bytes": resident_bytes()}, store_first=store_rollouts)
        self._exporter.observe("completion_tokens", [len(c.token_ids) for group in groups for c in group])

    def flush(self) -> None:
        """Returns when all steps are stored; raises what kept one from it."""
        self._journal.flush()


def rollout_lines(batch: Sequence[Row], groups: Sequence[Sequence[Reply]], grades: Sequence[Grade]) -> str:
    """One JSON line per completion: prompt id, sample, tokens, finish reason and reward parts; enough to replay it."""
    marks = iter(grades)
    lines = []
    for row, group in zip(batch, groups, strict=True):
        for sample, completion in enumerate(group):
            grade = next(marks)
            line = {
                "prompt_id": row.id,
                "sample": sample,
                "text": completion.text,
                "token_ids": completion.token_ids.tolist(),
                "finish_reason": completion.finish_reason,
                "reward": grade.overall,
                "format": grade.format,
                "accuracy": grade.accuracy,
                "answer": grade.answer,
                "reason": grade.reason,
            }
            lines.append(json.dumps(line, ensure_ascii=False))
    return "\n".join(lines) + "\n"
