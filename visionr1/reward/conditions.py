"""Conditions on a variable: `x < 1 or x > 3`, `x >= 2 and x != 3`, `3 < x < 7`, and the intervals that mean the same."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from visionr1.reward.maths import is_maths, same_algebra, same_spelling
from visionr1.reward.text import split_top, squeezed
from visionr1.reward.verdict import Ask

_RELATION: Final = re.compile(r"[<>]|\\(?:le|ge|ne|in)(?![A-Za-z])")
_JOINT: Final = re.compile(r"[,;] ?(?:(?:or|and)(?![A-Za-z]))?|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|\\(?:cup|cap)(?![A-Za-z])")
_SET: Final = re.compile(r"[(\[].*[)\]]|\\\{.*\\\}")


class _Conditions(NamedTuple):
    """Parts with `or`, `and`, "" (a comma: not known) or "mixed" between them."""

    joint: str
    parts: list[str]


def same_conditions(given: str, true: str, ask: Ask) -> bool | None:
    """Whether both are true for the same values. Needs `is_condition` of one of them. A comma counts as `or` and as `and`."""
    given, true = _ascending(given), _ascending(true)
    conditions, true_conditions = _read(given), _read(true)
    if len(conditions.parts) == len(true_conditions.parts) == 1:
        return same_algebra(given, true, ask)
    joints = {conditions.joint, true_conditions.joint} - {""}
    pairwise: bool | None = False
    if len(joints) < 2 and "mixed" not in joints:
        pairwise = _pairwise(conditions.parts, true_conditions.parts, ask)
    if pairwise is not False or not (_is_set(conditions) and _is_set(true_conditions)):
        return pairwise
    return ask(_written(conditions), _written(true_conditions))


def _ascending(text: str) -> str:
    """`3 < x < 7` of `7 > x > 3`."""
    chain = re.split(r"(>|\\ge(?![A-Za-z]))", text)
    if len(chain) != 5 or _RELATION.search("".join(chain[::2])) or _JOINT.search(text):
        return text
    return " ".join({">": "<", r"\ge": r"\le"}.get(piece, piece.strip()) for piece in reversed(chain))


def is_condition(text: str) -> bool:
    """Whether the text has a relation, such as `x < 3`."""
    return _RELATION.search(text) is not None


def _read(text: str) -> _Conditions:
    parts = split_top(text, _JOINT)
    joints = {_named(joint) for joint in _JOINT.findall(_outside(text))}
    if len(parts) > 1 and all(_SET.fullmatch(part) for part in parts):
        return _Conditions("", [text])  # (-1,2)\cup(3,4) is one set.
    return _Conditions(joints.pop() if len(joints) == 1 else "mixed" if joints else "", parts)


def _outside(text: str) -> str:
    """`text` without what is in brackets."""
    while (shorter := re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "", text)) != text:
        text = shorter
    return text


def _named(joint: str) -> str:
    if "or" in joint or "cup" in joint:
        return "or"
    return "and" if "and" in joint or "cap" in joint else ""


def _pairwise(given: list[str], true: list[str], ask: Ask) -> bool | None:
    """Whether the parts are the same, in any order."""
    if len(given) != len(true):
        return False
    unsure = False
    for true_part in true:
        verdicts = [same_spelling(part, true_part) or same_algebra(part, true_part, ask) for part in given]
        if True in verdicts:
            given = [part for index, part in enumerate(given) if index != verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _is_set(conditions: _Conditions) -> bool:
    """Whether it is known how its parts are joined, and each can be read."""
    known = len(conditions.parts) == 1 or conditions.joint in ("or", "and")
    return known and all(is_maths(part) and (is_condition(part) or "=" in part or _SET.search(part)) for part in conditions.parts)


def _written(conditions: _Conditions) -> str:
    return f" {conditions.joint} ".join(map(squeezed, conditions.parts))
