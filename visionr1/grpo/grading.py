"""Grading a step's completions while engines still sample others."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from visionr1.data.rows import Row
from visionr1.reward import Grade, Grader
from visionr1.rollout.types import Reply

Part = Mapping[int, Sequence[Reply]]
"""Groups by the index of their row."""


class Grading:
    """Grades what was added, in a thread; grades are those of one call with all completions.

    A user's function gets the whole step in one call, because its grades may depend on the batch.

    Args:
        rows: of the step; the indices of the parts count them.
    """

    def __init__(self, grader: Grader, rows: Sequence[Row]) -> None:
        self._grader, self._rows = grader, rows
        self._thread = ThreadPoolExecutor(1, "grading")
        self._lock = threading.Lock()
        self._waiting: dict[int, Sequence[Reply]] = {}
        self._calls: list[Future[None]] = []
        self._grades: dict[int, list[Grade]] = {}

    def add(self, part: Part) -> None:
        """Takes finished groups; returns at once."""
        with self._lock:
            self._waiting |= part
        if self._grader.in_parts:
            self._calls.append(self._thread.submit(self._grade_waiting))

    def grades(self) -> list[Grade]:
        """All grades, in the order of the rows; raises what grading raised."""
        self._calls.append(self._thread.submit(self._grade_waiting))
        for call in self._calls:
            call.result()
        return [grade for index in range(len(self._rows)) for grade in self._grades[index]]

    def _grade_waiting(self) -> None:
        """All groups that wait, in one call: an answer that takes long then holds up its own call only."""
        with self._lock:
            part, self._waiting = dict(sorted(self._waiting.items())), {}
        replies = [reply for group in part.values() for reply in group]
        asked = [self._rows[index] for index, group in part.items() for _ in group]
        grades = iter(
            self._grader.grade(
                [reply.text for reply in replies],
                [row.answer for row in asked],
                [len(reply.token_ids) for reply in replies],
                [row.options for row in asked],
            )
        )
        self._grades |= {index: [next(grades) for _ in group] for index, group in part.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=kind is None, cancel_futures=True)
