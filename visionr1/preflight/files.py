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
    for place, path in _files(recipe, chain):
        if not _is_there(path):
            faults.append(f"{place}: there is nothing at {path}: correct the path")
    for place, folder in _folders(recipe, chain):
        if not os.path.isdir(folder):
            faults.append(f"{place}: there is no folder {folder}: correct the path")
    file = recipe.reward.file
    if file is not None and not os.path.isfile(file):
        faults.append(f"reward.function: there is no file {file}: correct the path")
    return faults


def _files(recipe: Recipe, chain: Sequence[Phase]) -> Iterator[tuple[str, str]]:
    """Files, folders of files and addresses, each with its place in the recipe."""
    kinds = {phase.kind for phase in chain}
    for place, source in _sources(recipe, chain):
        yield f"{place}.path", source.path
        difficulty = source.difficulty
        if difficulty is not None and not ("coldstart" in kinds and difficulty.path.endswith(COLDSTART_DIFFICULTY)):
            yield f"{place}.difficulty.path", difficulty.path
    if "coldstart" in kinds and recipe.coldstart is not None:
        for number, path in enumerate(recipe.coldstart.filters.evaluation_sets):
            yield f"coldstart.filters.evaluation_sets.{number}", path
    if "evaluate" in kinds:
        for number, benchmark in enumerate(recipe.evaluation.benchmarks):
            if benchmark.path is not None:
                yield f"evaluation.benchmarks.{number}.path", benchmark.path


def _folders(recipe: Recipe, chain: Sequence[Phase]) -> Iterator[tuple[str, str]]:
    """Folders of this machine, each with its place in the recipe."""
    for place, source in _sources(recipe, chain):
        if source.image_root is not None and "://" not in source.image_root:
            yield f"{place}.image_root", source.image_root
    if recipe.coldstart is not None and recipe.coldstart.prompts_dir is not None:
        yield "coldstart.prompts_dir", recipe.coldstart.prompts_dir


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
