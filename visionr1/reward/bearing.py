"""Bearings: `N 30° E`, `S23.5°W`, `212°T`, `北偏东30°`, as degrees clockwise from north."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_ANGLE: Final = r"(?P<angle>\d{1,3}(?:\.\d{1,9})?) ?(?:°|degrees?)?"
_COMPASS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<start>N|S|north|south) ?{_ANGLE} ?(?:to(?:wards)? )?(?P<end>E|W|east|west)",
        rf"{_ANGLE} ?(?P<end>E|W|east|west) of (?P<start>N|S|north|south)",
        rf"(?P<start>北|南)偏(?P<end>东|西) ?{_ANGLE}",
    )
)
_TRUE: Final = re.compile(rf"{_ANGLE} ?(?P<mark>T|true)?", re.IGNORECASE)


def same_bearing(given: str, true: str) -> bool | None:
    """Whether both point the same way; None if the truth is no bearing.

    The mark T may be left out of an answer; a bare angle is no answer to a truth with compass points.
    """
    compass = _compass(true)
    if compass is not None:
        marked = _marked(given)
        return compass in (_compass(given), marked)
    marked = _marked(true)
    if marked is None:
        return None
    plain = _TRUE.fullmatch(given)
    return marked in (_compass(given), Fraction(plain["angle"]) if plain else None)


def _marked(text: str) -> Fraction | None:
    found = _TRUE.fullmatch(text)
    if found is None or not found["mark"] or not (len(found["angle"].partition(".")[0]) == 3 or "°" in text or "deg" in text):
        return None  # `5 T` is 5 tesla.
    return Fraction(found["angle"])


def _compass(text: str) -> Fraction | None:
    found = next((match for pattern in _COMPASS if (match := pattern.fullmatch(text))), None)
    if found is None or (angle := Fraction(found["angle"])) > 90:
        return None
    east = found["end"][0] in "Ee东"
    if found["start"][0] in "Nn北":
        return angle if east else (360 - angle) % 360
    return 180 - angle if east else 180 + angle
