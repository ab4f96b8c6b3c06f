"""progress.json: how far an attempt is now, written by its process and shown by whoever looks at the run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from visionr1.rundir.layout import PROGRESS, progress_key
from visionr1.rundir.reading import Step, read_json
from visionr1.storage import NotFound, Store


@dataclass(frozen=True)
class Progress:
    """What is done, how many of how many, and a word about the newest, such as its reward."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    title: str
    done: Step
    total: Step
    note: str


_PROGRESS: Final = TypeAdapter(Progress)


def write_progress(folder: Path, now: Progress) -> None:
    """Replaces the progress in an attempt's folder in one move; only the newest counts, so it need not be on the disk."""
    # Ranks of one group say the same; each has its own temporary file, so that a reader never sees half of one.
    temporary = folder / f".{PROGRESS}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(now)))
    temporary.replace(folder / PROGRESS)


def read_progress(store: Store, phase: str, attempt: int) -> Progress | None:
    """What an attempt has written last; None before the first time.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        return read_json(store, progress_key(phase, attempt), _PROGRESS, "not the progress of an attempt; delete it")
    except NotFound:
        return None
