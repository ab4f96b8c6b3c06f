"""Numbers that pods have written, and what those of a stage are measured by. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ptst_operator.run import WantedRun


def number(value: Any) -> float | None:
    """What a pod has written, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer that no float can hold
        return None


@dataclass(frozen=True)
class StageScale:
    """What a stage's numbers are measured by: its global steps (after the first, to the last), completions of a step, workers."""

    first_step: int
    last_step: int
    completions: int
    workers: int

    def speed(self, length: float | None, seconds: float) -> float | None:
        """Completion tokens per second and worker, of a step with this mean length that took so long."""
        return number(length * self.completions / seconds / self.workers) if length is not None and seconds > 0 else None


def scale_of(wanted: WantedRun, phase: str) -> StageScale:
    """The scale of the stage that has this phase's name."""
    recipe = wanted.run.recipe
    index, first = next((one.stage_index, one.first_step) for one in wanted.chain if one.name == phase)
    assert index is not None, f"{phase} is no stage"
    stage = recipe.stages[index]
    completions = recipe.algorithm.prompts_per_step * stage.group_size
    return StageScale(first, first + stage.steps, completions, recipe.rollout.workers)
