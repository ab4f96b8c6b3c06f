"""Does PTST do on a laptop what the paper says? The demo's variants with several seeds, and a table with standard errors.

For each seed: `visionr1 run demo`, whole; then `demo-long` from the same SFT model, as both would train the same one. The cold
start is the score of that model before any GRPO. A run that is already there, whole or in part, goes on.

    .venv/bin/python benchmarks/paper_effect.py --seeds 1 2 3 4 5 --runs runs/effect --json effect.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from visionr1.report.collect import PhaseRecord, Run, read_run
from visionr1.storage import open_store

SCORED: Final = ("data.held_out.limit=512", "evaluation.samples=2")
"""All held-out problems, two responses to each: a smaller error than the demo's own score has."""
FIRST: Final = 2
"""Steps whose mean length is that at first: most re-checks are unlearnt within six."""
LAST: Final = 10
"""Steps whose mean length is that at the end of a stage: its second half, as each step draws only eight problems."""


@dataclass(frozen=True)
class Seed:
    """What one seed gave. Accuracies in per cent, lengths in tokens of a rollout, seconds of all stages of GRPO."""

    seed: int
    cold_start: float
    long: float
    ptst: float
    first_length: float
    stage_1_length: float
    last_length: float
    long_first_length: float
    long_last_length: float
    ptst_seconds: float
    long_seconds: float
    ptst_tokens: int
    long_tokens: int

    @property
    def fall(self) -> float:
        """Of PTST's mean length in stage 1, in per cent of the first steps' mean."""
        return 100 * (1 - self.stage_1_length / self.first_length)

    @property
    def growth(self) -> float:
        """Of PTST's mean length from the end of stage 1 to the end of the last, in per cent."""
        return 100 * (self.last_length / self.stage_1_length - 1)

    @property
    def times_as_long(self) -> float:
        """Long's mean length over PTST's, after the same number of steps: the last ones."""
        return self.long_last_length / self.last_length

    @property
    def times_the_seconds(self) -> float:
        """Seconds of Long's GRPO over PTST's."""
        return self.long_seconds / self.ptst_seconds


FIGURES: Final[dict[str, Callable[[Seed], float]]] = {
    "cold start, accuracy in %": lambda one: one.cold_start,
    "Long, accuracy in %": lambda one: one.long,
    "PTST, accuracy in %": lambda one: one.ptst,
    "Long - cold start": lambda one: one.long - one.cold_start,
    "PTST - Long": lambda one: one.ptst - one.long,
    "PTST, length at first": lambda one: one.first_length,
    "PTST, length at the end of stage 1": lambda one: one.stage_1_length,
    "PTST, length at the end": lambda one: one.last_length,
    "PTST, fall in stage 1 in %": lambda one: one.fall,
    "PTST, growth after stage 1 in %": lambda one: one.growth,
    "Long, length at first": lambda one: one.long_first_length,
    "Long, length at the end": lambda one: one.long_last_length,
    "Long's length / PTST's": lambda one: one.times_as_long,
    "Long's seconds / PTST's": lambda one: one.times_the_seconds,
    "Long's tokens / PTST's": lambda one: one.long_tokens / one.ptst_tokens,
}


def run(recipe: str, folder: Path, values: Sequence[str]) -> Run:
    """Runs it to its end and reads what it wrote. Raises SystemExit if it fails."""
    given = [word for value in values for word in ("--set", value)]
    done = subprocess.run([sys.executable, "-m", "visionr1.cli", "run", recipe, "--run", str(folder), *given])
    if done.returncode:
        raise SystemExit(f"{recipe} in {folder} ended with {done.returncode}; its output says why")
    return read_run(open_store(str(folder)))


def mean_length(stage: PhaseRecord, steps: slice) -> float:
    """Of the completions of these steps of a stage, in tokens."""
    return fmean(step["completion_tokens_mean"] for step in stage.steps[steps])


def measure(seed: int, runs: Path) -> Seed:
    """Both runs of a seed."""
    ptst = run("demo", runs / f"ptst-{seed}", [f"seed={seed}", *SCORED])
    cold_start = max((runs / f"ptst-{seed}" / "checkpoints" / "sft").glob("step-*"), key=lambda path: int(path.name[5:]))
    from_there = [f"seed={seed}", *SCORED, "coldstart=null", "sft=null", f"model.base={cold_start.resolve()}"]
    long = run("demo-long", runs / f"long-{seed}", from_there)
    return Seed(
        seed,
        cold_start=_accuracy(ptst.scored[0]),
        long=_accuracy(long.scored[-1]),
        ptst=_accuracy(ptst.scored[-1]),
        first_length=mean_length(ptst.stages[0], slice(FIRST)),
        stage_1_length=mean_length(ptst.stages[0], slice(-LAST, None)),
        last_length=mean_length(ptst.stages[-1], slice(-LAST, None)),
        long_first_length=mean_length(long.stages[0], slice(FIRST)),
        long_last_length=mean_length(long.stages[-1], slice(-LAST, None)),
        ptst_seconds=sum(stage.seconds or 0 for stage in ptst.stages),
        long_seconds=sum(stage.seconds or 0 for stage in long.stages),
        ptst_tokens=_tokens(ptst),
        long_tokens=_tokens(long),
    )


def _accuracy(phase: PhaseRecord) -> float:
    assert phase.score.accuracy is not None
    return 100 * phase.score.accuracy


def _tokens(of: Run) -> int:
    return sum(step["generated_tokens"] for stage in of.stages for step in stage.steps)


def summary(seeds: Sequence[Seed]) -> dict[str, dict[str, Any]]:
    """Mean over the seeds of every figure, and its standard error (none of a single seed)."""
    found = {}
    for name, figure in FIGURES.items():
        values = [figure(one) for one in seeds]
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        found[name] = {"values": values, "mean": fmean(values), "standard_error": error}
    return found


def main() -> None:
    """Runs all, prints a table after each seed, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--runs", type=Path, default=Path("runs/effect"), help="folder for the run directories")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    seeds = []
    for seed in asked.seeds:
        seeds.append(measure(seed, asked.runs))
        table = Table("figure", *[f"seed {one.seed}" for one in seeds], "mean", "standard error")
        figures = summary(seeds)
        for name, found in figures.items():
            error = "" if found["standard_error"] is None else f"{found['standard_error']:.2f}"
            table.add_row(name, *[f"{value:.1f}" for value in found["values"]], f"{found['mean']:.2f}", error)
        Console().print(table)
    written = json.dumps({"seeds": [asdict(one) for one in seeds], "figures": figures}, indent=1)
    print(written)
    if asked.json:
        asked.json.write_text(written + "\n")


if __name__ == "__main__":
    main()
