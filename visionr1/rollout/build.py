"""The rollout engine that a recipe asks for."""

from __future__ import annotations

from pathlib import Path

from visionr1.model.chat import PromptBuilder
from visionr1.model.device import device_of
from visionr1.recipe.schema import Recipe
from visionr1.rollout.hf import HfEngine
from visionr1.rollout.types import RolloutEngine


def build_engine(
    model_dir: Path,
    recipe: Recipe,
    builder: PromptBuilder,
    *,
    max_model_len: int,
    gpu_share: float,
    tensor_parallel: int = 1,
    distributed: bool = False,
) -> RolloutEngine:
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
        device=device_of(recipe),
        max_model_len=max_model_len,
        gpu_share=gpu_share,
        banned_token_ids=builder.banned_token_ids,
        eos_token_ids=builder.eos_token_ids,
        tensor_parallel=tensor_parallel,
        distributed=distributed,
    )
