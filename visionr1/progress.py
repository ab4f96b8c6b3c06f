"""Progress of long work: a bar on a terminal, a line now and then in a log, a file for the local runner."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from visionr1.rundir.attempts import ATTEMPT
from visionr1.rundir.progress import Progress, write_progress

LINE_SECONDS: Final = 20.0
QUIET_SECONDS: Final = 2.0
_FILE_SECONDS: Final = 0.5


class Advance(Protocol):
    """Says that `n` more are done; `note` (such as the newest reward) is shown after the bar."""

    def __call__(self, n: int, note: str = "") -> None:
        """`n` more are done. `note` is shown after the bar."""


@contextmanager
def progress(title: str, total: int, completed: int = 0) -> Iterator[Advance]:
    """Shows on stderr how much of `total` is done; work that took under QUIET_SECONDS leaves a log empty."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bars(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=completed, note="")
            yield lambda n, note="": bar.update(task, advance=n, note=note)
        return

    began = last_line = last_file = time.monotonic()
    done = completed
    newest = ""
    _report(title, done, total, newest)

    def advance(n: int, note: str = "") -> None:
        nonlocal done, last_line, last_file, newest
        done, newest = done + n, note
        now = time.monotonic()
        if now - last_file >= _FILE_SECONDS or done >= total:
            last_file = now
            _report(title, done, total, newest)
        if now - last_line >= LINE_SECONDS:
            last_line = now
            print(f"{title}: {done} of {total}  {note}".rstrip(), file=sys.stderr, flush=True)

    yield advance
    if time.monotonic() - began >= QUIET_SECONDS:
        print(f"{title}: {done} of {total}, {time.monotonic() - began:.0f} s  {newest}".rstrip(), file=sys.stderr, flush=True)


def _report(title: str, done: int, total: int, note: str) -> None:
    """Write the file for the local runner, if one has started this process."""
    folder = os.environ.get(ATTEMPT)
    if folder is not None:
        write_progress(Path(folder), Progress(title, done, total, note))
