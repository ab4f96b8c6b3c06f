"""The table of units, and what is read with it."""

import re
import tomllib
from fractions import Fraction

import pytest

from visionr1.reward.quantity import split_unit, sum_of_units
from visionr1.reward.units import TABLE, read_unit

ROWS = {symbol: row for rows in tomllib.loads(TABLE.read_text()).values() for symbol, row in rows.items()}


def test_each_row_can_be_read_by_each_of_its_spellings() -> None:
    for symbol, row in ROWS.items():
        assert set(row) <= {"is", "also", "names", "doubtful", "glued", "also_means"}, symbol
        spellings = [*row.get("also", "").split(), *(name.replace("_", " ") for name in row.get("names", "").split())]
        assert spellings or "is" in row, f"{symbol} can only be written in one way and is a base unit"
        for spelling in spellings:
            unit = read_unit(spelling)
            assert unit is not None and unit.name == symbol, (symbol, spelling, unit)


def test_no_spelling_stands_in_two_rows() -> None:
    symbols = [spelling for symbol, row in ROWS.items() for spelling in (symbol, *row.get("also", "").split())]
    names = [name.lower() for row in ROWS.values() for name in row.get("names", "").split()]
    assert len(set(symbols)) == len(symbols)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [
        ("km", "m", 1000),
        ("km/h", "m/s", Fraction(5, 18)),
        ("kilometres per hour", "km/h", 1),
        ("m s^{-1}", "m/s", 1),
        ("square feet", "in^{2}", 144),
        ("sq. cm", "cm2", 1),
        ("cubic metres", "L", 1000),
        ("mL", "cm^{3}", 1),
        ("N", "kg*m/s^{2}", 1),
        ("kWh", "J", 3_600_000),
        ("kPa", "N/m^{2}", 1000),
        ("V/A", "\\Omega", 1),
        ("hours", "min", 60),
        ("千米每小时", "km/h", 1),
        ("平方厘米", "cm^{2}", 1),
        ("米/秒", "m/s", 1),
        ("cents", "USD", Fraction(1, 100)),
        ("pounds", "£", 1),
        ("pounds", "lb", 1),
        ("minutes", "°", Fraction(1, 60)),
        ("mi", "km", Fraction(1609344, 1_000_000)),
    ],
)
def test_units_of_one_kind_are_converted_exactly(one: str, other: str, factor: int | Fraction) -> None:
    units = [read_unit(text) for text in (one, other)]
    assert units[0] is not None and units[1] is not None
    assert units[0].per(units[1]) == factor


@pytest.mark.parametrize(
    ("one", "other"),
    [("cm", "cm^{2}"), ("m/s", "m/s^{2}"), ("kg", "m"), ("€", "USD"), ("°C", "°F"), ("°", "rad"), ("%", "°"), ("L", "m^{2}")],
)
def test_units_of_two_kinds_have_no_factor(one: str, other: str) -> None:
    units = [read_unit(text) for text in (one, other)]
    assert units[0] is not None and units[1] is not None
    assert units[0].per(units[1]) is None


@pytest.mark.parametrize(
    "text", ["", "x", "mn", "N m", "cm kg", "cm/", "/s", "per hour", "km per", "mw", "CM2x", "hundred", "cmm"]
)
def test_what_is_no_unit_is_not_read(text: str) -> None:
    assert read_unit(text) is None


def test_a_unit_is_parted_from_its_number() -> None:
    found = {
        text: split_unit(text) for text in ("€12", "-USD 3.5", "12km/h", "12 km / h", "60*°", "8\\sqrt{3}{squareinches}", "3h")
    }
    assert {text: (magnitude, unit.name if unit else "") for text, (magnitude, unit) in found.items()} == {
        "€12": ("12", "€"),
        "-USD 3.5": ("-3.5", "USD"),
        "12km/h": ("12", "km*h^-1"),
        "12 km / h": ("12", "km*h^-1"),
        "60*°": ("60", "°"),
        "8\\sqrt{3}{squareinches}": ("8\\sqrt{3}", "in^2"),
        "3h": ("3h", ""),
    }


def test_sums_of_units_go_from_large_to_small() -> None:
    def reported(text: str) -> tuple[Fraction, str] | None:
        found = sum_of_units(text)
        return found and (found[0], found[1].name)

    assert reported("2 h 30 min") == (Fraction(150), "min")
    assert reported("5'6\"") == (Fraction(66), "in")
    assert reported("32°15'") == (Fraction(32 * 60 + 15), "arcmin")
    assert [reported(text) for text in ("30 min 2 h", "2 h 30 cm", "2 h", "2 h 3 h", "2 h, 30 min")] == [None] * 5


def test_the_table_says_how_to_read_and_extend_it() -> None:
    head = TABLE.read_text().partition("[length]")[0]
    assert all(
        re.search(rf"^#   {word} ", head, re.MULTILINE) for word in ("is", "also", "names", "doubtful", "glued", "also_means")
    )
