"""The names inside a run directory, all in one place."""

from __future__ import annotations

from typing import Final

RECIPE: Final = "recipe.yaml"
"""The recipe as it was resolved when the run began."""
STEPS: Final = "steps.jsonl"
"""One record a training step, of all phases."""
REPORT: Final = "report.html"
SUMMARY: Final = "summary.json"
LOCK: Final = ".lock"
"""Who is using a local run directory."""
COLDSTART_DATA: Final = "coldstart/data.jsonl"
COLDSTART_REPORT: Final = "coldstart/report.json"
COLDSTART_MANIFEST: Final = "coldstart/manifest.json"
"""Written last: its presence says that the cold-start data is complete."""
MANIFEST: Final = "manifest.json"
"""Written last into a checkpoint: its presence says that the checkpoint is complete."""


TRAINER: Final = "trainer"
"""Folder in a checkpoint with what only training goes on from: master weights and moments."""


def attempts_prefix(phase: str) -> str:
    """Folder of a phase's attempts."""
    return f"phases/{phase}"


def attempt_prefix(phase: str, attempt: int) -> str:
    """Folder of one attempt, counted from 0."""
    return f"{attempts_prefix(phase)}/attempt-{attempt}"


def attempt_log_key(phase: str, attempt: int) -> str:
    """What an attempt has printed."""
    return f"{attempt_prefix(phase, attempt)}/log.txt"


def checkpoints_prefix(phase: str) -> str:
    """Folder of a phase's checkpoints."""
    return f"checkpoints/{phase}"


def checkpoint_prefix(phase: str, step: int) -> str:
    """Folder of one checkpoint; `step` is the global step."""
    return f"{checkpoints_prefix(phase)}/step-{step}"


def rolled_back_steps_key(archive: str) -> str:
    """Step records that a rollback took out of `STEPS`."""
    return f"rolled-back/{archive}/steps.jsonl"


def stop_key(run_uid: str, attempt: str) -> str:
    """A driver that was started with this key stops between two steps once it is there.

    The uid keeps runs of one name apart.
    """
    return f"stop/{run_uid}-{attempt}"


def rollouts_key(phase: str, step: int) -> str:
    """Every completion of one step, as compressed JSON lines."""
    return f"rollouts/{phase}/step-{step}.jsonl.zst"


def eval_key(phase: str) -> str:
    """Scores of the checkpoint that `phase` ended with."""
    return f"eval/{phase}.json"


def eval_samples_key(phase: str) -> str:
    """Every completion that `eval_key` counts."""
    return f"eval/{phase}.samples.jsonl"
