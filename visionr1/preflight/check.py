"""The look before phase 1. `visionr1 recipe check --deep` and `visionr1 run` share it; the operator takes what a recipe shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from visionr1.capacity.model import model_sizes
from visionr1.errors import BadInput
from visionr1.preflight.base import read_config
from visionr1.preflight.files import file_faults
from visionr1.preflight.lengths import cache_faults, context_tokens, length_faults
from visionr1.preflight.machine import has_gpu, ray_address_fault, ray_folder_fault
from visionr1.preflight.tokenizer import check_tokenizer, read_vocabulary
from visionr1.preflight.weights import check_weights
from visionr1.recipe.phases import Phase
from visionr1.recipe.schema import Recipe


def reads_base(recipe: Recipe, chain: Sequence[Phase]) -> bool:
    """Whether one of the phases starts from `model.base`."""
    return any(phase.kind == "sft" or (recipe.sft is None and phase.kind != "coldstart") for phase in chain)


def recipe_faults(recipe: Recipe, chain: Sequence[Phase]) -> list[str]:
    """Phases that would work for nothing: what is wrong without looking at any machine."""
    if not any(phase.kind == "coldstart" for phase in chain):
        return []
    if recipe.sft is None:
        return ["coldstart: nobody reads what it writes, because sft is null: set coldstart to null, or add an sft section"]
    if recipe.sft.data is not None:
        return [
            f"coldstart: nobody reads what it writes, because sft.data is {recipe.sft.data.path}: set coldstart to null, or "
            "sft.data to null"
        ]
    return []


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


def check_run(recipe: Recipe, chain: Sequence[Phase], base: Path | None) -> None:
    """Looks at everything that the phases in `chain`, those that are not done yet, need and that can be seen without a GPU.

    Args:
        base: folder of `model.base`; None if it is not on this machine, or no phase reads it.

    Raises:
        BadInput: one line for each fault.
        StorageError: S3 cannot be reached now.
    """
    lines = recipe_faults(recipe, chain) + file_faults(recipe, chain) + machine_faults(chain)
    if base is not None:
        lines += model_faults(recipe, chain, base)
    if lines:
        raise BadInput("\n".join(lines))
