"""Small pure decisions of a step."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise
from typing import TypeVar

from visionr1.recipe.phases import StagePhase
from visionr1.recipe.schema import Checkpoint, Optimiser, Recipe

T = TypeVar("T")


def learning_rate(optimiser: Optimiser, stage_step: int) -> float:
    """Constant after a linear warm-up; `stage_step` counts from 1 in each stage."""
    if stage_step <= optimiser.warmup_steps:
        return optimiser.learning_rate * stage_step / (optimiser.warmup_steps + 1)
    return optimiser.learning_rate


def checkpoint_due(step: int, first_step: int, last_step: int, checkpoint: Checkpoint) -> bool:
    """Every `checkpoint.every` steps of the stage, and at its end; steps are global."""
    return step == last_step or (step - first_step) % checkpoint.every == 0


def probe_due(stage_step: int, every: int) -> bool:
    """The stage's first step and every `every`-th after it; `stage_step` counts from 1 in each stage."""
    return (stage_step - 1) % every == 0


def split_evenly(batch: list[T], parts: int) -> list[list[T]]:
    """As many parts as asked for, in order; their sizes differ by 1 at most. Each has something if `batch` is long enough."""
    borders = [len(batch) * part // parts for part in range(parts + 1)]
    return [batch[start:end] for start, end in pairwise(borders)]


def what_is_made(recipe: Recipe, phase: StagePhase, problems: int) -> str:
    """One line for people: how many steps, problems and updates a stage has."""
    steps, per_step, updates = phase.stage.steps, recipe.algorithm.prompts_per_step, recipe.algorithm.updates_per_batch
    drawn = steps * per_step
    return (
        f"{phase.title}: {steps} steps of {per_step} of {problems} problems, {drawn} in all ({drawn / problems:.4g} epochs), "
        f"{phase.stage.group_size} completions each; {steps * updates} updates"
    )


def request_seed(run_seed: int, step: int, place: int) -> int:
    """31-bit sampling seed of the group at `place` (from 0) in the batch of a global step.

    It names the draw and not the row: a row that a step draws twice gets two groups that differ. A resumed step draws the same
    rows in the same places, so it samples what it would have sampled, with any number of workers.
    """
    digest = blake2b(f"{run_seed}/{step}/{place}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
