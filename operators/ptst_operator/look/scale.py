"""The sizes of a stage that its speed is computed from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ptst_operator.run import WantedRun
from visionr1.recipe import stage_phases
from visionr1.rundir.reading import number


@dataclass(frozen=True)
class StageScale:
    """A stage's global steps (after `first_step`, up to `last_step`), completions per step, and workers."""

    first_step: int
    last_step: int
    completions: int
    workers: float

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
