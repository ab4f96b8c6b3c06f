"""What a stage leaves behind for each step: a log record, metrics, the rollouts, a line on the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import zstandard

from visionr1.data.rows import Row
from visionr1.grpo.advantage import zero_signal_ratio
from visionr1.metrics.exporter import Exporter
from visionr1.metrics.steplog import StepLog
from visionr1.progress import Advance
from visionr1.recipe.phases import Phase
from visionr1.recipe.schema import Recipe
from visionr1.reward import Grade
from visionr1.rollout.types import Completion
from visionr1.storage import Background, Store
from visionr1.storage.layout import STEPS, rollouts_key


class Clock:
    """Seconds of each part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measures the block as `part` of the step, in seconds."""
        begun = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - begun


def step_record(
    phase: Phase,
    step: int,
    learning_rate: float,
    groups: Sequence[Sequence[Completion]],
    grades: Sequence[Grade],
    rewards_PG: np.ndarray,
    stats: dict[str, float],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The step's log record; its keys are the table's in `visionr1.metrics`."""
    completions = [completion for group in groups for completion in group]
    lengths = np.array([len(completion.token_ids) for completion in completions])
    return {
        "phase": phase.name,
        "stage": None if phase.stage_index is None else phase.stage_index + 1,
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
        "step_seconds": {part: round(value, 4) for part, value in seconds.items()},
        **stats,
    }


class Journal:
    """Writes each step to steps.jsonl, /metrics, rollouts/ in the run directory, and the terminal."""

    def __init__(self, recipe: Recipe, phase: Phase, store: Store, log: StepLog, exporter: Exporter, advance: Advance):
        self._recipe, self._phase, self._store, self._log, self._exporter = recipe, phase, store, log, exporter
        self._advance = advance
        self._storing = Background("journal")
        stage = recipe.stages[phase.stage_index or 0]
        exporter.update(
            {
                "phase": phase.name,
                "stage": (phase.stage_index or 0) + 1,
                "stage_first_step": phase.first_step,
                "stage_last_step": phase.first_step + stage.steps,
                "completion_tokens_limit": stage.max_completion_tokens,
                "host_memory_bytes": psutil.Process().memory_info().rss,
            }
        )

    def write(
        self,
        step: int,
        learning_rate: float,
        batch: Sequence[Row],
        groups: Sequence[Sequence[Completion]],
        grades: Sequence[Grade],
        rewards_PG: np.ndarray,
        stats: dict[str, float],
        clock: Clock,
    ) -> None:
        """Records one step everywhere. On S3 its objects are written while the next step runs; see `flush`.

        Raises:
            StorageError: the step before could not be stored, or a local disk cannot take this one.
        """
        record = step_record(self._phase, step, learning_rate, groups, grades, rewards_PG, stats, clock.seconds)
        rollouts = rollout_lines(batch, groups, grades).encode() if self._recipe.metrics.save_rollouts else None
        self._storing.start(lambda: self._keep(step, rollouts, record))
        if self._store.local_path(STEPS) is not None:
            self.flush()
        self._exporter.update(record | {"host_memory_bytes": psutil.Process().memory_info().rss})
        self._exporter.observe("completion_tokens", [len(c.token_ids) for group in groups for c in group])
        length, cut = record["completion_tokens_mean"], record["completion_truncated_ratio"]
        self._advance(1, f"reward {record['reward_mean']:.2f}  length {length:.0f}  cut {cut:.0%}")

    def flush(self) -> None:
        """Returns when all steps are stored; raises what kept one from it."""
        self._storing.wait()

    def _keep(self, step: int, rollouts: bytes | None, record: dict[str, Any]) -> None:
        if rollouts is not None:
            self._store.write_bytes(rollouts_key(self._phase.name, step), zstandard.compress(rollouts))
        self._log.append(record)


def rollout_lines(batch: Sequence[Row], groups: Sequence[Sequence[Completion]], grades: Sequence[Grade]) -> str:
    """One JSON line a completion: prompt id, sample, tokens, finish reason and reward parts; enough to replay it."""
    marks = iter(grades)
    lines = []
    for row, group in zip(batch, groups, strict=True):
        for sample, completion in enumerate(group):
            grade = next(marks)
            line = {
                "prompt_id": row.id,
                "sample": sample,
                "text": completion.text,
                "token_ids": completion.token_ids,
                "finish_reason": completion.finish_reason,
                "reward": grade.overall,
                "format": grade.format,
                "accuracy": grade.accuracy,
                "answer": grade.answer,
                "reason": grade.reason,
            }
            lines.append(json.dumps(line, ensure_ascii=False))
    return "\n".join(lines) + "\n"
