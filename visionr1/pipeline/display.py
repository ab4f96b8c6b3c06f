"""What a person sees while a local run works: a bar for each phase, or a line now and then in a log."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from visionr1.errors import EXIT_BAD_INPUT
from visionr1.progress import LINE_SECONDS
from visionr1.recipe.phases import Phase
from visionr1.rundir.progress import Progress

_TAIL_BYTES: Final = 65_536
_BESIDE: Final = re.compile(r"\x1b\[[0-9;]*m|^(?:\x1b\[[0-9;]*m)*\(\w+ pid=\d+\)(?:\x1b\[[0-9;]*m)*")
"""Colours, and the process that Ray names before a line."""
_NOISE: Final = re.compile(
    r"Warning\b|\bWARN(ING)?\b|^W\d{4} |\.warn\(|^return func\(|\d%\||it/s\]|\d+% Completed|repeated \d+x across cluster"
)
_ERROR: Final = re.compile(r"(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Timeout|Lost|Unreachable)\b.*:")
"""The last line of a traceback."""
_TITLES: Final = {"coldstart": "cold start", "sft": "SFT", "evaluate": "evaluation"}


def title(phase: Phase) -> str:
    """A phase's name for people."""
    return _TITLES.get(phase.name, phase.title)


class Display:
    """Shows how far the attempt is that runs; everything a phase prints goes to its log."""

    def __init__(self, console: Console) -> None:
        self._terminal = console.is_terminal
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]:>9}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=console,
            disable=not self._terminal,
        )
        self._task = TaskID(0)
        self._last_line = 0.0

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, phase: Phase, attempt: int, log: Path) -> None:
        """A phase's attempt has started."""
        self._task = self._bars.add_task(title(phase), total=None, count="", detail="starting")
        self._last_line = time.monotonic()
        if not self._terminal:
            self.say(f"{title(phase)}: started, attempt {attempt}, log {log}")

    def refresh(self, phase: Phase, now: Progress | None) -> None:
        """Show how far the attempt is; None while it has not written that."""
        if now is None:
            return
        count, detail = f"{now.done}/{now.total}", now.note or now.title
        self._bars.update(self._task, completed=now.done, total=now.total, count=count, detail=escape(detail))
        if not self._terminal and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{title(phase)}: {count} {detail}")

    def end(self, phase: Phase, now: Progress | None, seconds: float, done: bool) -> None:
        """The attempt has ended."""
        self.refresh(phase, now)
        if done:
            self._bars.update(self._task, total=1, completed=1)
        else:
            still = self._bars.tasks[-1]  # a bar without a total would go on moving
            self._bars.update(self._task, description=f"{title(phase)} [yellow](not finished)", total=still.total or 1, detail="")
        self._bars.stop_task(self._task)
        if done and not self._terminal:
            self.say(f"{title(phase)}: done in {seconds:.0f} s")

    def say(self, text: str) -> None:
        """One line, above the bars."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log that are neither blank nor a warning, a bar or another message that no failure comes from."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    # A carriage return is where a progress bar in a log begins again.
    lines = [_BESIDE.sub("", line.rpartition("\r")[2]).strip() for line in text.split("\n")]
    return [line for line in lines if line and not _NOISE.search(line)][-count:]


def cause(lines: Sequence[str], exit_code: int | None) -> str | None:
    """The line that says why an attempt failed: the last error of a program, or what a phase printed for people at its end."""
    errors = [] if exit_code == EXIT_BAD_INPUT else [line for line in lines if _ERROR.match(line)]
    return next(reversed(errors or list(lines)), None)
