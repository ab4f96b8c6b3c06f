"""Where a stage starts: pure decisions over what is committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from visionr1.errors import BadInput
from visionr1.recipe.phases import SFT_PHASE, StagePhase
from visionr1.recipe.schema import Recipe


@dataclass(frozen=True)
class Weights:
    """A committed checkpoint, or `model.base` when `phase` is None."""

    phase: str | None
    step: int


BASE = Weights(None, 0)


@dataclass(frozen=True, kw_only=True)
class StageStart:
    """How a stage (or its resumption) begins.

    Attributes:
        policy: weights of the policy.
        reference: weights that the KL term measures from.
        restore_trainer: whether master weights and moments come from `policy`'s checkpoint, too.
        step: global step already done.
        sampler: position in the data, None for its beginning.
        lengths: mean completion tokens by prompt, as far as they are known; see `visionr1.grpo.lengths`.
    """

    policy: Weights
    reference: Weights
    restore_trainer: bool
    step: int
    sampler: Mapping[str, Any] | None
    lengths: Mapping[str, float]


def stage_start(
    recipe: Recipe, phase: StagePhase, latest: Callable[[str], int | None], state: Callable[[str, int], Mapping[str, Any]]
) -> StageStart:
    """Decides from the last committed checkpoint of this phase. Without one, from the last one of the phase before.

    Args:
        latest: last committed step of a phase, or None.
        state: what a checkpoint was committed with.

    Raises:
        BadInput: the phase before has committed nothing.
    """
    before = _last(phase.input_phase, latest)
    initial = BASE if recipe.sft is None else _last(SFT_PHASE, latest)
    reference = before if phase.stage.reference == "previous_stage" else initial
    own = latest(phase.name)
    if own is not None:
        committed = state(phase.name, own)
        return StageStart(
            policy=Weights(phase.name, own),
            reference=reference,
            restore_trainer=True,
            step=own,
            sampler=committed["sampler"],
            lengths=committed.get("lengths", {}),
        )
    earlier_stage = phase.number > 1
    committed = state(str(before.phase), before.step) if earlier_stage else {}
    carry = earlier_stage and phase.stage.carry == "weights+optimizer"
    return StageStart(
        policy=before,
        reference=reference,
        restore_trainer=carry,
        step=phase.first_step,
        sampler=committed.get("sampler"),
        lengths=committed.get("lengths", {}),
    )


def _last(phase: str | None, latest: Callable[[str], int | None]) -> Weights:
    if phase is None:
        return BASE
    step = latest(phase)
    if step is None:
        raise BadInput(
            f"phase {phase} has no committed checkpoint yet: run that phase first (visionr1 run does all phases in order)"
        )
    return Weights(phase, step)
