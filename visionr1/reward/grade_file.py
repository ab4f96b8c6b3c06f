"""`visionr1 grade FILE.jsonl`: grade the responses of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from visionr1.data.options import OPTIONS_COLUMNS, read_options
from visionr1.errors import BadInput
from visionr1.recipe.reward import Reward
from visionr1.reward.explain import explained
from visionr1.reward.grader import Grader

_ROWS_AT_A_TIME: Final = 1000


@dataclass(frozen=True)
class FileGrades:
    """Graded rows, their mean reward and its parts, and one message for each line that could not be read."""

    rows: int
    overall: float
    format: float
    accuracy: float
    bad_lines: list[str]


@dataclass(frozen=True)
class _Line:
    number: int
    response: str
    answer: str
    options: tuple[str, ...]


def grade_file(path: Path, settings: Reward, write: Callable[[str], None], explain: bool = False) -> FileGrades:
    """Grade each line's `response` against its `answer`, and its `options` (or `choices`) if it has some.

    `write` gets one JSON text per row: line, overall, format, accuracy, answer (as read), reason, rule; with `explain` a block of
    lines for people instead. Lines that are no such row are left out and named in the result. Raises BadInput if the file cannot
    be read.
    """
    bad_lines: list[str] = []
    sums = {"overall": 0.0, "format": 0.0, "accuracy": 0.0}
    count = 0
    with Grader(settings) as grader:
        for lines in _portions(_lines(path, bad_lines)):
            grades = grader.grade(
                [line.response for line in lines], [line.answer for line in lines], options=[line.options for line in lines]
            )
            for line, grade in zip(lines, grades, strict=True):
                if explain:
                    write(explained(f"line {line.number}", grade, line.answer, line.options))
                else:
                    write(json.dumps({"line": line.number} | asdict(grade), ensure_ascii=False))
                sums = {part: total + getattr(grade, part) for part, total in sums.items()}
                count += 1
    return FileGrades(count, **{part: total / max(count, 1) for part, total in sums.items()}, bad_lines=bad_lines)


def _portions(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    while portion := list(islice(lines, _ROWS_AT_A_TIME)):
        yield portion


def _lines(path: Path, bad_lines: list[str]) -> Iterator[_Line]:
    try:
        raw_lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    shown = track(raw_lines, "grading", console=Console(stderr=True), transient=True)
    for number, raw in enumerate(shown, start=1):
        if raw.strip():
            try:
                yield _line(number, raw)
            except ValueError as error:
                bad_lines.append(f"{path}:{number}: {error}")


def _line(number: int, raw: bytes) -> _Line:
    try:
        row = json.loads(raw)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object with response and answer")
    for key in ("response", "answer"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"{key!r} is {'missing' if key not in row else 'not a string'}")
    options = next((row[name] for name in OPTIONS_COLUMNS if row.get(name) is not None), None)
    return _Line(number, row["response"], row["answer"], read_options(options))
