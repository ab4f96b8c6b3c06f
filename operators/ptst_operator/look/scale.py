"""The numbers of a stage's step, and the sizes that its speed is computed from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ptst_operator.run import WantedRun
from ptst_operator.world import Progress
from visionr1.recipe import stage_phases
from visionr1.rundir.reading import number

_LONGEST_STEP: Final = 366 * 86_400.0
"""Seconds. No step takes longer."""


@dataclass(frozen=True)
class StageScale:
    """A stage's global steps (after `first_step`, up to `last_step`), completions per step, and workers."""

    first_step: int
    last_step: int
    completions: int
    workers: float

    def progress(self, step: int | None, values: Mapping[str, Any], parts: Iterable[Any]) -> Progress:
        """A step's numbers, from values by their names and the seconds of its parts, of which nothing is trusted."""
        seconds = sum(one for one in map(number, parts) if one is not None)
        length = number(values.get("completion_tokens_mean"))
        known = 0 < seconds <= _LONGEST_STEP
        return Progress(
            step=step,
            reward=number(values.get("reward_mean")),
            length=length,
            tokens_per_second=self.speed(length, seconds) if known else None,
            truncated=number(values.get("completion_truncated_ratio")),
            kl=number(values.get("kl_mean")),
            step_seconds=seconds if known else None,
        )

    def speed(self, length: float | None, seconds: float) -> float | None:
        """Completion tokens per second and worker, for a step with this mean length and duration in seconds."""
        return number(length * self.completions / seconds / self.workers) if length is not None and seconds > 0 else None


def scale_of(wanted: WantedRun, phase: str, workers: float | None) -> StageScale:
    """The scale of the stage that has this phase's name.

    Args:
        workers: those that have trained. None: as many as the recipe asks for.
    """
    recipe = wanted.run.recipe
    found = next(one for one in stage_phases(recipe) if one.name == phase)
    completions = recipe.algorithm.prompts_per_step * found.stage.group_size
    return StageScale(found.first_step, found.last_step, completions, workers or recipe.rollout.workers)
