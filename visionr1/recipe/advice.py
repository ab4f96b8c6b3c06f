"""Warnings about values that a recipe may have, but that are rarely meant."""

from __future__ import annotations

import re
from typing import Final

from visionr1.recipe.schema import Recipe

_SOURCES_OF_RL_SET: Final = ("We-Math", "MathVision", "Polymath", "SceMQA", "Geometry3K")
"""The benchmarks that Vision-R1-rl was made from (section 4.1)."""


def warnings(recipe: Recipe) -> list[str]:
    """One line per choice that differs from the method. None of them stops a run."""
    return [*_stage_warnings(recipe), *_data_warnings(recipe), *_sampling_warnings(recipe)]


def amounts(recipe: Recipe) -> list[str]:
    """One line per phase that trains: how many steps and updates it makes, as far as a recipe shows without its data."""
    lines = []
    sft, updates = recipe.sft, recipe.algorithm.updates_per_batch
    if sft is not None:
        limit = "" if sft.max_steps is None else f", at most {sft.max_steps} steps"
        lines.append(f"SFT: {sft.epochs:g} epochs in steps of {sft.global_batch_size} samples{limit}")
    for number, stage in enumerate(recipe.stages, start=1):
        steps, problems = stage.steps, stage.steps * recipe.algorithm.prompts_per_step
        lines.append(
            f"stage {number}: {steps} steps of {recipe.algorithm.prompts_per_step} problems, {problems} in all, "
            f"{stage.group_size} completions each; {steps * updates} updates"
        )
    return lines


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
            f"stages: max_completion_tokens falls ({', '.join(map(str, lengths))}); PTST raises the limit from stage to stage"
        )
    if stages and stages[0].carry == "weights+optimizer":
        lines.append("stages.0.carry: weights+optimizer has no effect, because no stage comes before the first")
    return lines


def _data_warnings(recipe: Recipe) -> list[str]:
    held_out, train = recipe.data.held_out, recipe.data.train.path
    if held_out is None:
        if recipe.evaluation.benchmarks:
            return ["evaluation.benchmarks: not scored, because data.held_out is null and so no model is evaluated"]
        return []
    if held_out.path == train:
        return [f"data.held_out: {train} is also the training data, so the score says nothing about new problems"]
    return [
        f"data.held_out: Vision-R1-rl contains problems of {benchmark}; do not score a model on it that was trained on that set"
        for benchmark in _SOURCES_OF_RL_SET
        if _names(held_out.path, benchmark) and not _names(train, benchmark)
    ]


def _names(path: str, benchmark: str) -> bool:
    """Whether a path has a benchmark's name in it, in any spelling (MathVision, math_vision, MATH-Vision)."""

    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9/]", "", text.lower())

    return letters(benchmark) in letters(path)


def _sampling_warnings(recipe: Recipe) -> list[str]:
    lines = []
    if recipe.stages and recipe.rollout.top_p != 1:
        lines.append(
            f"rollout.top_p: {recipe.rollout.top_p} biases the ratio of equation 1; with 1, the policy itself is sampled"
        )
    if recipe.stages and recipe.rollout.temperature != 1:
        lines.append(
            f"rollout.temperature: {recipe.rollout.temperature} samples from a distribution that is not the one in training"
        )
    if recipe.sft and recipe.model.system_prompt:
        lines.append(
            "model.system_prompt: set together with sft; the paper uses a system prompt only without a cold start (Zero)"
        )
    if recipe.algorithm.kl_beta == 0 and any(stage.reference == "previous_stage" for stage in recipe.stages):
        lines.append("stages: reference has no effect, because algorithm.kl_beta is 0 and no reference model is loaded")
    return lines
