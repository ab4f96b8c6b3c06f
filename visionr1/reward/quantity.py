"""Numbers and units as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from visionr1.reward.text import squeezed
from visionr1.reward.units import Unit, read_unit

_PLAIN: Final = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d{1,60})?(?:\.\d{1,60})?"
_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)(?:"
    rf"(?P<whole>\d{{1,60}})?\\frac\{{(?P<top>-?{_PLAIN})\}}\{{(?P<bottom>-?{_PLAIN})\}}"
    rf"|(?P<over>{_PLAIN})[/:](?P<under>-?{_PLAIN})"
    rf"|(?:(?P<factor>{_PLAIN})\*)?10\^\{{(?P<power>[+-]?\d{{1,3}})\}}"
    rf"|(?P<plain>{_PLAIN})(?:[eE](?P<exponent>[+-]?\d{{1,3}}))?"
    r")"
)
_LONGEST: Final = 130
_REPEATING: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d{1,60})\.(?P<fixed>\d{0,30}?)"
    r"(?:\\overline ?\{(?P<bar>\d{1,30})\}|\\dot ?\{(?P<dot>\d)\}|(?P<again>\d{1,9}?)(?P=again){2,}\.\.\.)"
)

# Where a unit may begin: behind a number, a bracket, a letter, a blank. `5*°` is a slip of some data sets.
_CUT: Final = re.compile(r"(?<=[\d)}\]°A-Za-z.])(?:(?P<gap> )|\*(?=°)|)(?=[^\d\s(\[^_+\-=<>,;])")
_CURRENCY: Final = re.compile(
    r"(?P<sign>-?) ?(?P<unit>USD|US\$|EUR|GBP|RMB|Rs\.?|[€£¥₹₽₩]) ?(?P<amount>[\d.].*?)(?P<per>(?: ?/ ?| per )[A-Za-z].*)?"
)
_IN_BRACKETS: Final = re.compile(r"(?P<amount>.*[\d)}]) ?\((?P<unit>[^()\d][^()]{1,20}|[\u4e00-\u9fff])\)")
"""`12 (cm)`, `12（平方厘米）`"""
_LONGEST_UNIT: Final = 60
_PART: Final = re.compile(r"(?P<amount>\d+(?:\.\d+)?) ?(?P<unit>[^\d\s,;+=<>-][^\d,;+=<>-]*?)(?: and)? ?(?=\d|$)")


@dataclass(frozen=True)
class Number:
    """An exact value and how it was written: digits after the point (0 without one), significant digits."""

    value: Fraction
    decimals: int
    significant: int


def number(text: str) -> Number | None:
    """An integer, decimal, fraction, ratio, mixed number or power of ten; None for anything else.

    Three-digit groups parted by commas or spaces are thousands: `1,234` is one number.
    """
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return _repeating(text) if len(text) <= _LONGEST else None
    part = found.groupdict(default="")
    try:
        if found["top"] is not None:
            value = _decimal(part["whole"] or "0") + _decimal(part["top"]) / _decimal(part["bottom"])
        elif found["over"] is not None:
            value = _decimal(part["over"]) / _decimal(part["under"])
        elif found["power"] is not None:
            value = _decimal(part["factor"] or "1") * Fraction(10) ** int(part["power"])
        else:
            value = _decimal(part["plain"]) * Fraction(10) ** int(part["exponent"] or "0")
    except (ValueError, ZeroDivisionError):
        return None
    decimals = len(part["plain"].partition(".")[2]) if not part["exponent"] else 0
    return Number(-value if part["sign"] == "-" else value, decimals, len(re.sub(r"\D", "", part["plain"]).lstrip("0")))


def _repeating(text: str) -> Number | None:
    r"""`0.1\overline{6}`, `0.\dot{3}`, and `0.333...` where what goes on has been written at least three times."""
    found = _REPEATING.fullmatch(text)
    if found is None:
        return None
    fixed, block = found["fixed"], found["bar"] or found["dot"] or found["again"]
    digits, scale = int(found["whole"] + fixed or "0"), 10 ** len(fixed)
    value = Fraction(digits, scale) + Fraction(int(block), (10 ** len(block) - 1) * scale)
    return Number(-value if found["sign"] == "-" else value, 0, 0)


def numbers_equal(answer: Number, truth: Number) -> bool:
    """Equal, or one is an exact value and the other that value rounded (`1/3` and `0.3333`).

    A true answer in decimals counts as rounded from three significant digits on, a given one from four;
    two decimals are compared exactly.
    """
    if answer.value == truth.value:
        return True
    if truth.decimals and not answer.decimals:
        return rounds_to(answer.value, truth, 3)
    return bool(answer.decimals and not truth.decimals) and rounds_to(truth.value, answer, 4)


def rounds_to(exact: Fraction, decimal: Number, significant: int) -> bool:
    """Whether `decimal`, written with at least so many significant digits, is `exact` rounded."""
    if decimal.significant < significant:
        return False
    return abs(exact - decimal.value) <= Fraction(1, 2 * 10**decimal.decimals)


def split_unit(text: str) -> tuple[str, Unit | None]:
    """(magnitude without spaces, unit): `12 square cm` is 12 and cm^2, `€12` is 12 and €, `2 x` is 2x without a unit."""
    if (money := _CURRENCY.fullmatch(text)) and (unit := read_unit(money["unit"].rstrip(".") + (money["per"] or ""))):
        return money["sign"] + squeezed(money["amount"]), unit
    if (held := _IN_BRACKETS.fullmatch(text)) and (unit := read_unit(held["unit"])):
        return squeezed(held["amount"]), unit
    for cut in _CUT.finditer(text, max(1, len(text) - _LONGEST_UNIT)):
        spelling, before = text[cut.end() :], text[cut.start() - 1]
        # One letter alone is a unit only after a space: `5 m`; `5m` may be algebra.
        stands_alone = cut["gap"] or (len(spelling) > 1 and not before.isalpha()) or not re.match("[A-Za-z]", spelling)
        unit = read_unit(spelling) if stands_alone else None
        if unit is not None:
            return squeezed(text[: cut.start()]).rstrip("."), unit
    return squeezed(text), None


def split_glued(text: str) -> tuple[str, Unit] | None:
    r"""(magnitude, unit) of a number with one letter right behind it: `34m`, `5\sqrt{3}m`; None for anything else."""
    unit, before = read_unit(text[-1:]), text[:-1]
    outside_brackets = re.sub(r"\([^()]*\)|\{[^{}]*\}", "", before)
    is_product = re.search(r"[\d)}]$", before) and not re.search(r".[+-]", outside_brackets)  # `5-2m` is algebra.
    has_variables = re.search(r"[a-z]", re.sub(r"\\[a-z]+", "", before))
    return (squeezed(before), unit) if unit and unit.glued and is_product and not has_variables else None


def sum_of_units(text: str) -> tuple[Fraction, Unit] | None:
    """(value, last unit) of parts in ever smaller units: `2 h 30 min`, `5'6"`, `32°15'`; None for a single part."""
    parts = list(_PART.finditer(text))
    if len(parts) < 2 or "".join(part.group() for part in parts) != text:
        return None
    degrees = parts[0]["unit"].strip() in ("°", "degrees", "degree")
    quotes = {"'": "arcmin" if degrees else "ft", '"': "arcsec" if degrees else "in", "''": "arcsec" if degrees else "in"}
    units = [read_unit(quotes.get(part["unit"].strip(), part["unit"].strip())) for part in parts]
    last = units[-1]
    sizes = [unit.per(last) if unit and last else None for unit in units]
    if last is None or any(size is None for size in sizes):
        return None
    known = [size for size in sizes if size is not None]
    if known != sorted(set(known), reverse=True):
        return None
    return sum((Fraction(part["amount"]) * size for part, size in zip(parts, known, strict=True)), Fraction(0)), last


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", ""))
