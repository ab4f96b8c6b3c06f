"""What a training step reports, in SFT and in GRPO: a log record, metrics, a line on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from visionr1.metrics.exporter import Exporter
from visionr1.progress import Advance
from visionr1.rundir.layout import STEPS
from visionr1.rundir.steplog import StepLog
from visionr1.storage import Background, Store


class Clock:
    """Seconds of each part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measures the block as `part` of the step, in seconds."""
        begun = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - begun

    def rounded(self) -> dict[str, float]:
        """As a step's record has them."""
        return {part: round(value, 4) for part, value in self.seconds.items()}


class Journal:
    """Writes each step of a phase to steps.jsonl, to /metrics and to the terminal."""

    def __init__(self, store: Store, log: StepLog, exporter: Exporter, advance: Advance) -> None:
        self._store, self._log, self._exporter, self._advance = store, log, exporter, advance
        self._storing = Background("journal")
        self._resumes_from = log.resumes_from

    def write(
        self, record: dict[str, Any], line: str, *, own: Mapping[str, Any], store_first: Callable[[], object] = lambda: None
    ) -> None:
        """Records one step everywhere. On S3 it is stored while the next step runs; see `flush`.

        Args:
            record: the step's record, keyed as in `visionr1.metrics`.
            line: for the terminal.
            own: what /metrics says of this process, in the place of the record's value of all.
            store_first: stores what must be there before the record.

        Raises:
            StorageError: the step before could not be stored, or a local disk cannot take this one.
        """
        if self._resumes_from is not None:
            record = record | {"pause_seconds": pause_seconds(self._resumes_from, record)}
            self._resumes_from = None

        def store() -> None:
            store_first()
            self._log.append(record)

        self._storing.start(store)
        if self._store.local_path(STEPS) is not None:
            self.flush()
        self._exporter.update(record | dict(own))
        self._advance(1, line)

    def flush(self) -> None:
        """Returns when all steps are stored; raises what kept one from it."""
        self._storing.wait()


def pause_seconds(before: float, record: Mapping[str, Any]) -> float:
    """What a loss or a stop has cost: seconds from the end of the newest kept step (Unix time) to the begin of this record's."""
    return round(max(0.0, record["time"] - sum(record["step_seconds"].values()) - before), 3)


def resident_bytes() -> int:
    """Host memory of this process."""
    return int(psutil.Process().memory_info().rss)
