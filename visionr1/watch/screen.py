"""The live view of `visionr1 watch`: one frame of it, and the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from visionr1.errors import BadInput, printable
from visionr1.pipeline.display import title
from visionr1.storage import StorageError
from visionr1.watch.look import View

SPARKS: Final = "▁▂▃▄▅▆▇█"
BORDER: Final = "┊"
_SPARK_WIDTH: Final = 48
_LONGEST_LEFT: Final = 100 * 365 * 86_400
"""A hundred years, in seconds. A damaged log may give numbers that are too large for a timedelta."""
_STYLES: Final = {
    "running": "green",
    "waiting": "yellow",
    "held": "yellow",
    "stopped": "yellow",
    "failed": "red",
    "done": "green",
}


def watch(look: Callable[[float], View], console: Console, *, once: bool, every: float) -> None:
    """Shows the run until it is done or the user presses Ctrl-C. Prints one frame if `once`, or if there is no terminal.

    Args:
        look: reads the run. Its argument is the time now, in unix seconds.

    Raises:
        BadInput: there is no such run.
        StorageError: the first look failed. Later failures are shown on the screen.
    """
    view = look(time.time())
    if once or not console.is_terminal:
        console.print(frame(view))
        return
    with Live(frame(view), console=console, auto_refresh=False) as live:
        try:
            while view.state != "done":
                time.sleep(every)
                try:
                    view = look(time.time())
                    live.update(frame(view), refresh=True)
                except (StorageError, BadInput) as error:  # a network that fails, a file that is being replaced
                    live.update(Group(frame(view), Text(f"cannot read it now: {printable(str(error))}", "yellow")), refresh=True)
        except KeyboardInterrupt:  # the user ends it
            return


def frame(view: View) -> RenderableType:
    """The whole view."""
    head = Text.assemble((printable(view.name), "bold"), f"  {printable(view.url)}  ", (view.state, _STYLES[view.state]))
    lines: list[RenderableType] = [head, _chain(view), _bar(view)]
    table = Table.grid(padding=(0, 2))
    for row in _curves(view):
        table.add_row(*row)
    lines.append(table)
    if view.note:
        lines.append(Text(printable(view.note), "dim"))
    lines += [Text(f"! {printable(problem)}", "bold red") for problem in view.problems] or [Text("no problem seen", "dim")]
    return Group(*lines)


def _chain(view: View) -> Text:
    parts = Text()
    for index, phase in enumerate(view.chain):
        finished = index < view.current or view.state == "done"
        mark, style = ("✓ ", "green") if finished else ("● ", "bold") if index == view.current else ("  ", "dim")
        parts.append(f"{'   ' if index else ''}{mark}{printable(title(phase))}", style)
    return parts


def _bar(view: View) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    count = f"{view.done}" if view.total is None else f"{view.done}/{view.total}"
    parts = [printable(title(view.phase)), count]
    if view.seconds_left is not None:
        parts.append(f"{timedelta(seconds=min(max(0, round(view.seconds_left)), _LONGEST_LEFT))} left")
    if view.tokens_per_second is not None:
        parts.append(f"{view.tokens_per_second:,.0f} tokens/s")
    if view.records and view.records[-1]["time"] is not None and view.state != "done":
        parts.append(f"last step {max(0.0, view.now - view.records[-1]['time']):.0f} s ago")
    line.add_row(ProgressBar(total=view.total or 1, completed=view.done if view.total else 0, width=24), Text("   ".join(parts)))
    return line


def _curves(view: View) -> list[tuple[str, Text, str]]:
    """Name, sparkline and newest value of each curve: of the stages, or of SFT before the first stage."""
    if view.stages:
        limit = f" of {view.limit}" if view.limit else ""
        return [
            _curve("reward", view.stages, "reward_mean", "{:.3f}", ""),
            _curve("length", view.stages, "completion_tokens_mean", "{:,.0f}", f"{limit} tokens"),
            _curve("cut", view.stages, "completion_truncated_ratio", "{:.0%}", ""),
        ]
    return [_curve("loss", view.records, "loss", "{:.3f}", "")] if view.records else []


def _curve(name: str, records: Sequence[dict[str, Any]], key: str, shape: str, unit: str) -> tuple[str, Text, str]:
    newest = records[-1].get(key)
    value = "not finite" if newest is None else shape.format(newest) + unit
    return name, Text(sparkline(records, key, _SPARK_WIDTH), "cyan"), value


def sparkline(records: Sequence[dict[str, Any]], key: str, width: int) -> str:
    """The values as blocks: the lowest value is the lowest block, the highest the highest one.

    With more than `width` steps, a block is the mean of several. A line separates the stages. A step without a finite
    value is a gap.
    """
    size = -(-len(records) // width)
    groups = [records[start : start + size] for start in range(0, len(records), size)] if records else []
    means = [_mean([record[key] for record in group if record.get(key) is not None]) for group in groups]
    seen = [mean for mean in means if mean is not None]
    low, high = (min(seen), max(seen)) if seen else (0.0, 0.0)
    line = ""
    for index, (group, mean) in enumerate(zip(groups, means, strict=True)):
        if index and group[-1].get("stage") != groups[index - 1][-1].get("stage"):
            line += BORDER
        line += " " if mean is None else _block(mean, low, high)
    return line


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _block(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.5
    return SPARKS[round(share * (len(SPARKS) - 1))]
