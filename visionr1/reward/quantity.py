"""Numbers and units as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from visionr1.reward.text import squeezed

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

# Canonical name: other spellings. One letter alone is a unit only after a space (`5 m`; `5m` is algebra).
_SPELLINGS: Final = """
°: degree degrees deg
rad: radian radians
mm: millimeter millimeters millimetre millimetres
cm: centimeter centimeters centimetre centimetres cms
dm: decimeter decimeters
m: meter meters metre metres
km: kilometer kilometers kilometre kilometres
in: inch inches
ft: foot feet
yd: yard yards
mi: mile miles
mg: milligram milligrams
g: gram grams
kg: kilogram kilograms kgs
lb: lbs pound pounds
oz: ounce ounces
ms: millisecond milliseconds
s: sec secs second seconds
min: mins minute minutes
h: hr hrs hour hours
day: days
week: weeks
month: months
year: years yr yrs
mL: ml milliliter milliliters millilitre millilitres
L: l liter liters litre litres
N: newton newtons
J: joule joules
kJ: kilojoule kilojoules
W: watt watts
V: volt volts
Pa: pascal pascals
Hz: hertz
m/s: mps
km/h: kmh kph
mph:
°C: celsius
°F: fahrenheit
unit: units
$: dollar dollars usd USD
¢: cent cents
%: percent percentage pct
"""
_UNITS: Final = {
    spelling: name
    for line in _SPELLINGS.strip().splitlines()
    for name, spellings in [line.split(":")]
    for spelling in [name, *spellings.split()]
}
_UNIT: Final = re.compile(
    r"(?P<magnitude>.*?[\d)}A-Za-z])(?P<gap> ?)(?P<kind>(?:square|sq\.?|cubic|cu\.?) ?)?"
    rf"(?P<unit>{'|'.join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})(?: ?\^\{{(?P<power>[23])\}})?"
)


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
        return None
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


def split_unit(text: str) -> tuple[str, str]:
    """(magnitude without spaces, unit or ""): `12 square cm` is ("12", "cm^2"), `2 x` is ("2x", "")."""
    found = _UNIT.fullmatch(text)
    if found is None:
        return squeezed(text), ""
    spelling, gap, magnitude = found["unit"], found["gap"], found["magnitude"]
    stands_alone = gap or (len(spelling) > 1 and not magnitude[-1].isalpha()) or not spelling[0].isalpha()
    if not stands_alone:
        return squeezed(text), ""
    power = found["power"] or {"s": "2", "c": "3"}.get((found["kind"] or "")[:1], "")
    return squeezed(magnitude), _UNITS[spelling] + (f"^{power}" if power else "")


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", ""))
