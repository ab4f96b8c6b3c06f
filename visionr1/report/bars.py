"""Groups of bars with one colour per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionr1.report.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Scale,
    axis_title,
    axis_y,
    draw,
    element,
    empty,
    error_bar,
    first_that_fits,
    hover,
    ticks,
)


@dataclass(frozen=True)
class Bar:
    """A bar with its standard error and what is shown on it; a value of None is drawn as a dash."""

    colour: str
    value: float | None
    error: float
    lines: Sequence[str]


def grouped_bars(
    label: str, unit: str, groups: Mapping[str, Sequence[Bar]], title: str, legend: str, as_percent: bool = False
) -> str:
    """The drawing: a group for each name on the x axis, whose bars stand beside one another."""
    if not groups:
        return empty(label, "appears after the evaluation")
    highest = max((bar.value or 0.0) + bar.error for bars in groups.values() for bar in bars)
    y = Scale(0, max(1e-3, highest * 1.12), BOTTOM, TOP + 8)
    slot = (RIGHT - LEFT) / len(groups)
    width = min(44.0, slot * 0.8 / max(len(bars) for bars in groups.values()))
    parts, hovers = [axis_y(y, ticks(0, y.high, 4), unit, as_percent=as_percent)], []
    for place, (name, bars) in enumerate(groups.items()):
        middle = LEFT + slot * (place + 0.5)
        for number, bar in enumerate(bars):
            x, value = middle + (number - len(bars) / 2) * width, bar.value or 0.0
            height = BOTTOM - y(value)
            parts.append(element("rect", x=x + 1, y=y(value), width=width - 2, height=height, rx=2, class_=f"bar {bar.colour}"))
            if bar.error:
                parts.append(error_bar(x + width / 2, y(max(0.0, value - bar.error)), y(value + bar.error)))
            printed = "–" if bar.value is None else f"{100 * value:.0f}" if as_percent else f"{value:.2g}"
            if width >= 16:
                top = y(value + bar.error) - 4
                parts.append(element("text", text=printed, x=x + width / 2, y=top, class_="value", text_anchor="middle"))
            hovers.append(hover((x, TOP, width, BOTTOM - TOP), (x + width / 2, y(value)), [*bar.lines, printed]))
        shown = first_that_fits((name, name[:8]), slot - 4)
        parts.append(element("text", text=shown, x=middle, y=BOTTOM + 16, class_="tick", text_anchor="middle"))
    base = element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="base")
    return draw(label, legend, *parts, base, axis_title(title, (LEFT + RIGHT) / 2, BOTTOM + 35), *hovers)
