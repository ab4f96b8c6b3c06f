"""The names inside a run directory, all in one place."""

from __future__ import annotations

import re
from typing import Final

from visionr1.storage.store import TEMPORARY

RECIPE: Final = "recipe.yaml"
"""The recipe as it was resolved when the run began."""
DECIDED: Final = "recipes"
"""Folder of the recipes that the operator has decided on, each under the SHA-256 of its bytes, which a pod's command names."""
STEPS: Final = "steps.jsonl"
"""One record a training step, of all phases."""
REPORT: Final = "report.html"
SUMMARY: Final = "summary.json"
EVAL: Final = "eval"
"""Folder of the scores."""
EVAL_WORK: Final = "eval-replies"
"""Folder of every reply to a benchmark's problems and of every judge, in parts."""
BENCHMARKS: Final = "benchmarks"
"""Folder of the scores on published sets."""
EPOCHS: Final = "epochs"
"""Folder of who has taken the run over, one after the other."""
LOCK: Final = ".lock"
"""Who is using a local run directory."""
CHECKED_TRAIN: Final = "checked/train.arrow"
"""What was found out about each row of `data.train`; the three of these may be deleted at any time."""
CHECKED_HELD_OUT: Final = "checked/held-out.arrow"
CHECKED_SFT: Final = "checked/sft.arrow"
COLDSTART_DATA: Final = "coldstart/data.jsonl"
COLDSTART_DATA_MULBERRY: Final = "coldstart/data-mulberry.jsonl"
"""The same samples in the layout of Vision-R1-cold's other file."""
COLDSTART_DIFFICULTY: Final = "coldstart/difficulty.jsonl"
"""The share of right samples of each problem."""
COLDSTART_REJECTED: Final = "coldstart/rejected.jsonl"
"""Chains that were dropped, if the recipe keeps them."""
COLDSTART_PAGE: Final = "coldstart/inspect.html"
COLDSTART_CARD: Final = "coldstart/README.md"
COLDSTART_DATASET_INFO: Final = "coldstart/dataset_info.json"
"""What LLaMA-Factory reads first."""
COLDSTART_PARQUET: Final = "coldstart/parquet"
"""Folder of the samples in shards, with their pictures."""
COLDSTART_REPORT: Final = "coldstart/report.json"
COLDSTART_WORK: Final = "coldstart/work"
"""Folder of every reply so far, in parts."""
COLDSTART_MANIFEST: Final = "coldstart/manifest.json"
"""Written last: its presence says that the cold-start data is complete."""
MANIFEST: Final = "manifest.json"
"""Written last into a checkpoint: its presence says that the checkpoint is complete."""
TRAINER: Final = "trainer"
"""Folder in a checkpoint with what only training goes on from: master weights and moments."""


PROGRESS: Final = "progress.json"
"""In an attempt's folder: how far it is now."""
_PHASES: Final = "phases"
_CHECKPOINTS: Final = "checkpoints"
_COLDSTART: Final = "coldstart"


def decided_recipe_key(sha256: str) -> str:
    """A recipe that the operator has decided on."""
    return f"{DECIDED}/{sha256}.json"


def epoch_key(number: int) -> str:
    """Who took the epoch of this number, counted from 1."""
    return f"{EPOCHS}/{number}.json"


def epoch_number(key: str) -> int | None:
    """The number in a key that `epoch_key` gives; None for any other key."""
    match = re.fullmatch(rf"{EPOCHS}/([1-9][0-9]{{0,8}})\.json", key)
    return int(match[1]) if match else None


def attempts_prefix(phase: str) -> str:
    """Folder of a phase's attempts."""
    return f"{_PHASES}/{phase}"


def attempt_prefix(phase: str, attempt: int) -> str:
    """Folder of one attempt, counted from 0."""
    return f"{attempts_prefix(phase)}/attempt-{attempt}"


def attempt_key(phase: str, attempt: int) -> str:
    """Command, times and end of one attempt."""
    return f"{attempt_prefix(phase, attempt)}/attempt.json"


def attempt_log_key(phase: str, attempt: int) -> str:
    """All that the attempt has printed."""
    return f"{attempt_prefix(phase, attempt)}/log.txt"


