"""Curves of several runs over global steps, and the paper's printed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from visionr1.report.measures import smooth, smoothing_window
from visionr1.report.svg import BOTTOM, LEFT, RIGHT, TOP, Scale, axis_x, axis_y, draw, empty, error_bar, hover, polyline, ticks

PAPER_CURVES: Final[dict[str, tuple[tuple[int, float], ...]]] = {
    "length": ((0, 2350.0), (100, 1330.0), (200, 2060.0), (300, 3010.0)),
    "accuracy": ((0, 0.445), (50, 0.543), (200, 0.554), (300, 0.549)),
    "reward": ((1, 0.28), (100, 0.55), (200, 0.60)),
}
"""Of Vision-R1 in figure 1 (D) to (F), as read from the axes."""
_MOST_STRIPS: Final = 60


@dataclass(frozen=True)
class Curve:
    """One run's values by global step; `errors` are standard errors, one for each point, or none."""

    name: str
    colour: str
    points: Sequence[tuple[int, float]]
    errors: Sequence[float]


def stretched(paper: Sequence[tuple[int, float]], last: float, highest: float) -> list[tuple[float, float]]:
    """The paper's curve with its last step at `last` and its highest value at `highest`: its shape, not its numbers."""
    top = max(value for _, value in paper)
    return [(step / paper[-1][0] * last, value / top * highest) for step, value in paper]


def chart(
    label: str, unit: str, curves: Sequence[Curve], paper: Sequence[tuple[int, float]], legend: str, as_percent: bool = False
) -> str:
    """The drawing. `paper` is drawn as a faint line, if it has points."""
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return empty(label, "appears with the first scores" if as_percent else "appears with the first GRPO step")
    last = max(1, *(step for curve in drawn for step, _ in curve.points))
    values = [value for curve in drawn for _, value in curve.points]
    faint = stretched(paper, last, max(values)) if paper else []
    x, y = Scale(0, last, LEFT, RIGHT), Scale(min(0.0, *values, 0.0), max(1e-3, max(values) * 1.15), BOTTOM, TOP + 8)
    parts = [axis_y(y, ticks(y.low, y.high, 4), unit, as_percent=as_percent)]
    parts.append(polyline([(x(step), y(value)) for step, value in faint], "join faint"))
    hovers = []
    for curve in drawn:
        window = smoothing_window(len(curve.points))
        parts.append(polyline([(x(step), y(value)) for step, value in smooth(curve.points, window)], curve.colour))
        for (step, value), error in zip(curve.points, curve.errors, strict=False):
            parts.append(error_bar(x(step), y(max(0.0, value - error)), y(value + error)))
        stride = len(curve.points) // _MOST_STRIPS + 1
        for step, value in curve.points[::stride]:
            shown = f"{100 * value:.1f} %" if as_percent else f"{value:,.4g} {unit}"
            hovers.append(hover((x(step) - 3, y(value) - 8, 6, 16), (x(step), y(value)), [f"{curve.name}, step {step:,}", shown]))
    return draw(label, legend, *parts, axis_x(x, ticks(0, x.high, 6, whole=True), "global step"), *hovers)
