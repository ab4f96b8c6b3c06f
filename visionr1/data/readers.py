"""Problems and samples from their sources, row by row, in the layouts that Vision-R1 released."""

from __future__ import annotations

import base64
import binascii
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, Final, Generic, TypeVar, overload

from visionr1.data.badrow import BadRow, Kind, is_clean, one_line
from visionr1.data.options import OPTIONS_COLUMNS, read_options
from visionr1.data.rows import IMAGE_MARK, MAX_IMAGES, Row, Sample
from visionr1.data.sources import Cells, OpenPath, Table, open_tables
from visionr1.errors import BadInput
from visionr1.recipe.schema import Source

T = TypeVar("T")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]+={0,2}")
_LONGEST_PATH: Final = 255

PROBLEM_COLUMNS: Final = ("problem", "question")
IMAGE_COLUMNS: Final = ("images", "image")
TURNS_COLUMN: Final = "conversations"
ROLES: Final = (("human", "gpt"), ("user", "assistant"))
"""Who speaks in the LLaVA-CoT and in the Mulberry part of Vision-R1-cold."""


class Lazy(Sequence[T], Generic[T]):
    """Rows that are read only when asked for. A damaged row raises BadRow, and does not affect the others."""

    def __init__(self, size: int, make: Callable[[int], T]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(place) for place in range(*index.indices(self._size))]
        return self._make(range(self._size)[index])


def select(rows: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """The rows at `indices`, still read only when asked for."""
    return Lazy(len(indices), lambda place: rows[indices[place]])


def load_problems(source: Source) -> Sequence[Row]:
    """Problems in the geometry3k / Vision-R1-rl layout: `images` (or `image`), `problem` (or `question`), `answer`.

    `options` (or `choices`), if there, give the grader the texts of a multiple choice (`visionr1.data.options`).
    Reading row i raises BadRow if that row is damaged; here only what spoils all rows raises BadInput. A row id is
    `<file>#<place>`, counted from 0. Images are encoded files, unopened: see `check_problems`.
    """
    if source.path.startswith("demo://"):
        rows = _demo(source.path)
        return select(rows, range(min(len(rows), source.limit or len(rows))))
    return _load(source, (PROBLEM_COLUMNS, ("answer",)), _problem)


def load_samples(source: Source) -> Sequence[Sample]:
    """Chains of thought in either sharegpt layout of Vision-R1-cold (`image` or `images`, `conversations` of two turns).

    Raises like `load_problems`.
    """
    return _load(source, ((TURNS_COLUMN,),), _sample)


def _demo(path: str) -> Sequence[Row]:
    name, _, split = path.removeprefix("demo://").partition("/")
    if name != "digits":
        raise BadInput(f"{path}: the demo has only digits; use demo://digits/train or demo://digits/held-out")
    # The one look upwards: the demo's rows exist only for this address, and nothing else here knows of it.
    from visionr1.data import digits

    return digits.problems(split)


def _load(source: Source, needed: Sequence[tuple[str, ...]], parse: Callable[[str, Cells, OpenPath], T]) -> Sequence[T]:
    tables = open_tables(source.path, source.image_root)
    for table in tables:
        _require(table, needed)
    ends = list(accumulate(table.size for table in tables))

    def make(index: int) -> T:
        number = bisect_right(ends, index)
        table = tables[number]
        place = index - (ends[number] - table.size)
        return parse(f"{table.name}#{place}", table.cells(place), table.open_path)

    return Lazy(min(ends[-1], source.limit or ends[-1]), make)


def _require(table: Table, needed: Sequence[tuple[str, ...]]) -> None:
    for names in needed:
        if not set(names) & set(table.columns):
            near = get_close_matches(names[0], table.columns, n=1)
            hint = f"; is {near[0]!r} the {names[0]}?" if near else "."
            columns = one_line(", ".join(map(repr, table.columns)))
            raise BadInput(
                f"{table.name} has no column {' or '.join(map(repr, names))}, only {columns}{hint}"
                " Columns are images, problem and answer, or image and conversations for chains of thought"
            )


def _problem(row_id: str, cells: Cells, open_path: OpenPath) -> Row:
    problem = next((cells[name] for name in PROBLEM_COLUMNS if cells.get(name) is not None), None)
    if not isinstance(problem, str):
        raise BadRow(row_id, "row malformed", f"the problem is {_named(problem)}, not text")
    answer = cells.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float | Decimal):
        kind: Kind = "answer missing" if answer is None else "row malformed"
        raise BadRow(row_id, kind, f"the answer is {_named(answer)}, not text")
    if isinstance(answer, float | Decimal) and not math.isfinite(answer):
        raise BadRow(row_id, "answer missing", f"the answer is {answer}, which is not a number")
    options = next((cells[name] for name in OPTIONS_COLUMNS if cells.get(name) is not None), None)
    return Row(row_id, problem, _images(row_id, problem, cells, open_path), str(answer), read_options(options))


