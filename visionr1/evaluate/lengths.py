"""Whether an evaluation's lengths go into a model, and cutting them to what does."""

from __future__ import annotations

import sys
from pathlib import Path

from visionr1.capacity.model import model_sizes
from visionr1.preflight.base import read_config
from visionr1.preflight.lengths import cache_faults, context_tokens, length_faults
from visionr1.preflight.machine import has_gpu
from visionr1.recipe import Phase, Recipe
from visionr1.recipe.phases import EVALUATE_PHASE


def fitted(recipe: Recipe, context: int | None) -> Recipe:
    """The recipe with the evaluation's lengths cut to a model's context, in tokens; prompts may need half of it."""
    prompt, completion = recipe.data.max_prompt_tokens, recipe.evaluation.max_completion_tokens
    if context is None or prompt + completion <= context:
        return recipe
    completion = min(completion, max(context // 2, context - prompt))
    prompt = min(prompt, context - completion)
    print(
        f"note: the model takes {context} tokens, so prompts have at most {prompt} and completions {completion}, not "
        f"{recipe.data.max_prompt_tokens} and {recipe.evaluation.max_completion_tokens}",
        file=sys.stderr,
    )
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"max_prompt_tokens": prompt}),
            "evaluation": recipe.evaluation.model_copy(update={"max_completion_tokens": completion}),
        }
    )


def evaluation_faults(recipe: Recipe, folder: Path) -> list[str]:
    """Lengths that the model in `folder`, or the KV cache on a CPU, does not take."""
    config = read_config(folder)
    chain = [Phase(EVALUATE_PHASE, "evaluate")]
    lines = length_faults(recipe, chain, context_tokens(config))
    return lines if recipe.rollout.on_gpu(has_gpu()) else lines + cache_faults(recipe, chain, model_sizes(config))
