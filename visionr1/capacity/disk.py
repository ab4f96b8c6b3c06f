"""Bytes in the run directory and over the network to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from visionr1.capacity.model import ModelSizes
from visionr1.capacity.phases import PhasePlan
from visionr1.recipe.phases import Phase, StagePhase
from visionr1.recipe.schema import Recipe
from visionr1.rundir.retention import kept

ROLLOUT_BYTES: Final = 5.0
"""Bytes of a completion token in rollouts/: text and id as JSON, compressed; an estimate."""
STATE_BYTES: Final = 12
"""Float32 master weight and AdamW's two moments of a parameter."""


@dataclass(frozen=True)
class Disk:
    """Bytes of a whole run.

    Attributes:
        directory: what the run directory holds at the end.
        written, read: what goes to it and comes from it; with s3://, the traffic.
    """

    directory: float
    written: float
    read: float


def disk_of(recipe: Recipe, model: ModelSizes, phases: list[tuple[Phase, PhasePlan]], completions: dict[str, float]) -> Disk:
    """What a run needs; `completions` are the tokens that a phase samples in all."""
    element = 2 if recipe.model.dtype == "bfloat16" else 4
    weights = float(element * model.parameters)
    directory = written = read = 0.0
    for phase, plan in phases:
        if phase.kind in ("sft", "grpo"):
            size = weights + STATE_BYTES * model.trained(vision=_vision_trained(recipe, phase))
            steps = _saved_steps(recipe, phase, plan.steps)
            directory += size * len(_kept(recipe, phase, steps))
            written += size * len(steps)
        read += _reads(recipe, phase, plan) * weights
        sampled = ROLLOUT_BYTES * completions.get(phase.name, 0.0) if recipe.metrics.save_rollouts else 0.0
        directory, written = directory + sampled, written + sampled
    return Disk(directory, written, read)


def _reads(recipe: Recipe, phase: Phase, plan: PhasePlan) -> int:
    """Whole models of the run that a phase reads: each node of a stage its policy and its reference, an evaluation each model.

    A model that is `model.base` comes from elsewhere.
    """
    if isinstance(phase, StagePhase):
        trained = recipe.sft is not None or phase.stage.reference == "previous_stage"
        return plan.nodes * (1 + (recipe.algorithm.kl_beta > 0 and trained)) if phase.input_phase else 0
    return plan.steps if phase.kind == "evaluate" else 0


def _vision_trained(recipe: Recipe, phase: Phase) -> bool:
    frozen = recipe.sft.freeze_vision_tower if phase.kind == "sft" and recipe.sft else recipe.optimiser.freeze_vision_tower
    return not frozen


def _saved_steps(recipe: Recipe, phase: Phase, steps: int) -> list[int]:
    every = recipe.sft.checkpoint_every if phase.kind == "sft" and recipe.sft else recipe.checkpoint.every
    return sorted({*range(every, steps + 1, every), steps})


def _kept(recipe: Recipe, phase: Phase, steps: list[int]) -> set[int]:
    end = steps[-1] if isinstance(phase, StagePhase) else None
    return kept(steps, recipe.checkpoint.keep_last, end, recipe.checkpoint.keep_stage_end)