def _sample(row_id: str, cells: Cells, open_path: OpenPath) -> Sample:
    turns = cells.get(TURNS_COLUMN)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRow(row_id, "row malformed", "conversations is not a list of turns")
    roles = tuple(turn.get("from") for turn in turns)
    texts = [turn.get("value") for turn in turns]
    if roles not in ROLES or not all(isinstance(text, str) for text in texts):
        raise BadRow(
            row_id, "row malformed", f"turns from {', '.join(map(str, roles))}; a sample has one turn of human, then one of gpt"
        )
    return Sample(row_id, texts[0], _images(row_id, texts[0], cells, open_path), texts[1])


def _images(row_id: str, problem: str, cells: Cells, open_path: OpenPath) -> tuple[bytes, ...]:
    """The images, read only if their number is right: a row may name a large file any number of times."""
    cell: Any = next((cells[name] for name in IMAGE_COLUMNS if cells.get(name) not in (None, [])), [])
    items = cell if isinstance(cell, list) else [cell]
    marks, images = problem.count(IMAGE_MARK), len(items)
    if marks != images:
        raise BadRow(row_id, "image marks", f"{marks} {IMAGE_MARK} in the problem, {images} image{'' if images == 1 else 's'}")
    if images > MAX_IMAGES:
        raise BadRow(row_id, "too many images", f"{images} images, over {MAX_IMAGES}")
    return tuple(_image(row_id, item, open_path) for item in items)


def _image(row_id: str, item: Any, open_path: OpenPath) -> bytes:
    """An image is bytes, a path, a data address, or a struct of bytes and path as Hugging Face stores it."""
    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str) or not item or not is_clean(item):
        raise BadRow(row_id, "row malformed", f"an image is {_named(item)}, not a path or bytes")
    if item.startswith("data:"):
        return _from_data_address(row_id, item)
    if _ADDRESS.match(item):
        raise BadRow(row_id, "image path", f"{item} is an address; images are not fetched, so download it and give its path")
    if len(item) > _LONGEST_PATH and _BASE64.fullmatch(item):
        raise BadRow(row_id, "image missing", "the image looks like base64; write data:image/png;base64, before it")
    try:
        return open_path(item)
    except FileNotFoundError as error:
        raise BadRow(row_id, "image missing", str(error)) from None
    except PermissionError as error:
        raise BadRow(row_id, "image path", str(error)) from None


def _from_data_address(row_id: str, address: str) -> bytes:
    """The file in `data:image/png;base64,...` (RFC 2397)."""
    head, comma, text = address.partition(",")
    try:
        if comma and head.endswith(";base64"):
            return base64.b64decode(text, validate=True)
    except binascii.Error:
        pass
    raise BadRow(row_id, "image unreadable", f"a data address is data:image/png;base64,..., this one is {address[:40]}...")


def _named(value: object) -> str:
    """What a cell has instead of what it should have, as text."""
    names = {
        str: "unusable text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a group of keys",
    }
    return "missing" if value is None else names.get(type(value), "something else")
