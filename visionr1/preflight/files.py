"""Is every file there that a recipe names?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from visionr1.recipe.phases import Phase
from visionr1.recipe.schema import Recipe
from visionr1.recipe.source import Source
from visionr1.rundir.layout import COLDSTART_DIFFICULTY
from visionr1.storage import open_store

_SUFFIXES: Final = (".parquet", ".jsonl", ".json")


def file_faults(recipe: Recipe, chain: Sequence[Phase]) -> list[str]:
    """One line for each file or folder that the phases read and that is not there. Data sets of Hugging Face are not asked for.

    Raises:
        StorageError: S3 cannot be reached now.
        BadInput: an s3:// address or the settings for S3 are wrong.
    """
    faults = []
    asks = any(phase.kind == "coldstart" for phase in chain)
    for place, source in _sources(recipe, chain):
        if not _is_there(source.path):
            faults.append(f"{place}.path: there is nothing at {source.path}: correct the path")
        root = source.image_root
        if root is not None and "://" not in root and not os.path.isdir(root):
            faults.append(f"{place}.image_root: there is no folder {root}: correct the path")
        difficulty = source.difficulty
        made_here = asks and difficulty is not None and difficulty.path.endswith(COLDSTART_DIFFICULTY)
        if difficulty is not None and not made_here and not _is_there(difficulty.path):
            faults.append(f"{place}.difficulty.path: there is nothing at {difficulty.path}: correct the path")
    coldstart = recipe.coldstart
    if asks and coldstart is not None:
        for number, path in enumerate(coldstart.filters.evaluation_sets):
            if not _is_there(path):
                faults.append(f"coldstart.filters.evaluation_sets.{number}: there is nothing at {path}: correct the path")
    if coldstart is not None and coldstart.prompts_dir is not None and not os.path.isdir(coldstart.prompts_dir):
        faults.append(f"coldstart.prompts_dir: there is no folder {coldstart.prompts_dir}: correct the path")
    file = recipe.reward.file
    if file is not None and not os.path.isfile(file):
        faults.append(f"reward.function: there is no file {file}: correct the path")
    return faults


def _sources(recipe: Recipe, chain: Sequence[Phase]) -> Iterator[tuple[str, Source]]:
    kinds = {phase.kind for phase in chain}
    if "coldstart" in kinds and recipe.coldstart is not None:
        yield "coldstart.problems", recipe.coldstart.problems
    if "sft" in kinds and recipe.sft is not None and recipe.sft.data is not None:
        yield "sft.data", recipe.sft.data
    if "grpo" in kinds:
        yield "data.train", recipe.data.train
    if "evaluate" in kinds and recipe.data.held_out is not None:
        yield "data.held_out", recipe.data.held_out


def _is_there(path: str) -> bool:
    if path.startswith("s3://"):
        if path.endswith(_SUFFIXES):
            folder, _, name = path.rpartition("/")
            return open_store(folder).exists(name)
        return bool(open_store(path).versions())
    return "://" in path or os.path.exists(os.path.expanduser(path))
