"""The look before phase 1. `visionr1 recipe check --deep` and `visionr1 run` share it; the operator takes what a recipe shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from visionr1.capacity.model import model_sizes
from visionr1.errors import BadInput
from visionr1.preflight.base import read_config
from visionr1.preflight.files import file_faults
from visionr1.preflight.lengths import cache_faults, context_tokens, cutoff_note, length_faults
from visionr1.preflight.machine import has_gpu, port_note, ray_address_fault, ray_folder_fault
from visionr1.preflight.tokenizer import check_tokenizer, read_vocabulary
from visionr1.preflight.weights import check_weights
from visionr1.recipe.phases import Phase
from visionr1.recipe.schema import Recipe

BUILT_IN_REWARDS: Final = ("hfrrf", "zero")


def reads_base(recipe: Recipe, chain: Sequence[Phase]) -> bool:
    """Whether one of the phases starts from `model.base`."""
    return any(phase.kind == "sft" or (recipe.sft is None and phase.kind != "coldstart") for phase in chain)


def recipe_faults(recipe: Recipe, chain: Sequence[Phase]) -> list[str]:
    """What is wrong without looking at any machine: a phase that works for nobody, a reward that does not exist."""
    return [line for line in (_unread_phase(recipe, chain), reward_fault(recipe.reward.function)) if line]


def _unread_phase(recipe: Recipe, chain: Sequence[Phase]) -> str | None:
    if not any(phase.kind == "coldstart" for phase in chain):
        return None
    if recipe.sft is None:
        return "coldstart: nobody reads what it writes, because sft is null: set coldstart to null, or add an sft section"
    if recipe.sft.data is not None:
        because = f"sft.data is {recipe.sft.data.path}"
        return f"coldstart: nobody reads what it writes, because {because}: set coldstart to null, or sft.data to null"
    return None


def reward_fault(function: str) -> str | None:
    """What is wrong with `reward.function`, as far as its text shows; None if nothing is."""
    path, _, name = function.rpartition(":")
    if function in BUILT_IN_REWARDS or (path.endswith(".py") and name.isidentifier()):
        return None
    return f"reward.function {function!r} is not hfrrf, zero or path/file.py:function"


def notes(recipe: Recipe, chain: Sequence[Phase], base: Path | None) -> list[str]:
    """What will be done otherwise than the recipe says, one line each. Raises BadInput for a base without a config.json."""
    cutoff = None if base is None else cutoff_note(recipe, chain, context_tokens(read_config(base)))
    return [line for line in (port_note(recipe.metrics), cutoff) if line]


def model_faults(recipe: Recipe, chain: Sequence[Phase], base: Path) -> list[str]:
    """What is wrong with the base model, or too long for it."""
    try:
        check_weights(base)
        config = read_config(base)
        vocabulary = read_vocabulary(base)
        if vocabulary is not None:
            check_tokenizer(base, vocabulary, config)
    except BadInput as error:
        return [str(error)]
    lines = length_faults(recipe, chain, context_tokens(config))
    if not recipe.rollout.on_gpu(has_gpu()):
        lines += cache_faults(recipe, chain, model_sizes(config))
    return lines


def machine_faults(chain: Sequence[Phase]) -> list[str]:
    """What is wrong with this machine's settings."""
    if not any(phase.kind == "grpo" for phase in chain):
        return []
    return [line for line in (ray_folder_fault(os.environ), ray_address_fault(os.environ)) if line]


def check_run(recipe: Recipe, chain: Sequence[Phase], base: Path | None, *, machine: bool = True) -> None:
    """Looks at everything that the phases in `chain`, those that are not done yet, need and that can be seen without a GPU.

    Args:
        base: folder of `model.base`; None if it is not on this machine, or no phase reads it.
        machine: whether the phases will run on this very machine.

    Raises:
        BadInput: one line for each fault.
        StorageError: S3 cannot be reached now.
    """
    lines = recipe_faults(recipe, chain) + file_faults(recipe, chain) + (machine_faults(chain) if machine else [])
    if base is not None:
        lines += model_faults(recipe, chain, base)
    if lines:
        raise BadInput("\n".join(lines))
