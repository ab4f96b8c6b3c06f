"""What must be true for a run that was shot at, compared with the same run that nothing happened to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from shots import Target

from visionr1.rundir.attempts import attempts
from visionr1.rundir.layout import MANIFEST, checkpoint_prefix
from visionr1.rundir.steplog import read_steps
from visionr1.storage import open_store

COMPARED: Final = ("loss", "grad_norm", "learning_rate", "trained_tokens", "reward_mean", "kl_mean", "entropy_mean")
"""Values of a step record that the whole run's must equal to the last bit."""


def broken(target: Target, whole: Path, every: int) -> list[str]:
    """One line for each promise that the run did not keep; none for a sound one.

    Args:
        whole: directory of the uninterrupted run.
        every: most steps between two checkpoints of any phase.
    """
    ours, theirs = read_steps(target.store), read_steps(open_store(str(whole)))
    lines = []
    order = [(record["phase"], record["step"]) for record in ours]
    if order != [(record["phase"], record["step"]) for record in theirs]:
        lines.append(f"steps.jsonl does not hold every step once and in order: {order}")
    for one, other in zip(ours, theirs, strict=False):
        if (values := [one.get(key) for key in COMPARED]) != (expected := [other.get(key) for key in COMPARED]):
            lines.append(f"{one['phase']} step {one['step']}: {values} instead of {expected}")
    for (phase, step), when in target.committed.items():
        if when not in [record["time"] for record in ours if (record["phase"], record["step"]) == (phase, step)]:
            lines.append(f"{phase} step {step} was committed and trained again")
    for phase, end in target.ends.items():
        if (files := hashes(target.folder, phase, end)) != (expected_files := hashes(whole, phase, end)):
            names = [name for name in expected_files if files.get(name) != expected_files[name]]
            lines.append(f"{phase} ends with other files: {names}")
        lines.extend(_lost(target, phase))
    if (rollouts := sampled(target.folder)) != (expected_rollouts := sampled(whole)):
        names = [name for name in expected_rollouts if rollouts.get(name) != expected_rollouts[name]]
        lines.append(f"other completions were sampled, or missing: {names or sorted(set(rollouts) - set(expected_rollouts))}")
    lines.extend(
        f"{kill.shot}: {kill.repeated} steps repeated, more than lie between two checkpoints"
        for kill in target.kills
        if kill.repeated > every
    )
    return lines


def _lost(target: Target, phase: str) -> list[str]:
    """Attempts that did not continue from the last committed checkpoint."""
    tried = list(attempts(target.store, phase).values())
    return [
        f"{phase}: an attempt began at step {later.from_step} although {earlier.to_step} was committed"
        for earlier, later in zip(tried, tried[1:], strict=False)
        if later.from_step != earlier.to_step
    ]


def hashes(run: Path, phase: str, step: int) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint: weights, moments, tokenizer."""
    manifest = json.loads((run / checkpoint_prefix(phase, step) / MANIFEST).read_text())
    return {file["path"]: file["sha256"] for file in manifest["files"]}


def sampled(run: Path) -> dict[str, bytes]:
    """Every completion of every step: prompt, tokens, reward."""
    files = sorted(run.glob("rollouts/*/*.zst"))
    return {str(file.relative_to(run)): file.read_bytes() for file in files}
