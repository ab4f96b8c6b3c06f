"""report.html and summary.json of a run, from its run directory alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from visionr1.recipe import to_yaml
from visionr1.recipe.phases import BASE_MODEL
from visionr1.report.benchmarks import benchmark_grids
from visionr1.report.collect import PhaseRecord, Run, read_run
from visionr1.report.panels import colour, panels
from visionr1.report.showcase import problems
from visionr1.report.template import rendered
from visionr1.report.words import count, duration, gibibytes, percent
from visionr1.rundir.coldstart import ColdStartReport
from visionr1.rundir.layout import REPORT, SUMMARY
from visionr1.storage import Store


def write_report(store: Store) -> None:
    """Writes report.html and summary.json. Works at any point of a run, also while it runs.

    Raises:
        BadInput: see `read_run`.
    """
    run = read_run(store)
    store.write_bytes(SUMMARY, (json.dumps(summary(run), indent=2, allow_nan=False) + "\n").encode())
    store.write_bytes(REPORT, html(run).encode())


def summary(run: Run) -> dict[str, Any]:
    """The contents of summary.json. None means: not known (yet).

    Units: accuracy, standard_error and truncated_ratio in [0, 1]; completion_tokens_mean in tokens;
    seconds, summed over all attempts; pause_seconds, of each loss and each stop; peak_bytes, of host memory.
    """
    return {"name": run.recipe.name, "run": run.url, "phases": {phase.name: _summary(phase) for phase in run.phases}} | (
        {"benchmarks": [score.model_dump(exclude={"seen", "skipped"}) for score in run.benchmarks]} if run.benchmarks else {}
    )


def _summary(phase: PhaseRecord) -> dict[str, Any]:
    return {
        "state": phase.state,
        "accuracy": phase.score.accuracy,
        "standard_error": phase.score.standard_error,
        "completion_tokens_mean": phase.score.completion_tokens_mean,
        "truncated_ratio": phase.score.truncated_ratio,
        "steps": phase.steps_done,
        "seconds": phase.seconds,
        "pause_seconds": phase.pauses,
        "peak_bytes": phase.peak_bytes,
    }


def html(run: Run) -> str:
    """The page. It loads nothing from elsewhere, and no text of a model or of data becomes markup."""
    return rendered(
        "report.html.j2",
        {"percent": percent, "duration": duration, "gibibytes": gibibytes, "colour": colour, "count": count},
        run=run,
        recipe_text=to_yaml(run.recipe),
        headline=headline(run),
        panels=[(panel, Markup(panel.svg)) for panel in panels(run)],
        coldstart=run.coldstart,
        filters=filter_rows(run.coldstart),
        problems=problems(run.scored),
        grids=benchmark_grids(run.benchmarks),
    )


@dataclass(frozen=True)
class Tile:
    """One of the large numbers at the top of the page."""

    value: str
    name: str
    note: str


def headline(run: Run) -> list[Tile]:
    """The numbers that a reader wants to see first. Those that are not known yet are left out."""
    tiles = []
    if run.scored:
        first, last = run.scored[0], run.scored[-1]
        for before, now, name, write in (
            (first.score.accuracy, last.score.accuracy, "held-out accuracy", percent),
            (first.score.completion_tokens_mean, last.score.completion_tokens_mean, "tokens per response", count),
            (first.score.truncated_ratio, last.score.truncated_ratio, "cut at the limit", percent),
        ):
            if now is not None:
                since = "" if first is last or before is None else f"{write(before)} {_after(first)}"
                tiles.append(Tile(write(now), name, since))
    steps = sum(len(stage.steps) for stage in run.stages)
    if steps:
        tiles.append(Tile(count(steps), "GRPO steps", f"of {sum(stage.steps for stage in run.recipe.stages):,}"))
    seconds = [phase.seconds for phase in run.phases if phase.seconds is not None]
    if seconds:
        tiles.append(Tile(duration(sum(seconds)), "in all phases", f"{sum(len(p.attempts) for p in run.phases)} attempts"))
    return tiles


def _after(first: PhaseRecord) -> str:
    return f"of the {first.title}" if first.name == BASE_MODEL else f"after {first.title}"


@dataclass(frozen=True)
class FilterRow:
    """One outcome of the cold-start filter. `share` is of all problems. `example` is the part of a text that matched the rule."""

    name: str
    samples: int
    share: float
    kept: bool
    example: str


def filter_rows(report: ColdStartReport | None) -> list[FilterRow]:
    """The kept chains of thought first, then the rejected ones by rule, the most frequent rule first."""
    if not report or not report.problems:
        return []
    rejected = sorted(report.rejected.items(), key=lambda item: -item[1])
    examples = {name: example.excerpt for name, example in report.examples.items()}
    outcomes = [("kept", report.kept), *rejected]
    return [
        FilterRow(name, number, number / report.problems, name == "kept", examples.get(name, "")) for name, number in outcomes
    ]
