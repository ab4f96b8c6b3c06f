"""Rows of a .jsonl or .json file, parsed one at a time: only their places are held, and the file is mapped into memory."""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from visionr1.data.badrow import BadRow
from visionr1.data.regular import open_file
from visionr1.errors import BadInput

LOOKED_AT: Final = 100
"""Rows, from the first, that tell which columns a file has."""
_LONGEST_INTEGER: Final = 4000
"""Digits. Longer integers stay text: Python refuses to convert very long ones, because that takes long."""
_BLANK: Final = " \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Cells = Mapping[str, Any]


class JsonRows:
    """The rows of one file: an object a line in .jsonl; in .json an array of objects, or an object of objects (MathVista).

    Raises BadInput for a file without rows, and for a .json file that is damaged.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with open_file(file) as opened:
            self._spans = array("Q")
            """Begin and end of each row, in bytes."""
            for begin, end in _lines(file, opened) if file.suffix == ".jsonl" else _members(file, opened.read()):
                self._spans.extend((begin, end))
            self._text = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._spans) // 2

    def cells(self, index: int) -> Cells:
        """A row. Raises BadRow for one that is damaged."""
        row_id = f"{self._file.name}#{index}"
        begin, end = self._spans[2 * index : 2 * index + 2]
        try:
            row = parsed(self._text[begin:end])
        except (ValueError, RecursionError) as error:
            raise BadRow(row_id, "row malformed", f"not JSON in UTF-8 ({error})") from None
        if isinstance(row, dict):
            return row
        if isinstance(row, RepeatedKey):
            raise BadRow(row_id, "row malformed", f"the key {row.key} is given twice")
        raise BadRow(row_id, "row malformed", f"a row must be a JSON object, but this one is a {type(row).__name__}")

    def columns(self) -> tuple[str, ...]:
        """Every name in the first rows. Raises BadInput if none of them can be read."""
        names: dict[str, None] = {}
        last = ""
        for index in range(min(len(self), LOOKED_AT)):
            try:
                names |= dict.fromkeys(self.cells(index))
            except BadRow as error:
                last = last or str(error)
        if not names and last:
            raise BadInput(f"{self._file} has no readable row among its first {min(len(self), LOOKED_AT)}; an error: {last}")
        return tuple(names)


def _lines(file: Path, opened: BinaryIO) -> Iterator[tuple[int, int]]:
    position = rows = 0
    first = b""
    for line in opened:
        if line.strip():
            first, rows = first or line.strip(), rows + 1
            yield position, position + len(line)
        position += len(line)
    if not rows:
        raise BadInput(f"{file} is empty")
    if first == b"[" or (first.startswith(b"[{") and first.endswith(b"]" if rows == 1 else b",")):
        raise BadInput(f"{file} is a JSON array; name it .json, or write one object per line")
    if first == b"{":
        raise BadInput(f"{file} has objects over several lines; write each object in one line")


@dataclass(frozen=True)
class RepeatedKey:
    """Stands in the place of a JSON object that gives a key twice: which of its values is meant nobody knows."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | RepeatedKey:
    cells = dict(pairs)
    if len(cells) == len(pairs):
        return cells
    names = [name for name, _ in pairs]
    return RepeatedKey(next(name for place, name in enumerate(names) if name in names[:place]))


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_INTEGER else digits,
)


def parsed(data: bytes) -> Any:
    """JSON in UTF-8; integers too long to be numbers stay text. Raises ValueError or RecursionError."""
    return _DECODER.decode(data.decode("utf-8-sig"))


def _members(file: Path, data: bytes) -> list[tuple[int, int]]:
    """Places of the rows in a .json file."""
    try:
        text = data.decode("utf-8-sig")
        spans, kind = _member_spans(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is not JSON in UTF-8 ({error}); is it a .jsonl file?") from None
    if not spans:
        raise BadInput(f"{file} must be a JSON array of rows, not {kind}")
    shift = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    return list(_in_bytes(text, spans, shift))


def _member_spans(text: str) -> tuple[list[tuple[int, int]], str]:
    """Begin and end of each row, in characters; for a text that is not made of rows none, and what it is in words."""
    start = _after_blanks(text, 0)
    opening = text[start : start + 1]
    closing = {"[": "]", "{": "}"}.get(opening)
    if closing is None:
        return [], type(_DECODER.decode(text)).__name__
    spans: list[tuple[int, int]] = []
    rows = True
    place = _after_blanks(text, start + 1)
    more = text[place : place + 1] != closing
    while more:
        if opening == "{":
            key, place = _DECODER.raw_decode(text, place)
            rows = rows and isinstance(key, str)
            place = _expect(text, place, ":")
        value, end = _DECODER.raw_decode(text, place)
        rows = rows and (opening == "[" or isinstance(value, dict | RepeatedKey))
        spans.append((place, end))
        place = _after_blanks(text, end)
        more = text[place : place + 1] != closing
        place = _expect(text, place, ",") if more else place
    if text[place + 1 :].strip(_BLANK):
        raise json.JSONDecodeError("Extra data", text, place + 1)
    return spans if rows else [], "an empty one" if opening == "[" else "dict"


def _after_blanks(text: str, place: int) -> int:
    while text[place : place + 1] in _BLANK and place < len(text):
        place += 1
    return place


def _expect(text: str, place: int, sign: str) -> int:
    """The place of what comes after the sign."""
    place = _after_blanks(text, place)
    if text[place : place + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, place)
    return _after_blanks(text, place + 1)


def _in_bytes(text: str, spans: list[tuple[int, int]], shift: int) -> Iterator[tuple[int, int]]:
    before = position = 0
    for begin, end in spans:
        start = shift + before + len(text[position:begin].encode())
        before, position = start - shift + len(text[begin:end].encode()), end
        yield start, before + shift