def progress_key(phase: str, attempt: int) -> str:
    """How far the attempt is now."""
    return f"{attempt_prefix(phase, attempt)}/{PROGRESS}"


def attempt_number(key: str) -> int | None:
    """The number in a key that `attempt_key` gives; None for any other key."""
    match = re.fullmatch(rf"{_PHASES}/[^/]+/attempt-(0|[1-9][0-9]{{0,8}})/attempt\.json", key)
    return int(match[1]) if match else None


def coldstart_image(name: str) -> tuple[str, str]:
    """Where an image of the cold-start data is: its path relative to COLDSTART_DATA, as written there, and its key."""
    path = f"images/{name}"
    return path, f"{_COLDSTART}/{path}"


def coldstart_shard_key(shard: int) -> str:
    """One shard of the samples, counted from 0."""
    return f"{COLDSTART_PARQUET}/train-{shard:05d}.parquet"


def work_key(folder: str, part: str) -> str:
    """One part of the replies so far, in COLDSTART_WORK or EVAL_WORK."""
    return f"{folder}/{part}.jsonl"


def checkpoints_prefix(phase: str) -> str:
    """Folder of a phase's checkpoints."""
    return f"{_CHECKPOINTS}/{phase}"


def checkpoint_prefix(phase: str, step: int) -> str:
    """Folder of one checkpoint; `step` is the global step."""
    return f"{checkpoints_prefix(phase)}/step-{step}"


def staged_prefix(phase: str, epoch: int, step: int) -> str:
    """Folder of the files of one checkpoint until the attempt with this epoch puts them into place. It is in no listing."""
    return f"{checkpoints_prefix(phase)}/{TEMPORARY}epoch-{epoch}/step-{step}"


def staged_epoch(folder: str) -> int | None:
    """The epoch of a folder in which `staged_prefix` lies, by its name; None for any other name."""
    match = re.fullmatch(rf"{re.escape(TEMPORARY)}epoch-(0|[1-9][0-9]{{0,8}})", folder)
    return int(match[1]) if match else None


def checkpoint_step(key: str) -> tuple[int, str] | None:
    """Global step and file of a key below `checkpoints_prefix`; None for a key that is no checkpoint's."""
    match = re.fullmatch(rf"{_CHECKPOINTS}/[^/]+/step-(0|[1-9][0-9]{{0,8}})/(.+)", key)
    return (int(match[1]), match[2]) if match else None


def rolled_back_steps_key(archive: str) -> str:
    """Step records that a rollback took out of `STEPS`."""
    return f"rolled-back/{archive}/{STEPS}"


def stop_key(run_uid: str, attempt: str) -> str:
    """A driver that was started with this key stops between two steps once it is there.

    The uid keeps runs of one name apart.
    """
    return f"stop/{run_uid}-{attempt}"


def rollouts_prefix(phase: str) -> str:
    """Folder of a stage's rollouts."""
    return f"rollouts/{phase}"


def rollouts_key(phase: str, step: int) -> str:
    """Every completion of one step, as compressed JSON lines."""
    return f"{rollouts_prefix(phase)}/step-{step}.jsonl.zst"


def eval_folder(settings_id: str) -> str:
    """Folder of the scores that were made with other values than those directly in EVAL."""
    return f"{EVAL}/{settings_id}"


def eval_settings_key(folder: str = EVAL) -> str:
    """The values that the scores of a folder were made with."""
    return f"{folder}/settings.json"


def eval_key(phase: str, folder: str = EVAL) -> str:
    """Scores of the checkpoint that `phase` ended with."""
    return f"{folder}/{phase}.json"


def benchmark_key(conditions: str, scored: str) -> str:
    """A score on a published set; `conditions` name the set and all that its scores must have in common, `scored` the model."""
    return f"{BENCHMARKS}/{conditions}/{scored}.json"


def benchmark_samples_key(conditions: str, scored: str) -> str:
    """Every reply that `benchmark_key` counts."""
    return f"{BENCHMARKS}/{conditions}/{scored}.samples.jsonl"


def eval_samples_key(phase: str, folder: str = EVAL) -> str:
    """Every completion that `eval_key` counts."""
    return f"{folder}/{phase}.samples.jsonl"
