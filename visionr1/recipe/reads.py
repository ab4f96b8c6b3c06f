"""Which values of a recipe each phase reads. What a run may still change follows from it, and which scores belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, Literal

from visionr1.recipe.schema import Recipe

PhaseKind = Literal["coldstart", "sft", "grpo", "evaluate"]

READS: Final[dict[PhaseKind, tuple[str, ...]]] = {
    "coldstart": ("name", "coldstart", "model.min_pixels", "model.max_pixels", "reward.seconds_per_answer"),
    "sft": ("name", "seed", "model", "sft", "rollout.device"),
    "grpo": (
        "name",
        "seed",
        "model",
        "data.train",
        "data.max_prompt_tokens",
        "algorithm",
        "optimiser",
        "rollout",
        "reward",
    ),
    "evaluate": (
        "seed",
        "model",
        "data.held_out",
        "data.max_prompt_tokens",
        "rollout.engine",
        "rollout.device",
        "reward",
        "evaluation",
    ),
}
"""Paths of values, or of groups of values, that a phase of each kind reads; a stage also reads its own part of `stages`."""
_COMES_AFTER: Final[dict[str, tuple[PhaseKind, ...]]] = {"coldstart": ("coldstart", "sft", "grpo"), "sft": ("sft", "grpo")}
"""Sections that may be null, and the phases that begin otherwise if one appears or goes."""

MAY_CHANGE: Final = frozenset(
    {
        "preflight",
        "model.attention",
        "model.gradient_checkpointing",
        "coldstart.concurrency",
        "coldstart.retries",
        "coldstart.patience_seconds",
        "coldstart.first_byte_seconds",
        "coldstart.read_seconds",
        "coldstart.total_seconds",
        "coldstart.describer.base_url",
        "coldstart.describer.api_key_env",
        "coldstart.describer.endpoints",
        "coldstart.describer.workers",
        "coldstart.describer.prompt_price",
        "coldstart.describer.reply_price",
        "coldstart.reasoner.base_url",
        "coldstart.reasoner.api_key_env",
        "coldstart.reasoner.endpoints",
        "coldstart.reasoner.workers",
        "coldstart.reasoner.prompt_price",
        "coldstart.reasoner.reply_price",
        "sft.micro_batch_tokens",
        "sft.zero_stage",
        "sft.processes",
        "sft.checkpoint_every",
        "algorithm.reference_device",
        "optimiser.zero_stage",
        "optimiser.micro_batch_tokens",
        "evaluation.workers",
        "evaluation.requests.concurrency",
        "evaluation.requests.retries",
        "evaluation.requests.patience_seconds",
        "evaluation.requests.first_byte_seconds",
        "evaluation.requests.read_seconds",
        "evaluation.requests.total_seconds",
        "evaluation.judge.base_url",
        "evaluation.judge.api_key_env",
        "evaluation.judge.endpoints",
        "evaluation.judge.prompt_price",
        "evaluation.judge.reply_price",
        "rollout.workers",
        "rollout.gpu_memory_utilization",
        "rollout.cpu_kv_cache_gib",
        "rollout.max_sequences",
        "rollout.mismatch_limit",
        "rollout.parity_every",
        "reward.processes",
        "checkpoint.every",
        "checkpoint.keep_last",
        "checkpoint.keep_stage_end",
        "metrics.enabled",
        "metrics.host",
        "metrics.port",
        "metrics.save_rollouts",
    }
)
"""How a run is carried out: how many processes, where, in how much memory, what is kept. None of them changes which rows are
drawn, what they are trained for or how they are scored (but for the last bits, where sums are taken in another order), so a run
that lost a node may go on with fewer workers."""


@lru_cache(maxsize=8192)  # the operator asks for every value of each run, at each look
def reads(kind: PhaseKind, stage: int | None, path: str) -> bool:
    """Whether what a phase makes depends on the value at `path` (`model.base`, `stages.0.steps`).

    Args:
        stage: number of the phase's stage, from 1; None for a phase that is no stage.
    """
    if any(_within(path, one) for one in MAY_CHANGE) or (_within(path, "stages") and path.endswith(".tensor_parallel")):
        return False
    if path in _COMES_AFTER:
        return kind in _COMES_AFTER[path]
    own = () if stage is None else (f"stages.{stage - 1}",)
    return any(_within(path, part) for part in (*READS[kind], *own))


def values(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe by its path. A group that is null is one value, and so is the list of stages."""
    return dict(_leaves(recipe.model_dump(mode="json"), ""))


@lru_cache(maxsize=512)  # the operator asks for them several times at each look
def evaluation_settings(recipe: Recipe) -> str:
    """The values that a score depends on, but for the model that it is of: a JSON object by path. Equal means comparable."""
    settings = {path: value for path, value in values(recipe).items() if reads("evaluate", None, path)}
    return json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _within(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}.")
