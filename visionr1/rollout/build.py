"""The rollout engine that a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from visionr1.model.chat import PromptBuilder
from visionr1.recipe.schema import Recipe
from visionr1.rollout.hf import HfEngine

if TYPE_CHECKING:
    from visionr1.rollout.vllm import VllmEngine


def device_of(recipe: Recipe) -> torch.device:
    """Where this process computes: the GPU that it sees, or the CPU."""
    cuda = recipe.rollout.device == "cuda" or (recipe.rollout.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def build_engine(
    model_dir: Path,
    recipe: Recipe,
    builder: PromptBuilder,
    *,
    max_model_len: int,
    tensor_parallel: int = 1,
    distributed: bool = False,
) -> VllmEngine | HfEngine:
    """The engine; the arguments are VllmEngine's.

    Raises:
        BadInput: vLLM is asked for and not installed.
    """
    if recipe.rollout.engine == "hf":
        return HfEngine(model_dir, recipe, builder=builder, device=device_of(recipe))
    from visionr1.rollout.vllm import VllmEngine

    return VllmEngine(
        model_dir,
        recipe,
        max_model_len=max_model_len,
        banned_token_ids=builder.banned_token_ids,
        eos_token_ids=builder.eos_token_ids,
        tensor_parallel=tensor_parallel,
        distributed=distributed,
    )
