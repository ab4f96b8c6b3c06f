"""Units of measure: the table `units.toml`, and units made of others (`km/h`, `square inches`, `m s^{-1}`)."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

TABLE: Final = Path(__file__).with_name("units.toml")

_POWERS: Final = {"square": 2, "sq.": 2, "sq": 2, "平方": 2, "cubic": 3, "cu.": 3, "cu": 3, "立方": 3, "squared": 2, "cubed": 3}
_POWER: Final = r"\^\{-?\d\}|(?<=[A-Za-z])[23](?!\d)| ?(?:squared|cubed)"
_TIMES: Final = re.compile(r" ?(?P<per>/|\bper\b|每) ?| ?\*? ?")
_LONGEST: Final = 60


@dataclass(frozen=True)
class Unit:
    """`size` of it is one of the product of base units in `bases`, pairs of (base unit, power) in order.

    `doubtful` units count only where the true answer has a unit; `glued` ones need no blank after a number;
    `also_means` is the symbol of another unit with the same word.
    """

    name: str
    size: Fraction
    bases: tuple[tuple[str, int], ...]
    doubtful: bool = False
    glued: bool = False
    also_means: str = ""

    def per(self, other: Unit) -> Fraction | None:
        """How many `other` one of this unit is; None if they do not measure the same."""
        for one in (self, *self._other()):
            for another in (other, *other._other()):
                if one.bases == another.bases:
                    return one.size / another.size
        return None

    def _other(self) -> tuple[Unit, ...]:
        return (_defined(self.also_means),) if self.also_means else ()


@lru_cache(maxsize=10_000)
def read_unit(text: str) -> Unit | None:
    """The unit that `text` (canonical, see `visionr1.reward.text`) is as a whole, or None."""
    if not 0 < len(text) <= _LONGEST:
        return None
    held = re.fullmatch(r"\{ ?([A-Za-z ]{3,}) ?\}", text)
    text = re.sub(r"\\mu ?(?=[A-Za-z])", "µ", held[1] if held else text)
    factors = _factors(text)
    if factors is None:
        return None
    bases: Counter[str] = Counter()
    size = Fraction(1)
    for symbol, power in factors:
        one = _defined(symbol)
        size *= one.size**power
        for base, exponent in one.bases:
            bases[base] += exponent * power
    alone = _defined(factors[0][0]) if factors == [(factors[0][0], 1)] else None
    return Unit(
        name="*".join(symbol if power == 1 else f"{symbol}^{power}" for symbol, power in factors),
        size=size,
        bases=tuple(sorted((base, power) for base, power in bases.items() if power)),
        doubtful=bool(alone and alone.doubtful and text in _symbols(alone.name)),
        glued=bool(alone and alone.glued and len(text) == 1),
        also_means=alone.also_means if alone else "",
    )


def _factors(text: str) -> list[tuple[str, int]] | None:
    """[(symbol, power), ...] of a product or quotient of units."""
    symbols, pattern = _spellings()
    factors: list[tuple[str, int]] = []
    place, sign = 0, 1
    spaced = False
    while place < len(text):
        if factors:
            joint = _TIMES.match(text, place)
            assert joint is not None  # It matches nothing, too.
            sign = -1 if joint["per"] else 1
            spaced = spaced or not joint.group().strip()
            place = joint.end()
        found = pattern.match(text, place)
        if found is None:
            return None
        symbol = symbols.get(found["unit"]) or symbols[found["unit"].lower()]
        factors.append((symbol, sign * _power(found["before"], found["after"])))
        place = found.end()
    # `N m` side by side may be two letters of algebra, `m s^{-1}` may not.
    return factors if factors and not (spaced and all(power > 0 for _, power in factors)) else None


def _power(before: str | None, after: str | None) -> int:
    if before:
        return _POWERS[before.strip().lower()]
    if not after:
        return 1
    return _POWERS.get(after.strip(), 0) or int(after.strip(" ^{}"))


@cache
def _table() -> dict[str, dict[str, Any]]:
    return {symbol: row for rows in tomllib.loads(TABLE.read_text()).values() for symbol, row in rows.items()}


def _symbols(symbol: str) -> list[str]:
    return [symbol, *_table()[symbol].get("also", "").split()]


@cache
def _defined(symbol: str) -> Unit:
    row = _table()[symbol]
    flags = {flag: row[flag] for flag in ("doubtful", "glued", "also_means") if flag in row}
    if "is" not in row:
        return Unit(symbol, Fraction(1), ((symbol, 1),), **flags)
    amount, _, of = row["is"].rpartition(" ")
    if of.startswith("1/"):
        inverse = _defined(of.removeprefix("1/"))
        return Unit(symbol, 1 / inverse.size, tuple((base, -power) for base, power in inverse.bases), **flags)
    unit = read_unit(re.sub(r"\^(\d)", r"^{\1}", of))
    assert unit is not None, f"{TABLE.name}: {symbol}: {of} is no unit"
    return Unit(symbol, Fraction(amount or "1") * unit.size, unit.bases, **flags)


@cache
def _spellings() -> tuple[dict[str, str], re.Pattern[str]]:
    """(symbol of each spelling, the pattern of one factor)."""
    exact: dict[str, str] = {}
    words: dict[str, str] = {}
    for symbol, row in _table().items():
        for spelling in _symbols(symbol):
            exact[spelling] = symbol
        for name in row.get("names", "").split():
            words |= dict.fromkeys(_inflected(name.replace("_", " ").lower()), symbol)
    pattern = re.compile(
        r"(?P<before>(?i:square|cubic|sq\.|cu\.|sq\b|cu\b) ?|平方|立方)?"
        rf"(?P<unit>(?:(?i:{_any_of(words)})|{_any_of(exact)})(?![A-Za-z]))\.?(?: ?(?P<after>{_POWER}))?"
    )
    return words | exact, pattern


def _inflected(name: str) -> Iterator[str]:
    yield name
    if name.isascii():
        yield name + ("es" if name.endswith(("ch", "s", "x")) else "s")


def _any_of(spellings: dict[str, str]) -> str:
    return "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))
