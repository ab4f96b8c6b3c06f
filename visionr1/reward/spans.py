"""Ranges and dates: `0-5`, `20-30%`, `1990-2000` and `04/02/2005` are no subtractions and no divisions."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, NamedTuple

from visionr1.reward.units import Unit, read_unit

_NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d{1,30})?|\d{1,30}(?:\.\d{1,30})?|\.\d{1,30}"
_RANGE: Final = re.compile(
    rf"(?P<word>from |between )?(?:(?P<currency>USD|[€£¥₹]) ?)?(?P<first>{_NUMBER}) ?(?P<unit>[^\d\s-][^\d-]{{0,30}}?)?"
    rf" ?(?P<joint>-|to|and) ?(?:(?:USD|[€£¥₹]) ?)?(?P<last>{_NUMBER})(?P<tail> ?[^\d\s-].{{0,40}})?"
)
_DATE: Final = re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}")


class _Range(NamedTuple):
    first: Fraction
    last: Fraction
    unit: Unit | None


def same_range(given: str, true: str) -> bool | None:
    """Whether both are the same range, in the same unit or without one; None if the truth is no range."""
    true_range = _range(true)
    if true_range is None:
        return None
    given_range = _range(given)
    if given_range is None or given_range[:2] != true_range[:2]:
        return False
    if given_range.unit is None or true_range.unit is None:
        return True
    return given_range.unit.per(true_range.unit) == 1


def same_date(given: str, true: str) -> bool | None:
    """Whether both are the same numbers of a date in the same order; None if the truth is no date."""
    if not _DATE.fullmatch(true):
        return None
    return _DATE.fullmatch(given) is not None and _numbers(given) == _numbers(true)


def _range(text: str) -> _Range | None:
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    if (found["joint"] == "and") != (found["word"] == "between "):
        return None
    if re.fullmatch("[A-Za-z]", found["tail"] or ""):
        return None  # `5-2m` is algebra.
    names = [name.strip() for name in (found["currency"], found["unit"], found["tail"]) if name]
    units = [read_unit(name) for name in names]
    if None in units or len({unit.name for unit in units if unit}) > 1:
        return None
    return _Range(_value(found["first"]), _value(found["last"]), units[0] if units else None)


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
