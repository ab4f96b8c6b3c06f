"""A benchmark's problems from its published files, row by row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Final

from visionr1.benchmarks.problem import Benchmark, Column, Problem
from visionr1.data.badrow import BadRow, one_line, what
from visionr1.data.json_rows import Cells
from visionr1.data.pictures import image_items, read_images
from visionr1.data.readers import Lazy
from visionr1.data.rows import IMAGE_MARK, Row
from visionr1.data.sources import Table, open_tables
from visionr1.errors import BadInput

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "text": (str,),
    "number": (int, float),
    "texts": (list, tuple),
    "picture": (str, bytes, dict, list),
    "any": (object,),
}
_FIELD: Final = re.compile(r"\{(question|options|reply|truth|answer)\}")


def load_benchmark(
    benchmark: Benchmark, path: str | None, image_root: str | None = None, limit: int | None = None
) -> Sequence[Problem]:
    """The problems in the files at `path` (as `visionr1.data.sources.open_tables`; None: on the Hub), read only when asked for.

    Raises BadInput if there is no such file, or if one lacks a column; reading problem i raises BadRow if its row is damaged.
    """
    tables = [table for one in ((path,) if path else benchmark.sources) for table in open_tables(one, image_root)]
    names = [_names(benchmark, table) for table in tables]
    places = [(number, place) for number, table in enumerate(tables) for place in range(table.size)][:limit]

    def problem(index: int) -> Problem:
        number, place = places[index]
        return _problem(benchmark, tables[number], names[number], place)

    return Lazy(len(places), problem)


def _names(benchmark: Benchmark, table: Table) -> dict[str, tuple[str, ...]]:
    """The columns that a table has of each that the set reads. Raises BadInput for one that is missing."""
    found = {name: tuple(one for one in column.names if one in table.columns) for name, column in benchmark.columns.items()}
    for name, column in benchmark.columns.items():
        if column.needed and not found[name]:
            near = get_close_matches(column.names[0], table.columns, n=1)
            hint = f"; is {near[0]!r} the {name}?" if near else ""
            wanted = " or ".join(map(repr, column.names))
            there = one_line(", ".join(map(repr, table.columns)))
            raise BadInput(
                f"{table.name} has no column {wanted}, which {benchmark.title} has; it has only {there}{hint} "
                "(docs/benchmarks.md lists the files that are read)"
            )
    return found


def _problem(benchmark: Benchmark, table: Table, names: Mapping[str, tuple[str, ...]], place: int) -> Problem:
    row_id = f"{table.name}#{place}"
    row = table.cells(place)
    cells = {name: _cell(row_id, name, column, row, names[name]) for name, column in benchmark.columns.items()}
    try:
        draft = benchmark.draft(cells, place)
    except ValueError as error:
        raise BadRow(row_id, "row malformed", str(error)) from None
    row_id = f"{table.name}#{draft.id}"
    text = filled(benchmark.name, question=draft.question.replace(IMAGE_MARK, " "), options=draft.options)
    prompt = IMAGE_MARK + text
    images = read_images(row_id, prompt, image_items(draft.picture), table.pictures.read)
    facts = {name: cells[name] for name in cells if benchmark.columns[name].kind != "picture"}
    return Problem(Row(row_id, prompt, images, draft.answer, draft.choices), draft.question, facts)


def _cell(row_id: str, name: str, column: Column, row: Cells, names: Sequence[str]) -> Any:
    value = next((row[one] for one in names if row.get(one) is not None), None)
    if value is None:
        if column.needed:
            raise BadRow(row_id, "row malformed", f"{name} is missing")
        return None
    if isinstance(value, bool) or not isinstance(value, _KINDS[column.kind]):
        raise BadRow(row_id, "row malformed", f"{name} is {what(value)}, which is no {column.kind}")
    if isinstance(value, list | tuple) and column.kind == "texts" and not all(isinstance(one, str) for one in value):
        raise BadRow(row_id, "row malformed", f"{name} is a list with something else than texts in it")
    return value


@cache
def prompt_template(name: str) -> str:
    """The text that a set's problems are asked with."""
    return (files("visionr1.benchmarks") / "prompts" / f"{name}.txt").read_text("utf-8").rstrip("\n")


def filled(name: str, **fields: str) -> str:
    """A prompt: the lines of its template, without the line of options where a problem has none."""
    lines = [line for line in prompt_template(name).split("\n") if line != "{options}" or fields["options"]]
    return _FIELD.sub(lambda field: fields[field[1]], "\n".join(lines))
