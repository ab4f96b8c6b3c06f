"""Comparing numbers with their units, and expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, NamedTuple

from visionr1.reward.maths import same_algebra, same_spelling
from visionr1.reward.quantity import Number, number, numbers_equal, split_glued, split_unit, sum_of_units
from visionr1.reward.units import Unit
from visionr1.reward.verdict import Ask, Verdict

_COUNTED: Final = re.compile(
    r"(?P<count>[\d,. ]*\d) (?:[A-Za-z]{3,} )?(?:[A-Za-z]{2,}s|people|children|men|women|sheep|fish|mice)(?: per [a-z ]{3,30})?"
)
_NO_THINGS: Final = re.compile(r"hundred|thousand|illion|dozen|score|lakh|crore|hal(?:f|ves)|thirds|quarters|[a-z]{2}ths", re.I)


class _Reading(NamedTuple):
    """A number or expression with its unit; `glued` if a letter right behind it was taken for the unit."""

    magnitude: str
    unit: Unit | None
    glued: bool


def same_sum_of_units(given: str, true: str) -> Verdict | None:
    """Right if one is a sum of units (`2 h 30 min`) and the other the same quantity; else None."""
    sums = [sum_of_units(text) for text in (given, true)]
    if sums == [None, None]:
        return None
    (value, unit), (true_value, true_unit) = (found or _single(text) for found, text in zip(sums, (given, true), strict=True))
    factor = unit.per(true_unit) if unit and true_unit else None
    if value is None or true_value is None or factor is None:
        return None
    return Verdict(True, "sum of units") if value * factor == true_value else None


def same_quantity(given: str, true: str, ask: Ask) -> Verdict:
    """Numbers with or without a unit, and whatever else is mathematics. A unit may be left out, not contradicted."""
    counted = _COUNTED.fullmatch(true)
    if counted and not _NO_THINGS.search(true) and number(split_unit(true)[0]) is None:
        return _same_count(given, true, counted["count"])
    verdicts = [
        _compare(one, other, ask)
        for other in _readings(true)
        for one in _readings(given)
        # A letter directly after a number is a unit only if the other side is a number, never if it is algebra.
        if not one.glued or other.unit is not None or number(other.magnitude) is not None
    ]
    return next((verdict for verdict in verdicts if verdict.right), next((v for v in verdicts if v.right is None), verdicts[0]))


def _readings(text: str) -> Iterator[_Reading]:
    """The ways that the text may be meant: `34m` is 34 times m, or 34 metres."""
    magnitude, unit = split_unit(text)
    yield _Reading(magnitude, unit, glued=False)
    glued = split_glued(text) if unit is None else None
    if glued:
        yield _Reading(*glued, glued=True)


def _compare(given: _Reading, true: _Reading, ask: Ask) -> Verdict:
    magnitude, unit, _ = given
    true_magnitude, true_unit, _ = true
    value, true_value = number(magnitude), number(true_magnitude)
    if "%" in (_name(unit), _name(true_unit)) and _name(unit) != _name(true_unit):
        return Verdict(_same_percent(value, true_value, unit, true_unit), "percent")
    if unit and not true_unit and unit.doubtful:
        return Verdict(False, "unit")
    factor = unit.per(true_unit) if unit and true_unit else 1
    if factor is None:
        return Verdict(False, "unit")
    rule = "unit" if unit or true_unit else "number"
    if value is not None and true_value is not None:
        if factor != 1:
            return Verdict(value.value * factor == true_value.value, "unit, converted")
        right = numbers_equal(value, true_value)
        rounded = right and value.value != true_value.value and rule == "number"
        return Verdict(right, "rounding" if rounded else rule)
    if factor != 1:
        magnitude, rule = f"({magnitude})*({factor})", "unit, converted"
    if same_spelling(magnitude, true_magnitude):
        return Verdict(True, rule)
    return Verdict(same_algebra(magnitude, true_magnitude, ask), "algebra")


def _name(unit: Unit | None) -> str:
    return unit.name if unit else ""


def _same_percent(value: Number | None, true_value: Number | None, unit: Unit | None, true_unit: Unit | None) -> bool:
    """`50%` equals 0.5, and also 50 without a unit. No other unit counts as a percent sign."""
    if value is None or true_value is None or (unit and true_unit):
        return False
    percent, plain = (value, true_value) if unit else (true_value, value)
    return plain.value == percent.value / 100 or (plain.value == percent.value and abs(plain.value) > 1)


def _same_count(given: str, true: str, count: str) -> Verdict:
    """`7 students`, or a bare 7."""
    value, true_value = number(given), number(count)
    bare = value is not None and true_value is not None and value.value == true_value.value
    return Verdict(bare or same_spelling(given, true), "counted things")


def _single(text: str) -> tuple[Fraction | None, Unit | None]:
    magnitude, unit = split_unit(text)
    value = number(magnitude)
    return (value.value if value else None), unit
