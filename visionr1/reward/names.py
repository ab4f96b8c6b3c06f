"""Names of values: `x = 5`, `AB = 5`, `Volume = 30 cm^3`, `m∠A = 40`, `(x, y) = (1, 2)`."""

from __future__ import annotations

import re
from typing import Final

from visionr1.reward.quantity import number, rounds_to, split_unit
from visionr1.reward.text import split_top, squeezed

_EQUALS: Final = re.compile(r"=")
_APPROX: Final = re.compile(r"\\approx")
# What may be left of `=` and is dropped: x, AB, f(x), m∠ABC, \sin x, Area of the circle, S.A.; not `not x`.
_NAME: Final = re.compile(
    r"(?:\\angle ?\d?|\\(?:frac|triangle|overline|widehat|overrightarrow|vec|sin|cos|tan|cot|odot|square|alpha|beta|gamma|delta"
    r"|theta|phi|varphi|lambda|mu|omega|rho|sigma)(?![A-Za-z])|(?:[A-Z]\.)+|(?!(?i:not)\b)[A-Za-z]++|_\{\w+\}|_\w|[ {}:/]"
    r"|'(?![a-z])|\([A-Za-z](?:_\{?)?\d?\}?(?:, ?[A-Za-z](?:_\{?)?\d?\}?)*\)|\|[A-Z]{2}\||(?![不非没无])[\u4e00-\u9fff]++)++"
)
_WORD_COLON: Final = re.compile(r"(?<=[A-Za-z]{3}) ?: ?")
_WORD_EQUALS: Final = re.compile(r"(?<=[A-Za-z]{3}) ?=")
_SYMBOLS: Final = {
    "slope": "m k",
    "area": "S",
    "surfacearea": "S",
    "circumference": "C",
    "length": "L",
    "speed": "v",
    "gradient": "m",
}
"""Letters that people use for a quantity, in addition to its first letter."""


def assignment(text: str) -> tuple[str, list[str]]:
    """(name or "", the values that are equal to it): `x = 2+3 = 5` is ("x", ["2+3", "5"]), `5` is ("", ["5"])."""
    first, *rounded = split_top(text, _APPROX) or [text]
    parts = split_top(first, _EQUALS) or [text]
    named = _NAME.fullmatch(parts[0]) is not None
    if rounded and named and len(parts) == 1:
        parts.append(rounded.pop(0))
    elif len(parts) == 1 and not rounded:
        return "", [text]
    if not all(_may_be_rounded(parts[-1], decimal) for decimal in rounded):
        return "", [text]
    return (squeezed(parts[0]), parts[1:]) if named and len(parts) > 1 else ("", parts)


def unnamed(text: str) -> str:
    """`5` of `x = 5`; any other text as it is."""
    name, values = assignment(text)
    return values[0] if name and len(values) == 1 else text


def same_name(given: str, true: str) -> bool:
    """Whether two names mean the same quantity: `Volume`, `volume`, `V`; `m∠A` and `∠A`; `u1` and `u_{1}`."""
    names, true_names = _names(given), _names(true)
    return bool(names & true_names or names & _initials(true) or _initials(given) & true_names)


def colons_as_equals(given: str, true: str) -> tuple[str, str]:
    """Both texts with `domain: X` as `domain = X`, if the truth names its values in words."""
    if not (_WORD_COLON.search(true) or _WORD_EQUALS.search(true)):
        return given, true
    return _WORD_COLON.sub(" = ", given), _WORD_COLON.sub(" = ", true)


def _names(name: str) -> set[str]:
    """The name as written and without what says of which thing, in one spelling."""
    return {_plain(part) for part in (name, re.sub(r"^(?:the|total) |(?<=\S) ?\bof .*$", "", name, flags=re.IGNORECASE))}


def _plain(name: str) -> str:
    name = re.sub(r"^m(?=\\angle)|[ ._{}]", "", name)
    return name.lower() if re.fullmatch("[A-Za-z]{3,}", name) and not name.isupper() else name


def _initials(name: str) -> set[str]:
    """`SA` of `Surface Area`, `V` of `volume`, `m` of `slope`, `y` of `f(x)`."""
    if re.fullmatch(r"[a-z]\(x\)", name):
        return {"y"}
    words = re.sub(r"(?<=\S) ?\bof .*$", "", name, flags=re.IGNORECASE).split()
    if not all(re.fullmatch("[A-Za-z]{3,}", word) for word in words):
        return set()
    letters = "".join(word[0] for word in words)
    return {letters, letters.upper(), *_SYMBOLS.get("".join(words).lower(), "").split()}


def _may_be_rounded(exact: str, decimal: str) -> bool:
    """Whether `exact ≈ decimal` is well formed: a number follows, and the right one if `exact` is a number too."""
    value, rounded = number(split_unit(exact)[0]), number(split_unit(decimal)[0])
    return rounded is not None and (value is None or rounds_to(value.value, rounded, 0))
