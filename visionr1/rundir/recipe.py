"""The recipe in a run directory, and which of its values may still change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionr1.errors import BadInput
from visionr1.recipe import Recipe, parse_recipe, phases, to_yaml
from visionr1.recipe.phases import Phase, StagePhase
from visionr1.recipe.reads import evaluation_settings, reads
from visionr1.rundir.committed import has_committed
from visionr1.rundir.layout import RECIPE, decided_recipe_key
from visionr1.rundir.reading import read_file
from visionr1.rundir.scores import keep_apart
from visionr1.storage import NotFound, Store


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


def refuse_planted_reward(store: Store, recipe: Recipe) -> None:
    """A reward file in the run directory is never loaded: whoever can write there could run code in pods and on your machine.

    Raises:
        BadInput: the recipe's reward file lies there, itself or where a link leads.
    """
    folder, file = store.local_path(RECIPE), recipe.reward.file
    if folder is None or file is None:
        return
    inside = any(Path(way(file)).is_relative_to(way(folder.parent)) for way in (os.path.abspath, os.path.realpath))
    if inside:
        raise BadInput(
            f"reward.function: {file} lies in the run directory, where a file could be planted: copy it to a place of your own"
        )


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
    """Write the run's recipe.yaml, or see that what the run has done allows this recipe.

    `begun` are phases that may commit at any moment what they have made from the recipe that is there.

    Raises BadInput with a line for each value that a phase has used.
    """
    if store.exists(RECIPE):
        before = read_recipe(store)
        if before == recipe:
            return
        lines = difference(before, recipe, [phase.name for phase in phases(before) if has_committed(store, phase)], begun)
        if lines:
            advice = "continue with its own recipe (visionr1 run --run DIR), or start a new run directory"
            raise BadInput("\n".join([f"{store.url} is a run of another recipe; {advice}:", *(f"  {line}" for line in lines)]))
        if evaluation_settings(before) != evaluation_settings(recipe):
            keep_apart(store, evaluation_settings(before))
    store.write_bytes(RECIPE, to_yaml(recipe).encode())


def difference(old: Recipe, new: Recipe, committed: Collection[str], at_work: Collection[str] = ()) -> list[str]:
    """One line for each value of a run that may not change, with the first phase that has used it.

    `committed` and `at_work` are names of phases. Evaluation does not matter in them: it may be done again with other values, and
    its scores are kept apart.
    """
    chain = [phase for phase in phases(old) if phase.name in {*committed, *at_work} and phase.kind != "evaluate"]
    lines = []
    for path, change in _changes(old.model_dump(mode="json"), new.model_dump(mode="json"), ""):
        user = next((phase for phase in chain if _reads(phase, path)), None)
        if user is not None:
            why = "has used it" if user.name in committed else "is at work with it: suspend the run, then change it"
            lines.append(f"{path}: {change}; {user.name} {why}")
    return lines


def _reads(phase: Phase, path: str) -> bool:
    return reads(phase.kind, phase.number if isinstance(phase, StagePhase) else None, path)


def _changes(old: Any, new: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, the change in words) of each value that is not the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            yield from _changes(old[key], new[key], f"{path}.{key}" if path else key)
    elif path == "stages":
        for place, stage in enumerate(old):
            if place < len(new):
                yield from _changes(stage, new[place], f"stages.{place}")
            else:
                yield f"stages.{place}", "in the run, but not in this recipe"
    elif old != new:
        yield path, f"{_shown(old)} in the run, {_shown(new)} in this recipe"


def _shown(value: Any) -> str:
    return "a group of values" if isinstance(value, dict) else json.dumps(value, ensure_ascii=False)
