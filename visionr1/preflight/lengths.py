"""Do prompts and completions fit into the model's context, and one sequence into the KV cache?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from visionr1.capacity.model import ModelSizes
from visionr1.recipe.phases import Phase, StagePhase
from visionr1.recipe.schema import SFT, Recipe

_CACHE_BLOCK: Final = 128
"""Tokens of a block of vLLM's KV cache on a CPU; a sequence takes whole blocks."""


def context_tokens(config: Mapping[str, Any]) -> int | None:
    """The longest sequence that the model of a config.json takes, in tokens; None where it does not say."""
    longest = config.get("text_config", config).get("max_position_embeddings")
    return longest if isinstance(longest, int) and longest > 0 else None


def longest_sequences(recipe: Recipe, chain: Sequence[Phase]) -> list[tuple[str, str, int]]:
    """For each phase that samples: its name for people, the keys that make its longest sequence, and that in tokens."""
    prompt = recipe.data.max_prompt_tokens
    found = []
    for phase in chain:
        if isinstance(phase, StagePhase):
            key = f"stages.{phase.number - 1}.max_completion_tokens"
            found.append((phase.title, f"data.max_prompt_tokens + {key}", prompt + phase.stage.max_completion_tokens))
        elif phase.kind == "evaluate":
            key = "evaluation.max_completion_tokens"
            found.append(("the evaluation", f"data.max_prompt_tokens + {key}", prompt + recipe.evaluation.max_completion_tokens))
    return found


def length_faults(recipe: Recipe, chain: Sequence[Phase], context: int | None) -> list[str]:
    """One line for each phase whose longest sequence is beyond the model's context."""
    if context is None:
        return []
    return [
        f"{keys}: {title} may need {tokens} tokens, and the model takes {context}: lower them"
        for title, keys, tokens in longest_sequences(recipe, chain)
        if tokens > context
    ]


def sft_cutoff(sft: SFT, context: int | None) -> int:
    """The longest sample that SFT can train on, in tokens: longer ones are left out."""
    return sft.cutoff_tokens if context is None else min(sft.cutoff_tokens, context)


def cutoff_note(recipe: Recipe, chain: Sequence[Phase], context: int | None) -> str | None:
    """A line if the model cannot take the longest sample that the recipe allows."""
    if recipe.sft is None or not any(phase.kind == "sft" for phase in chain):
        return None
    cutoff = sft_cutoff(recipe.sft, context)
    if cutoff == recipe.sft.cutoff_tokens:
        return None
    return f"sft.cutoff_tokens: the model takes {cutoff} tokens, so samples that are longer are left out"


def cache_faults(recipe: Recipe, chain: Sequence[Phase], model: ModelSizes) -> list[str]:
    """One line if the KV cache of a vLLM engine on a CPU cannot hold the longest sequence."""
    if recipe.rollout.engine != "vllm":
        return []
    token_bytes = 2 * model.layers * model.keys * (2 if recipe.model.dtype == "bfloat16" else 4)
    room = recipe.rollout.cpu_kv_cache_gib * 2**30
    for title, keys, tokens in sorted(longest_sequences(recipe, chain), key=lambda one: -one[2]):
        needed = math.ceil(tokens / _CACHE_BLOCK) * _CACHE_BLOCK * token_bytes
        if needed > room:
            return [
                f"rollout.cpu_kv_cache_gib: {recipe.rollout.cpu_kv_cache_gib} GiB hold {int(room // token_bytes)} tokens, and a "
                f"sequence of {title} may have {tokens} ({keys}): set it to {math.ceil(needed / 2**30 * 100) / 100} or more"
            ]
    return []
