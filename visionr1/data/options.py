"""The options of a multiple choice, as data sets write them."""

from __future__ import annotations

import re
from typing import Final

LETTERS: Final = "ABCDEFGHIJ"
OPTIONS_COLUMNS: Final = ("options", "choices")
"""A row has its options in the first of these columns that it has."""


def read_options(cell: object) -> tuple[str, ...]:
    """The texts of a row's options without their letters, in order; () if there are none that can be read.

    A cell is a list of texts (MathVision, MathVista, geometry3k), letters with their texts (`{"A": "3 cm"}`), or one text with
    all of them (We-Math: `A. 3 cm; B. 4 cm; E. No correct answer`).
    """
    if isinstance(cell, dict):
        cell = [cell.get(letter) for letter in LETTERS[: len(cell)]]
    if isinstance(cell, str):
        cell = _parted(cell)
    if not isinstance(cell, list | tuple) or not 1 < len(cell) <= len(LETTERS):
        return ()
    texts = [str(item) for item in cell if isinstance(item, str | int | float) and not isinstance(item, bool)]
    return tuple(map(_unlabelled, texts, LETTERS)) if len(texts) == len(cell) else ()


def _parted(text: str) -> list[str]:
    """`A. 3 cm; B. 4 cm` at its labels, which must come in order; where semicolons or lines part them, only there."""
    parted = _labels(text, r"^|[;；\n]")
    labels = parted if len(parted) > 1 else _labels(text, r"^|[\s;；,，]")
    if not labels:
        return []
    ends = [*(found.start() for found in labels[1:]), len(text)]
    return [text[found.end() : end].strip(" \n\t;；,，") for found, end in zip(labels, ends, strict=True)]


def _labels(text: str, before: str) -> list[re.Match[str]]:
    labels = []
    place = 0
    for letter in LETTERS:
        found = re.compile(rf"(?:{before})\s*[(（]?{letter}[)）]?[.．、:：)]\s*").search(text, place)
        if found is None:
            break
        labels.append(found)
        place = found.end()
    return labels


def _unlabelled(text: str, letter: str) -> str:
    return re.sub(rf"^\s*(?:[(（]{letter}[)）][.．:：]?|{letter}[.．、:：)])\s*(?=\S)", "", text).strip()
