"""Ratios: `3:4` is `6:8` and 3/4, `1:2:3` is `2:4:6`. What looks like a clock time is one (`visionr1.reward.clock`)."""

from __future__ import annotations

import re
from typing import Final

from visionr1.reward.maths import is_maths, same_algebra
from visionr1.reward.quantity import number, numbers_equal
from visionr1.reward.text import split_top, squeezed
from visionr1.reward.verdict import Ask, every

_COLON: Final = re.compile(":")


def same_ratio(given: str, true: str, ask: Ask) -> bool | None:
    """Whether both are the same ratio of two or more parts; None if the truth is no ratio.

    Of a truth with two parts, an answer may be the quotient: 0.75 is 3:4.
    """
    true_parts = _parts(true)
    if len(true_parts) < 2:
        return None
    parts = _parts(given.replace(" to ", ":"))
    value, true_value = number(squeezed(given)), number(squeezed(true))
    if value is not None and true_value is not None:
        return numbers_equal(value, true_value)
    if len(true_parts) == 2 and len(parts) == 1:
        return same_algebra(given, f"({true_parts[0]})/({true_parts[1]})", ask)
    if len(parts) != len(true_parts):
        return False
    return every(
        _same_products(parts[0], true_part, part, true_parts[0], ask)
        for part, true_part in zip(parts[1:], true_parts[1:], strict=True)
    )


def _parts(text: str) -> list[str]:
    """Of `a:b:c`; only the text itself if a part is no mathematics."""
    parts = split_top(text, _COLON)
    return parts if text.count(":") == len(parts) - 1 and all(map(is_maths, parts)) else [text]


def _same_products(a: str, b: str, c: str, d: str, ask: Ask) -> bool | None:
    """Whether a * b = c * d."""
    values = [number(squeezed(part)) for part in (a, b, c, d)]
    numbers = [value.value for value in values if value is not None]
    if len(numbers) == 4:
        return numbers[0] * numbers[1] == numbers[2] * numbers[3] and bool(numbers[0] or numbers[3])
    return same_algebra(f"({a})*({b})", f"({c})*({d})", ask)
