"""The phases that a recipe asks for, in order. Only this module makes and recognises the names of phases."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from visionr1.errors import BadInput
from visionr1.recipe.reads import PhaseKind, evaluation_settings
from visionr1.recipe.schema import SFT, Recipe, Stage

COLDSTART_PHASE: Final = "coldstart"
SFT_PHASE: Final = "sft"
EVALUATE_PHASE: Final = "evaluate"
BASE_MODEL: Final = "base"
"""Name of the untrained model, in scores, where others have the name of their phase."""
STAGE_PATTERN: Final = "stage-[1-9][0-9]?"
"""Regular expression of a stage's name, for schemas."""


@dataclass(frozen=True)
class Phase:
    """One process of a run, with its place in the chain of checkpoints.

    `name` is also the folder name: `coldstart`, `sft`, `stage-1`, ..., `evaluate`.
    `input_phase` is the phase whose last committed checkpoint this one starts from; None means
    `model.base`. `first_step` is the global step before the phase's first step (0 for all but
    later stages): stage 2 after 100 steps of stage 1 has 100.
    """

    name: str
    kind: PhaseKind
    input_phase: str | None = None
    first_step: int = 0

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class StagePhase(Phase):
    """The phase of one GRPO stage; `number` counts the recipe's stages from 1."""

    stage: Stage
    number: int

    @property
    def title(self) -> str:
        """Its name for people: `stage 1` for `stage-1`."""
        return f"stage {self.number}"

    @property
    def last_step(self) -> int:
        """Global step that ends the stage."""
        return self.first_step + self.stage.steps


@dataclass(frozen=True, kw_only=True)
class EvaluatePhase(Phase):
    """The phase of evaluation; `settings` are the values that its scores depend on (`recipe.reads`)."""

    settings: str


def phases(recipe: Recipe) -> tuple[Phase, ...]:
    """The phases that the recipe has, of cold-start data, SFT, one phase per stage, and evaluation."""
    stages = stage_phases(recipe)
    chain: list[Phase] = []
    if recipe.coldstart is not None:
        chain.append(Phase(COLDSTART_PHASE, "coldstart"))
    if recipe.sft is not None:
        chain.append(Phase(SFT_PHASE, "sft"))
    chain.extend(stages)
    if recipe.data.held_out is not None:
        before = stages[-1].name if stages else _before_stages(recipe)
        chain.append(EvaluatePhase(EVALUATE_PHASE, "evaluate", before, settings=evaluation_settings(recipe)))
    return tuple(chain)


def stage_phases(recipe: Recipe) -> tuple[StagePhase, ...]:
    """The phases of all GRPO stages, in order."""
    found = []
    before, first_step = _before_stages(recipe), 0
    for number, stage in enumerate(recipe.stages, start=1):
        phase = StagePhase(stage_name(number), "grpo", before, first_step, stage=stage, number=number)
        found.append(phase)
        before, first_step = phase.name, phase.last_step
    return tuple(found)


def _before_stages(recipe: Recipe) -> str | None:
    return None if recipe.sft is None else SFT_PHASE


def stage_phase(recipe: Recipe, number: int) -> StagePhase:
    """The phase of stage `number`, from 1.

    Raises:
        BadInput: the recipe has no such stage.
    """
    stages = stage_phases(recipe)
    if not 1 <= number <= len(stages):
        raise BadInput(f"stage {number}: the recipe has {len(stages)} stages; give a number from 1 to {len(stages)}")
    return stages[number - 1]


def sft_draws(sft: SFT, samples: int) -> int:
    """How many samples `epochs` passes over the data are, at least 1."""
    return max(1, round(sft.epochs * samples))


def sft_steps(sft: SFT, samples: int) -> int:
    """Optimiser steps of `epochs` passes, cut by `max_steps`. The last one may be smaller, so that no sample is left over."""
    steps = math.ceil(sft_draws(sft, samples) / sft.global_batch_size)
    return steps if sft.max_steps is None else min(steps, sft.max_steps)


def phases_from(recipe: Recipe, name: str) -> tuple[Phase, ...]:
    """The phases from the named one on.

    Raises:
        BadInput: the recipe has no such phase.
    """
    chain = phases(recipe)
    names = [phase.name for phase in chain]
    if name not in names:
        raise BadInput(f"{name}: not a phase of this run; it has {', '.join(names)}")
    return chain[names.index(name) :]


def stage_name(number: int) -> str:
    """Name of the phase of stage `number`, from 1."""
    return f"stage-{number}"


def stage_number(name: str) -> int | None:
    """The stage's number if this is the name of a stage's phase, else None."""
    found = re.fullmatch("stage-([1-9][0-9]*)", name)
    return int(found[1]) if found else None
