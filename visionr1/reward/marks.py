"""Answers that are several marks in any order: letters (`AC`, `A, C`) and circled numbers (`①③`)."""

from __future__ import annotations

import re
from typing import Final

_JOINT: Final = r" ?(?:[,;] ?(?:and )?|and) ?| "
_SEVERAL_LETTERS: Final = re.compile(rf"[(\[{{]?\(?[A-J]\)?(?:(?:{_JOINT})\(?[A-J]\)?)+[)\]}}]?")
_LETTERS_IN_A_ROW: Final = re.compile(r"[A-J]{2,10}")
_CIRCLED: Final = re.compile(rf"(?:[①-⑳](?:{_JOINT})?)+")


def same_marks(given: str, true: str) -> bool | None:
    """Whether both have the same marks; None if the truth is no row of marks, or the answer may be one in algebra.

    A truth of letters without anything between them is several choices only if they are in order: `AC`, not `CA`.
    """
    marks = _circled(true)
    if marks:
        return _circled(given) == marks
    letters = _letters(true)
    if not letters or (_LETTERS_IN_A_ROW.fullmatch(true) and list(true) != sorted(true)):
        return None
    chosen = _letters(given)
    return None if chosen is None else chosen == letters


def _circled(text: str) -> list[str] | None:
    return sorted(re.findall("[①-⑳]", text)) if _CIRCLED.fullmatch(text) else None


def _letters(text: str) -> list[str] | None:
    if not (_SEVERAL_LETTERS.fullmatch(text) or _LETTERS_IN_A_ROW.fullmatch(text)):
        return None
    letters = sorted(re.findall("[A-J]", text))
    return letters if len(set(letters)) == len(letters) else None
