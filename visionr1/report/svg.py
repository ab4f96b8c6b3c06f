"""Just enough SVG to draw the report's charts: scales, ticks, axes and text that is always escaped.

All sizes are in the drawing's own units (a chart is WIDTH x HEIGHT and scales with the page).
Colours are CSS classes, so that one drawing serves the light and the dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 420
HEIGHT = 270
LEFT, RIGHT, TOP, BOTTOM = 46, 408, 36, 226
"""Sides of the plot area; above it is room for the y axis' title and the stages' names."""

_CHARACTER = 6.0
"""Width of a character, near enough."""


def element(name: str, *children: str, text: str | None = None, **attributes: object) -> str:
    """One SVG element; `class_` gives `class`, and an underscore in a name a hyphen. `text` is escaped, `children` are not."""
    written = "".join(f" {key.rstrip('_').replace('_', '-')}={quoteattr(_number(value))}" for key, value in attributes.items())
    inside = "".join(children) + (escape(text) if text is not None else "")
    return f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"


def _number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Scale:
    """A linear map from values to drawing units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The drawing coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int = 5, whole: bool = False) -> list[float]:
    """Round numbers in [low, high], near `about` of them; `whole` allows no fractions.

    The span must be positive and finite.
    """
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999)
    if whole:
        step = max(1, round(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def plain(value: float) -> str:
    """A tick's label: thousands with commas, no needless zeros."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"


def text_width(reported: str) -> float:
    """Width that a text takes at most, near enough."""
    return len(reported) * _CHARACTER


def first_that_fits(texts: Sequence[str], width: float) -> str:
    """The first text that is no wider than `width`, or none."""
    return next((text for text in texts if text_width(text) <= width), "")


def percent_tick(value: float) -> str:
    """A fraction in percent: `12.5 %` for 0.125."""
    return f"{100 * value:.4g} %"


def draw(label: str, *parts: str, kind: str = "") -> str:
    """The whole drawing; `label` is what a screen reader says."""
    inside = "".join(parts)
    return element("svg", inside, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, class_=f"chart {kind}".strip())


def axis_x(scale: Scale, values: Sequence[float], title: str, bottom: float = BOTTOM) -> str:
    """The x axis: a base line, tick labels and the title with its unit."""
    parts = [element("line", x1=scale.start, x2=scale.end, y1=bottom, y2=bottom, class_="base")]
    parts += [element("text", text=plain(v), x=scale(v), y=bottom + 16, class_="tick", text_anchor="middle") for v in values]
    parts.append(axis_title(title, (scale.start + scale.end) / 2, bottom + 35))
    return "".join(parts)


def axis_y(scale: Scale, values: Sequence[float], title: str, as_percent: bool = False, title_y: float = 12) -> str:
    """The y axis: grid lines, tick labels and, at `title_y`, the title with its unit."""
    write = percent_tick if as_percent else plain
    parts = [element("line", x1=LEFT, x2=RIGHT, y1=scale(v), y2=scale(v), class_="grid") for v in values if v != scale.low]
    parts += [element("text", text=write(v), x=LEFT - 6, y=scale(v) + 3.5, class_="tick", text_anchor="end") for v in values]
    parts.append(element("text", text=title, x=4, y=title_y, class_="axis"))
    return "".join(parts)


def axis_title(title: str, x: float, y: float) -> str:
    """Text in the middle over a drawing point."""
    return element("text", text=title, x=x, y=y, class_="axis", text_anchor="middle")


def polyline(points: Sequence[tuple[float, float]], class_: str) -> str:
    """A line through drawing points; a single point becomes a dot, none draws nothing."""
    if len(points) == 1:
        return element("circle", cx=points[0][0], cy=points[0][1], r=3.5, class_=f"dot {class_}")
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return element("polyline", points=path, class_=f"line {class_}") if points else ""


def error_bar(x: float, low: float, high: float) -> str:
    """A vertical bar with caps from y = `low` to y = `high`."""
    return element("path", d=f"M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8", class_="error")


def hover(area: tuple[float, float, float, float], at: tuple[float, float], lines: Sequence[str]) -> str:
    """A see-through `area` (x, y, width, height) that shows `lines` near the point `at` while the pointer is on it.

    Shown by the style sheet alone, so the page needs no script.
    """
    x, y, width, height = area
    box_width = max(text_width(line) for line in lines) + 16
    box_height = 14 * len(lines) + 9
    box_x = min(max(at[0] - box_width / 2, 2), WIDTH - box_width - 2)
    box_y = at[1] - box_height - 9 if at[1] - box_height - 9 > 0 else at[1] + 9
    body = [element("rect", x=box_x, y=box_y, width=box_width, height=box_height, rx=5)]
    body += [element("text", text=line, x=box_x + 8, y=box_y + 16 + 14 * index) for index, line in enumerate(lines)]
    mark = element("circle", cx=at[0], cy=at[1], r=3.5, class_="mark")
    target = element("rect", x=x, y=y, width=width, height=height, class_="target")
    return element("g", target, element("g", mark, *body, class_="tip"), class_="hover")


def empty(label: str, why: str) -> str:
    """A chart that has nothing to show yet, and says when it will."""
    frame = element("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP, rx=6, class_="nothing")
    words = element("text", text=why, x=(LEFT + RIGHT) / 2, y=(TOP + BOTTOM) / 2 + 4, class_="axis", text_anchor="middle")
    return draw(f"{label}: {why}", frame, words)


def legend(named: Sequence[tuple[str, str]]) -> str:
    """(name, colour) of each thing that is drawn, right-aligned above the plot; long names are cut where there is no room."""
    parts, x = [], float(RIGHT)
    for name, colour in reversed(named):
        shown = first_that_fits((name, name[:12], name[:6]), (RIGHT - LEFT - 60) / len(named) - 25)
        x -= text_width(shown)
        parts.append(element("text", text=shown, x=x, y=12, class_="tick"))
        parts.append(element("rect", x=x - 13, y=3, width=9, height=9, rx=2, class_=f"bar {colour}"))
        x -= 25
    return "".join(parts)
