"""Shows bytes that take a while to move or check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from visionr1.storage.store import Moved

SILENT_BELOW: Final = 256 << 20
"""Fewer bytes than these are done before anybody asks."""


@contextmanager
def showing(title: str, total: int) -> Iterator[Moved]:
    """Yields the function that counts moved bytes. Shows a bar on a terminal, else a line before and one after."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn()
    if total >= SILENT_BELOW and not console.is_terminal:
        console.print(f"{title}: {decimal(total)}")
    with Progress(*columns, console=console, transient=console.is_terminal, disable=total < SILENT_BELOW) as progress:
        task = progress.add_task(title, total=total)
        yield lambda moved: progress.advance(task, moved)
