"""The recipe in a run directory, and which of its values may still change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Final

from visionr1.errors import BadInput
from visionr1.recipe import Recipe, parse_recipe, stage_name, to_yaml
from visionr1.rundir.layout import RECIPE, decided_recipe_key, phase_folders, phase_of
from visionr1.rundir.reading import read_file
from visionr1.storage import NotFound, Store

MAY_CHANGE: Final = frozenset(
    {
        "preflight",
        "model.attention",
        "model.gradient_checkpointing",
        "coldstart.concurrency",
        "coldstart.retries",
        "coldstart.describer.base_url",
        "coldstart.describer.api_key_env",
        "coldstart.reasoner.base_url",
        "coldstart.reasoner.api_key_env",
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


def read_recipe(store: Store, sha256: str | None = None) -> Recipe:
    """The recipe of a run directory, or the one with this SHA-256 that the operator has decided on.

    Whoever can write to the run directory can write its recipe.yaml. A process that is given the hash does what the operator
    decided, or nothing.

    Raises:
        BadInput: there is none, it is not one, or it has another SHA-256.
    """
    key = RECIPE if sha256 is None else decided_recipe_key(sha256)
    try:
        data = read_file(store, key)
    except NotFound:
        advice = "so this is not a run directory; start a run with visionr1 run" if sha256 is None else "though it was decided on"
        raise BadInput(f"{store.url}: there is no {key}, {advice}") from None
    if sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise BadInput(f"{store.url}/{key}: somebody has changed it: its SHA-256 is not its name; find out who writes there")
    return parse_recipe(data.decode(errors="replace"), f"{store.url}/{key}")


def decided_recipe(recipe: Recipe) -> tuple[str, bytes]:
    """SHA-256 and bytes of a recipe as `keep_decided` stores it."""
    data = recipe.model_dump_json().encode()
    return hashlib.sha256(data).hexdigest(), data


def keep_decided(store: Store, recipe: Recipe) -> None:
    """Store a recipe under its SHA-256, for `read_recipe`, unless it is there unchanged."""
    sha256, data = decided_recipe(recipe)
    key = decided_recipe_key(sha256)
    with suppress(NotFound, BadInput):  # whatever lies there instead is replaced
        if read_file(store, key) == data:
            return
    store.write_bytes(key, data)


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
            advice = "continue with its own recipe (visionr1 run --run DIR), or start a new run directory"
            raise BadInput("\n".join([f"{store.url} is a run of another recipe; {advice}:", *(f"  {line}" for line in lines)]))
    store.write_bytes(RECIPE, to_yaml(recipe).encode())


def difference(old: Recipe, new: Recipe, begun: Collection[str]) -> list[str]:
    """One line for each value of a run that may not change any more.

    Stages that are not in `begun` (names such as stage-1) may be changed, added and left out. What MAY_CHANGE lists and a stage's
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
