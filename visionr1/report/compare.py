"""Several runs in one picture: figure 1 (A) to (F) of the paper with one colour per run, and a table of results and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from visionr1.data.reflection import REFLECTION_WORDS
from visionr1.errors import BadInput
from visionr1.report.bars import Bar, grouped_bars
from visionr1.report.collect import PhaseRecord, Run, Samples, read_run
from visionr1.report.curves import PAPER_CURVES, Curve, chart
from visionr1.report.measures import bucket_edges, length_buckets, series
from visionr1.report.panels import COLOURS, Panel
from visionr1.report.svg import legend
from visionr1.report.template import rendered
from visionr1.report.words import count, duration
from visionr1.rundir.reading import number
from visionr1.storage import Store

_MOST_RUNS: Final = COLOURS
_SAMPLING: Final = {"temperature", "top_p", "max_completion_tokens", "samples"}


@dataclass(frozen=True)
class Row:
    """What a run reached and cost. `tokens` were sampled in GRPO, `seconds` are of all phases; None: not known."""

    name: str
    first: PhaseRecord | None
    last: PhaseRecord | None
    steps: int
    tokens: int
    seconds: float | None


def read_runs(stores: Sequence[Store]) -> dict[str, Run]:
    """The runs by name; where two have the same name, by their addresses. Raises BadInput for one run, or for too many."""
    if not 2 <= len(stores) <= _MOST_RUNS:
        raise BadInput(f"a comparison is of 2 to {_MOST_RUNS} runs, not {len(stores)}")
    runs = [read_run(store) for store in stores]
    named = len({run.recipe.name for run in runs}) == len(runs)
    found = {run.recipe.name if named else run.url.rstrip("/").rpartition("/")[2]: run for run in runs}
    return found if len(found) == len(runs) else {run.url: run for run in runs}


def row(name: str, run: Run) -> Row:
    """A run in figures."""
    spans = [phase.seconds for phase in run.phases if phase.seconds is not None]
    steps = [step for stage in run.stages for step in stage.steps]
    return Row(
        name=name,
        first=run.scored[0] if run.scored else None,
        last=run.scored[-1] if run.scored else None,
        steps=len(steps),
        tokens=int(sum(number(step.get("generated_tokens")) or 0 for step in steps)),
        seconds=sum(spans) if spans else None,
    )


def comparable(runs: dict[str, Run]) -> str:
    """Why accuracies of the runs cannot be compared, in a line; "" if they can, or if it is not known."""
    marks = {run.scored[-1].score.fingerprint for run in runs.values() if run.scored} - {None}
    if len(marks) > 1:
        return "The runs were scored on different held-out problems: their accuracies cannot be compared."
    samplings = {run.recipe.evaluation.model_dump_json(include=_SAMPLING) for run in runs.values() if run.scored}
    return "The runs were scored with different sampling: their accuracies cannot be compared." if len(samplings) > 1 else ""


_HEADER: Final = ("run", "accuracy", "before GRPO", "mean length", "cut", "steps", "tokens sampled", "time")


def cells(one: Row) -> list[str]:
    """A line of the table."""
    score = one.last.score if one.last else None
    return [
        one.name,
        _accuracy(one.last),
        _accuracy(one.first if one.first is not one.last else None),
        count(score.completion_tokens_mean if score else None),
        "–" if score is None or score.truncated_ratio is None else f"{100 * score.truncated_ratio:.1f} %",
        count(one.steps),
        count(one.tokens or None),
        duration(one.seconds),
    ]


def _accuracy(phase: PhaseRecord | None) -> str:
    if phase is None or phase.score.accuracy is None:
        return "–"
    error = phase.score.standard_error
    return f"{100 * phase.score.accuracy:.1f} %" + ("" if error is None else f" ± {100 * error:.1f}")


def compared_table(runs: dict[str, Run]) -> Table:
    """For a terminal."""
    table = Table(title="compared", title_justify="left", caption=comparable(runs) or None)
    for place, name in enumerate(_HEADER):
        table.add_column(name, justify="right" if place else "left")
    for name, run in runs.items():
        table.add_row(*map(Text, cells(row(name, run))))
    return table


def compared_page(runs: dict[str, Run], paper: bool) -> str:
    """The page. `paper` adds the curves of the paper's Vision-R1 as faint lines, stretched to the runs' steps and values."""
    return rendered(
        "compare.html.j2",
        {},
        names=list(runs),
        panels=[(panel, Markup(panel.svg)) for panel in compared_panels(runs, paper)],
        header=_HEADER,
        rows=[cells(row(name, run)) for name, run in runs.items()],
        warning=comparable(runs),
    )


def compared_panels(runs: dict[str, Run], paper: bool) -> list[Panel]:
    """(A) to (F), with one colour per run."""
    stretched = "; faint: the paper's Vision-R1, stretched to the last step and the highest value here" if paper else ""
    key = legend([(name, f"p{place}") for place, name in enumerate(runs, start=1)])
    trained, last = "Mean of each rollout batch", "Held-out responses of each run's last model"
    length = chart("Mean length over steps", "tokens", _trained(runs, "completion_tokens_mean"), _paper("length", paper), key)
    accuracy = chart("Held-out accuracy over steps", "accuracy", _scored(runs), _paper("accuracy", paper), key, as_percent=True)
    reward = chart("Mean reward over steps", "reward", _trained(runs, "reward_mean"), _paper("reward", paper), key)
    return [
        Panel("A", "Accuracy by length", f"{last}, by their length.", _by_length(runs, key)),
        Panel("B", "Final accuracy", f"{last}: pass@1; the bars show one standard error.", _final(runs, key)),
        Panel("C", "Words of reflection", f"{last}: words in any case, per response.", _words(runs, key)),
        Panel("D", "Completion length", f"{trained}{stretched}.", length),
        Panel("E", "Held-out accuracy", f"After the last step of each phase{stretched}.", accuracy),
        Panel("F", "Reward", f"{trained}{stretched}.", reward),
    ]


def _paper(name: str, wanted: bool) -> Sequence[tuple[int, float]]:
    return PAPER_CURVES[name] if wanted else ()


def _trained(runs: dict[str, Run], key: str) -> list[Curve]:
    return [
        Curve(name, f"p{place}", [point for stage in run.stages for point in series(stage, key)], ())
        for place, (name, run) in enumerate(runs.items(), start=1)
    ]


def _scored(runs: dict[str, Run]) -> list[Curve]:
    curves = []
    for place, (name, run) in enumerate(runs.items(), start=1):
        points = [(phase.score.step if phase.stage else 0, phase.score.accuracy or 0.0) for phase in run.scored]
        curves.append(Curve(name, f"p{place}", points, [phase.score.standard_error or 0.0 for phase in run.scored]))
    return curves


def _last(runs: dict[str, Run]) -> list[tuple[str, str, PhaseRecord | None]]:
    return [
        (name, f"p{place}", run.scored[-1] if run.scored else None) for place, (name, run) in enumerate(runs.items(), start=1)
    ]


def _by_length(runs: dict[str, Run], key: str) -> str:
    edges = bucket_edges(next(iter(runs.values())).recipe)
    groups: dict[str, list[Bar]] = {}
    for name, colour, phase in _last(runs):
        for bucket in length_buckets(phase.samples.outcomes, edges) if phase and phase.samples.outcomes else ():
            lines = [f"{name}, {bucket.label} tokens", f"{bucket.count:,} responses ({100 * bucket.share:.0f} %)"]
            groups.setdefault(bucket.label, []).append(Bar(colour, bucket.accuracy, 0.0, lines))
    return grouped_bars("Accuracy by completion length", "accuracy", groups, "completion length, tokens", key, as_percent=True)


def _final(runs: dict[str, Run], key: str) -> str:
    groups = {
        name: [Bar(colour, phase.score.accuracy, phase.score.standard_error or 0.0, [name])]
        for name, colour, phase in _last(runs)
        if phase is not None
    }
    return grouped_bars("Final accuracy", "accuracy", groups, "run", key, as_percent=True)


def _words(runs: dict[str, Run], key: str) -> str:
    groups: dict[str, list[Bar]] = {}
    for name, colour, phase in _last(runs):
        samples = Samples() if phase is None else phase.samples
        for word in REFLECTION_WORDS if samples.outcomes else ():
            value = samples.words[word] / len(samples.outcomes)
            groups.setdefault(word, []).append(Bar(colour, value, 0.0, [f"{word}, {name}", f"{value:.2f} per response"]))
    return grouped_bars("Words of reflection per response", "per response", groups, "word", key)
