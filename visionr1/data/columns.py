"""Which column of a file holds what, and the texts in it: the names of the released layouts, or those that a source gives."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

from visionr1.data.badrow import BadRow, Kind, one_line, what
from visionr1.data.json_rows import LOOKED_AT, Cells
from visionr1.data.options import OPTIONS_COLUMNS
from visionr1.data.rows import IMAGE_MARK
from visionr1.data.sources import Table
from visionr1.errors import BadInput
from visionr1.recipe.source import Columns

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "problem": ("problem", "question"),
    "answer": ("answer",),
    "images": ("images", "image"),
    "options": OPTIONS_COLUMNS,
    "conversations": ("conversations",),
    "response": ("response",),
}
"""Where a field is read if the source does not say; of several columns, the first that the row has."""
_ROLES: Final = (("human", "gpt"), ("user", "assistant"))
"""Who speaks in the LLaVA-CoT and in the Mulberry part of Vision-R1-cold."""
_ANSWER: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def cell(cells: Cells, columns: Columns | None, field: str) -> Any:
    """What a row holds in the column of `field`; None if it has no such column, or nothing in it."""
    named = None if columns is None else getattr(columns, field)
    if named is not None:
        return _at(cells, named)
    return next((cells[name] for name in USUAL[field] if cells.get(name) not in (None, [])), None)


def _at(cells: Cells, name: str) -> Any:
    """The value in a column, or below one: `reward_model.ground_truth`."""
    if name in cells:
        return cells[name]
    value: Any = cells
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def require_problems(table: Table, columns: Columns | None) -> None:
    """Raises BadInput if a table of problems lacks a column that is needed or named, or if one is named that nothing reads."""
    _require(table, columns, ("problem", "answer"), ("images", "options"))


def require_samples(table: Table, columns: Columns | None) -> None:
    """As `require_problems`, of chains of thought."""
    _require(table, columns, ("problem", "response") if _in_two_columns(columns) else ("conversations",), ("images",))


def _in_two_columns(columns: Columns | None) -> bool:
    """Whether problem and response of a chain of thought have a column each."""
    return columns is not None and bool(columns.problem or columns.response)


def _require(table: Table, columns: Columns | None, needed: Sequence[str], optional: Sequence[str]) -> None:
    named = columns.model_dump(exclude_none=True) if columns else {}
    for field, name in named.items():
        if field not in (*needed, *optional):
            raise BadInput(f"columns.{field}: nothing reads it here; name columns for {', '.join((*needed, *optional))}")
        if name not in table.columns:
            _require_below(table, field, name)
    for field in needed:
        if field not in named and not set(USUAL[field]) & set(table.columns):
            raise BadInput(_lacking(table, USUAL[field]))


def _lacking(table: Table, names: Sequence[str]) -> str:
    near = get_close_matches(names[0], table.columns, n=1)
    hint = f"; is {near[0]!r} the {names[0]}?" if near else "."
    return (
        f"{table.name} has no column {' or '.join(map(repr, names))}, only {_listed(table.columns)}{hint}"
        " Columns are images, problem and answer, or image and conversations for chains of thought; others are named by `columns`"
    )


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(map(repr, names)))


def _require_below(table: Table, field: str, name: str) -> None:
    """A name with dots must be found in one of the first rows; a column that is empty in all of them may be filled later."""
    first, *rest = name.split(".")
    if first not in table.columns or not rest:
        raise BadInput(f"columns.{field}: {table.name} has no column {one_line(name)!r}, only {_listed(table.columns)}")
    keys: Sequence[str] = ()
    for cells in _first_rows(table):
        value: Any = cells
        for key in (first, *rest):
            if value is None:
                return
            if not isinstance(value, dict) or key not in value:
                keys = tuple(value) if isinstance(value, dict) else ()
                break
            value = value[key]
        else:
            return
    there = f"only {_listed(keys)}" if keys else "and nothing with names at that place"
    raise BadInput(f"columns.{field}: {table.name} has no {one_line(name)!r} in its column {first!r}, {there}")


def _first_rows(table: Table) -> Iterator[Cells]:
    for index in range(min(table.size, LOOKED_AT)):
        try:
            yield table.cells(index)
        except BadRow:
            continue


def problem_text(row_id: str, cells: Cells, columns: Columns | None) -> str:
    """The problem: text, or a list of messages with one from the user (a system message gives way to the recipe's own)."""
    value = cell(cells, columns, "problem")
    if isinstance(value, list) and (turns := _turns(value)):
        asked = [text for role, text in turns if role in ("user", "human")]
        if len(asked) != 1:
            raise BadRow(row_id, "row malformed", f"the problem has {len(asked)} messages from the user; it must have one")
        value = asked[0]
    if not isinstance(value, str):
        raise BadRow(row_id, "row malformed", f"the problem is {what(value)}, not text")
    return value


def answer_text(row_id: str, cells: Cells, columns: Columns | None) -> str:
    """The answer: text or a number; of a text with an answer block, what is in the block."""
    answer = cell(cells, columns, "answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float | Decimal):
        kind: Kind = "answer missing" if answer is None else "row malformed"
        raise BadRow(row_id, kind, f"the answer is {what(answer)}, not text")
    if isinstance(answer, float | Decimal) and not math.isfinite(answer):
        raise BadRow(row_id, "answer missing", f"the answer is {answer}, which is not a number")
    text = format(answer, "f") if isinstance(answer, Decimal) else str(answer)
    blocks = _ANSWER.findall(text)
    if len(blocks) > 1:
        raise BadRow(row_id, "answer unreadable", f"the answer has {len(blocks)} answer blocks")
    return blocks[0].strip() if blocks else text


def turn_texts(row_id: str, cells: Cells, columns: Columns | None) -> tuple[str, str]:
    """Problem and response of a chain of thought: two turns, or a column for each."""
    if _in_two_columns(columns):
        response = cell(cells, columns, "response")
        if not isinstance(response, str):
            kind: Kind = "answer missing" if response is None else "row malformed"
            raise BadRow(row_id, kind, f"the response is {what(response)}, not text")
        return problem_text(row_id, cells, columns), response
    value = cell(cells, columns, "conversations")
    turns = _turns(value) if isinstance(value, list) else None
    if turns is None:
        raise BadRow(row_id, "row malformed", "conversations is not a list of turns")
    if columns is not None and turns and turns[0][0] == "system":
        turns = turns[1:]
    roles = tuple(role for role, _ in turns)
    if roles not in _ROLES:
        shown = ", ".join(map(str, roles))
        raise BadRow(row_id, "row malformed", f"turns from {shown}; a sample has one turn of human, then one of gpt")
    problem, response = (text for _, text in turns)
    return problem, response


def _turns(value: list[Any]) -> list[tuple[Any, str]] | None:
    """Roles and texts of messages in the forms of ShareGPT (`from`, `value`) and OpenAI (`role`, `content`); None for others."""
    turns = []
    for turn in value:
        if not isinstance(turn, dict):
            return None
        role, text = (turn.get("from"), turn.get("value")) if "from" in turn else (turn.get("role"), turn.get("content"))
        text = _joined(text) if isinstance(text, list) else text
        if not isinstance(text, str):
            return None
        turns.append((role, text))
    return turns


def _joined(parts: list[Any]) -> str | None:
    """The text of a message that comes in parts, with a mark for each image; None for parts of other kinds."""
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        text = IMAGE_MARK if kind == "image" else part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def with_marks(problem: str, images: int, columns: Columns | None) -> str:
    """The problem with a mark for each image: other projects' files often have none, and their images come first."""
    if columns is None or IMAGE_MARK in problem:
        return problem
    return IMAGE_MARK * images + problem
