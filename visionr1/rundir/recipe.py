"""The recipe that a run directory holds, and which of its values may still change."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from visionr1.errors import BadInput
from visionr1.recipe import Recipe, parse_recipe, stage_name, to_yaml
from visionr1.rundir.layout import RECIPE, phase_folders, phase_of
from visionr1.rundir.reading import read_file
from visionr1.storage import NotFound, Store

MAY_CHANGE: Final = frozenset(
    {
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
        "coldstart.describer.prompt_price",
        "coldstart.describer.reply_price",
        "coldstart.reasoner.base_url",
        "coldstart.reasoner.api_key_env",
        "coldstart.reasoner.endpoints",
        "coldstart.reasoner.prompt_price",
        "coldstart.reasoner.reply_price",
        "sft.micro_batch_tokens",
        "sft.zero_stage",
        "sft.processes",
        "sft.checkpoint_every",
        "algorithm.reference_device",
        "optimiser.zero_stage",
        "optimiser.micro_batch_tokens",
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
that lost a node may go on with fewer workers. A value that is not listed here may not change."""


def read_recipe(store: Store) -> Recipe:
    """The recipe of a run directory. Raises BadInput if there is none, or it is not one."""
    try:
        text = read_file(store, RECIPE).decode(errors="replace")
    except NotFound:
        raise BadInput(
            f"{store.url}: there is no {RECIPE}, so this is not a run directory; start a run with visionr1 run"
        ) from None
    return parse_recipe(text, f"{store.url}/{RECIPE}")


def adopt_recipe(store: Store, recipe: Recipe, begun: Collection[str] = ()) -> None:
    """Write the run's recipe.yaml, or see that the one that is there allows this recipe.

    `begun` are phases that have begun though the directory does not show it yet.

    Raises BadInput with a line for each value in which a run that has begun would change.
    """
    if store.exists(RECIPE):
        before = read_recipe(store)
        if before == recipe:
            return
        seen = {phase_of(key) for folder in phase_folders() for key in store.list(folder)}
        lines = difference(before, recipe, seen | set(begun))
        if lines:
            advice = "go on with its own recipe (visionr1 run --run DIR), or start a new run directory"
            raise BadInput("\n".join([f"{store.url} is a run of another recipe; {advice}:", *(f"  {line}" for line in lines)]))
    store.write_bytes(RECIPE, to_yaml(recipe).encode())


def difference(old: Recipe, new: Recipe, begun: Collection[str]) -> list[str]:
    """One line for each value of a run that may not change any more.

    Stages whose name (stage-1, ...) is not in `begun` may be changed, added and left out, and what MAY_CHANGE lists and a stage's
    tensor_parallel may change at any time.
    """
    then, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    stages_then, stages_now = then.pop("stages"), now.pop("stages")
    lines = list(_differing(then, now, ""))
    for index, stage in enumerate(stages_then):
        if stage_name(index + 1) not in begun:
            continue
        if index >= len(stages_now):
            lines.append(f"stages.{index}: in the run, but not in this recipe")
            continue
        other = {**stages_now[index], "tensor_parallel": stage["tensor_parallel"]}
        lines.extend(_differing(stage, other, f"stages.{index}"))
    return lines


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            yield from _differing(old[key], new[key], f"{path}.{key}" if path else key)
    elif old != new and path not in MAY_CHANGE:
        yield f"{path}: {_shown(old)} in the run, {_shown(new)} in this recipe"


def _shown(value: Any) -> str:
    return "a group of values" if isinstance(value, dict) else json.dumps(value, ensure_ascii=False)
