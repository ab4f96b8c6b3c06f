"""The phases that a recipe asks for, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionr1.errors import BadInput
from visionr1.recipe.schema import Recipe

PhaseKind = Literal["coldstart", "sft", "grpo", "evaluate"]


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
    stage_index: int | None = None
    first_step: int = 0

    @property
    def title(self) -> str:
        """Its name for people: `stage 1` for `stage-1`."""
        return self.name if self.stage_index is None else f"stage {self.stage_index + 1}"


def phases(recipe: Recipe) -> tuple[Phase, ...]:
    """Cold-start data, SFT, one phase a stage, evaluation: those that the recipe has."""
    chain: list[Phase] = []
    weights: str | None = None
    if recipe.coldstart is not None:
        chain.append(Phase("coldstart", "coldstart"))
    if recipe.sft is not None:
        chain.append(Phase("sft", "sft"))
        weights = "sft"
    first_step = 0
    for index, stage in enumerate(recipe.stages):
        chain.append(Phase(f"stage-{index + 1}", "grpo", weights, index, first_step))
        weights = f"stage-{index + 1}"
        first_step += stage.steps
    if recipe.data.held_out is not None:
        chain.append(Phase("evaluate", "evaluate", weights))
    return tuple(chain)


def phases_from(recipe: Recipe, name: str) -> tuple[Phase, ...]:
    """The phases from the named one on.

    Raises:
        BadInput: the recipe has no such phase.
    """
    chain = phases(recipe)
    names = [phase.name for phase in chain]
    if name not in names:
        raise BadInput(f"{name}: no phase of this run; it has {', '.join(names)}")
    return chain[names.index(name) :]
