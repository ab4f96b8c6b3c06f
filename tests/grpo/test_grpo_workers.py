"""A stage saved by two workers continues with one or three as it would have with two: the same rows, samples and losses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks
from stage_ranks import stage

from visionr1.recipe import load_recipe

SETTINGS = [
    "coldstart=null",
    "sft=null",
    "data.held_out=null",
    "data.train.limit=18",  # the first resumed step ends an epoch, the second begins the next one
    "stages=[{max_completion_tokens: 16, group_size: 2, steps: 9}]",
    "algorithm.prompts_per_step=6",
    "rollout.engine=hf",
    "rollout.temperature=3.0",  # the shipped base is sure of itself, and equal completions teach nothing
    "metrics.enabled=false",
]


def go(run: Path, workers: int, steps: int) -> list[dict[str, Any]]:
    recipe = load_recipe("demo", [*SETTINGS, f"rollout.workers={workers}"]).model_dump_json()
    first: list[dict[str, Any]]
    first, *others = run_ranks(stage, workers, recipe, str(run), steps)
    assert all(json.dumps(other[0]["loss"]) == json.dumps(first[0]["loss"]) for other in others)
    return first


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run after two steps of two workers, and what its next two steps are with them."""
    folder = tmp_path_factory.mktemp("workers")
    go(folder / "saved", 2, 2)
    shutil.copytree(folder / "saved", folder / "on")
    return folder / "saved", go(folder / "on", 2, 2)


@pytest.mark.parametrize("workers", [1, 3])
def test_another_number_of_workers_goes_on(saved: tuple[Path, list[dict[str, Any]]], tmp_path: Path, workers: int) -> None:
    folder, expected = saved
    assert min(step["grad_norm"] for step in expected) > 1e-4, "every step trains"
    shutil.copytree(folder, tmp_path / "run")
    for ours, theirs in zip(go(tmp_path / "run", workers, 2), expected, strict=True):
        assert ours["sampled"] == theirs["sampled"]
        assert ours["trained_tokens"] == theirs["trained_tokens"]
        for key in ("loss", "grad_norm", "entropy_mean"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), key
    manifest = json.loads((tmp_path / "run/checkpoints/stage-1/step-4/manifest.json").read_text())
    assert [file["path"] for file in manifest["files"] if file["path"].startswith("trainer/")] == [
        f"trainer/rank-{rank:05d}-of-{workers:05d}.safetensors" for rank in range(workers)
    ]
