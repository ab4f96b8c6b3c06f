"""Lines and figures by their points: `AB ∥ CD` is `DC ∥ AB`, `∠ABC` is `∠CBA`, `△ABC` is `△BCA`."""

from __future__ import annotations

import re
from typing import Final

_LINES: Final = re.compile(r"(?P<one>[A-Z]{2}) ?\\(?P<how>parallel|perp) ?(?P<other>[A-Z]{2})")
_ANGLE: Final = re.compile(r"\\angle ?(?P<points>[A-Z]{3})")
_TRIANGLE: Final = re.compile(r"\\triangle ?(?P<points>[A-Z]{3})")
_ALIKE: Final = re.compile(r"\\triangle ?(?P<one>[A-Z]{3}) ?\\(?P<how>cong|sim) ?\\triangle ?(?P<other>[A-Z]{3})")


def same_figure(given: str, true: str) -> bool | None:
    """Whether both are the same angle, triangle or pair of lines or triangles; None if the truth is none of them."""
    read = _read(true)
    return None if read is None else _read(given) == read


def _read(text: str) -> object | None:
    """Something that is equal for equal figures."""
    if lines := _LINES.fullmatch(text):
        return lines["how"], frozenset((frozenset(lines["one"]), frozenset(lines["other"])))
    if angle := _ANGLE.fullmatch(text):
        points = angle["points"]
        return "angle", points[1], frozenset((points[0], points[2]))
    if triangle := _TRIANGLE.fullmatch(text):
        return "triangle", frozenset(triangle["points"])
    if alike := _ALIKE.fullmatch(text):
        # Corners belong together in pairs, in any order. The names of the triangles show which corner belongs to which triangle.
        triangles = frozenset((frozenset(alike["one"]), frozenset(alike["other"])))
        pairs = frozenset(frozenset(pair) for pair in zip(alike["one"], alike["other"], strict=True))
        return alike["how"], triangles, pairs
    return None
