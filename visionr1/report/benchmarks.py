"""Scores on published sets as tables: one for each set of conditions, and all beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from visionr1.report.paper import AVERAGES, PAPER, averages
from visionr1.report.words import count, duration
from visionr1.rundir.benchmark_scores import BenchmarkScore, Conditions


@dataclass(frozen=True)
class Grid:
    """A table as texts: `notes` are lines below it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def benchmark_grids(scores: Sequence[BenchmarkScore]) -> list[Grid]:
    """A grid for each set and conditions, for scores that cannot be compared never share one; then ours beside the paper's."""
    groups: dict[tuple[str, Conditions], list[BenchmarkScore]] = {}
    for score in scores:
        groups.setdefault((score.benchmark, score.conditions), []).append(score)
    grids = [_of_set(group) for group in groups.values()]
    names = {score.benchmark for score in scores}
    comparable = len(names) == len(groups) and names & set(AVERAGES["average of 4"])
    return [*grids, _beside_the_paper(scores)] if comparable else grids


def benchmark_tables(scores: Sequence[BenchmarkScore]) -> list[RenderableType]:
    """As `benchmark_grids`, for a terminal."""
    parts: list[RenderableType] = []
    for grid in benchmark_grids(scores):
        table = Table(title=Text(grid.title), title_justify="left")
        for number, name in enumerate(grid.header):
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in grid.rows:
            table.add_row(*map(Text, row))
        parts += [table, *(Text(note, "dim") for note in grid.notes)]
    return parts


def _of_set(scores: Sequence[BenchmarkScore]) -> Grid:
    first = scores[0]
    names = list(first.figures)
    header = ["model", f"accuracy ({first.labelled})", "strict rule", *names, "tokens", "cut", "tokens in all", "seconds"]
    rows = [
        [
            score.scored,
            _share(score.accuracy, score.standard_error) + _of_seeds(score),
            _share(score.strict_accuracy, score.strict_standard_error),
            *(f"{100 * score.figures[name]:.1f}" if name in score.figures else "" for name in names),
            count(score.completion_tokens_mean),
            f"{100 * score.truncated_ratio:.1f}",
            count(score.prompt_tokens + score.completion_tokens + score.judge_tokens),
            duration(score.seconds),
        ]
        for score in scores
    ]
    title = f"{first.conditions.title}, {first.problems:,} problems of {first.conditions.split}, in per cent"
    return Grid(title, header, rows, [*_conditions(first.conditions), *_warnings(scores)])


def _share(value: float, error: float | None) -> str:
    return f"{100 * value:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def _of_seeds(score: BenchmarkScore) -> str:
    return "" if score.standard_error_of_seeds is None else f" (seeds ± {100 * score.standard_error_of_seeds:.1f})"


def _conditions(conditions: Conditions) -> list[str]:
    """Everything that these scores have in common, in two lines."""
    judge = conditions.judge
    said = "none" if judge is None else f"{judge.model}, prompts {judge.prompts}"
    return [
        f"rule {conditions.rule}; judge {said}; prompt {conditions.prompt}; problems {conditions.fingerprint}",
        f"temperature {conditions.temperature:g}, top_p {conditions.top_p:g}, at most "
        f"{conditions.max_completion_tokens:,} tokens, {conditions.samples} of seed {conditions.seed}, pixels "
        f"{conditions.min_pixels:,} to {conditions.max_pixels:,}",
    ]


def _warnings(scores: Sequence[BenchmarkScore]) -> list[str]:
    """What a reader of these scores must know."""
    lines = []
    for score in scores:
        seen = len(score.seen)
        parts = [
            f"{seen} problems are in the training data" + (", left out" if score.dropped else "") if seen else "",
            f"{score.unanswered} replies are missing and count as wrong" if score.unanswered else "",
            f"{score.unjudged} replies have no usable verdict and count as wrong" if score.unjudged else "",
            f"{len(score.skipped)} damaged rows are left out" if score.skipped else "",
        ]
        if any(parts):
            lines.append(f"{score.scored}: {'; '.join(part for part in parts if part)}")
    return lines


def _beside_the_paper(scores: Sequence[BenchmarkScore]) -> Grid:
    """All sets in one table, with the averages for which all are there. The paper's judge and prompts are not known."""
    ours: dict[str, dict[str, float]] = {}
    for score in scores:
        values = ours.setdefault(score.scored, {})
        values[score.benchmark] = 100 * score.accuracy
        values |= {f"{score.benchmark} {name}": 100 * value for name, value in score.figures.items()}
    names = [score.benchmark for score in scores]
    columns = [*dict.fromkeys(names), *averages(next(iter(ours.values())))]
    rows = [
        [model, *(f"{value:.1f}" if (value := (values | averages(values)).get(name)) is not None else "" for name in columns)]
        for model, values in (ours | PAPER).items()
        if set(columns) & (values | averages(values)).keys()
    ]
    notes = ["The paper's judge and prompts are not published: its numbers and these are near each other at best."]
    return Grid("Beside the paper's (arXiv 2503.06749v4), in per cent", ["model", *columns], rows, notes)
