"""What is allowed in a recipe but seldom meant."""

from __future__ import annotations

import re
from typing import Final

from visionr1.recipe.schema import Recipe

_SOURCES_OF_RL_SET: Final = ("We-Math", "MathVision", "Polymath", "SceMQA", "Geometry3K")
"""The benchmarks that Vision-R1-rl was made from (section 4.1)."""


def warnings(recipe: Recipe) -> list[str]:
    """One line for each choice that departs from the method; none of them stops a run."""
    return [*_stage_warnings(recipe), *_data_warnings(recipe), *_sampling_warnings(recipe)]


def _stage_warnings(recipe: Recipe) -> list[str]:
    lines = []
    stages = recipe.stages
    budgets = [stage.max_completion_tokens * stage.group_size for stage in stages]
    if len(set(budgets)) > 1:
        lines.append(
            f"stages: max_completion_tokens x group_size is {', '.join(map(str, budgets))}; the paper's stages keep it "
            "constant, so that every stage costs the same (its ablations do not)"
        )
    lengths = [stage.max_completion_tokens for stage in stages]
    if lengths != sorted(lengths):
        lines.append(
            f"stages: max_completion_tokens falls ({', '.join(map(str, lengths))}); PTST relaxes the limit from stage to stage"
        )
    if stages and stages[0].carry == "weights+optimizer":
        lines.append("stages.0.carry: weights+optimizer has no effect, the first stage has no stage before it")
    return lines


def _data_warnings(recipe: Recipe) -> list[str]:
    held_out, train = recipe.data.held_out, recipe.data.train.path
    if held_out is None:
        return []
    if held_out.path == train:
        return [f"data.held_out: {train} is also the training data; its score says nothing about new problems"]
    return [
        f"data.held_out: Vision-R1-rl was made from {benchmark}, among others; do not score a model trained on that set on it"
        for benchmark in _SOURCES_OF_RL_SET
        if _names(held_out.path, benchmark) and not _names(train, benchmark)
    ]


def _names(path: str, benchmark: str) -> bool:
    """Whether a path holds a benchmark's name, however it is spelled (MathVision, math_vision, MATH-Vision)."""

    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9/]", "", text.lower())

    return letters(benchmark) in letters(path)


def _sampling_warnings(recipe: Recipe) -> list[str]:
    lines = []
    if recipe.stages and recipe.rollout.top_p != 1:
        lines.append(f"rollout.top_p: {recipe.rollout.top_p} biases the ratio of equation 1; only 1 samples the policy itself")
    if recipe.stages and recipe.rollout.temperature != 1:
        lines.append(
            f"rollout.temperature: {recipe.rollout.temperature} samples from another distribution than the one that is trained"
        )
    if recipe.sft and recipe.model.system_prompt:
        lines.append("model.system_prompt: set together with sft; the paper has a system prompt only without cold start (Zero)")
    if recipe.algorithm.kl_beta == 0 and any(stage.reference == "previous_stage" for stage in recipe.stages):
        lines.append("stages: reference has no effect, algorithm.kl_beta is 0 and keeps no reference model")
    return lines
