"""What happened in a run, and where its files are, as tables for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from visionr1.report.benchmarks import benchmark_tables
from visionr1.report.collect import PhaseRecord, read_run
from visionr1.report.words import count, duration, gibibytes, percent
from visionr1.rundir.layout import REPORT, SUMMARY
from visionr1.storage import Store

_STATE_STYLE = {"done": "green", "failed": "red", "running": "yellow", "stopped": "yellow", "begun": "yellow", "waiting": "dim"}


def terminal_summary(store: Store) -> RenderableType:
    """A table of the phases and one of the files; print it with rich.

    Raises:
        BadInput: see `read_run`.
    """
    run = read_run(store)
    phases = Table(title=f"{run.recipe.name}: what happened", title_justify="left")
    phases.add_column("phase")
    phases.add_column("state")
    for name in ("accuracy", "tokens", "truncated", "steps", "time", "peak memory"):
        phases.add_column(name, justify="right")
    for phase in run.phases:
        phases.add_row(phase.title, Text(phase.state, _STATE_STYLE[phase.state]), *_cells(phase))
    place = Text(f"in {run.url}", "italic", overflow="fold")  # no title: those wrap at their table's width, and a path breaks
    files = Table(show_header=False, box=None)
    files.add_column(style="bold", overflow="fold")
    files.add_column(style="dim")
    made = [
        (key, what)
        for key, what in ((REPORT, "the figures, to open in a browser"), (SUMMARY, "the table above"))
        if store.exists(key)
    ]
    for key, what in made + run.files:
        files.add_row(Text(key), what)
    return Group(phases, place, *benchmark_tables(run.benchmarks), files)


def _cells(phase: PhaseRecord) -> list[str]:
    accuracy = percent(phase.score.accuracy)
    if (error := phase.score.standard_error) is not None:
        accuracy += f" ± {100 * error:.1f}"
    return [
        accuracy,
        count(phase.score.completion_tokens_mean),
        percent(phase.score.truncated_ratio),
        count(phase.steps_done),
        duration(phase.seconds),
        gibibytes(phase.peak_bytes),
    ]
