"""The numbers behind the panels, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionr1.recipe.schema import Recipe
from visionr1.report.collect import PhaseRecord
from visionr1.rundir.reading import number


@dataclass(frozen=True)
class Bucket:
    """Responses with a length in [low, high) tokens. If `high` is None, there is no upper end. `share` is of all responses."""

    low: int
    high: int | None
    count: int
    share: float
    accuracy: float | None

    @property
    def label(self) -> str:
        """The range for people: `4K–8K`, or `16K+` for the last one."""
        return f"{short(self.low)}+" if self.high is None else f"{short(self.low)}–{short(self.high)}"


def short(tokens: int) -> str:
    """4096 -> 4K, as the paper writes lengths; other numbers as they are."""
    for unit in (1024, 1000):
        if tokens >= unit and tokens % unit == 0:
            return f"{tokens // unit}K"
    return f"{tokens:,}"


def bucket_edges(recipe: Recipe) -> list[int]:
    """Inner borders of the length buckets, in tokens: the stages' limits except the longest.

    For the paper's recipe these are the borders of its figure 1 (A), 4K and 8K. With fewer than two different limits,
    they are a quarter and a half of the evaluation's limit. For the paper's limit these are 4K and 8K, too.
    """
    limits = sorted({stage.max_completion_tokens for stage in recipe.stages})
    if len(limits) > 1:
        return limits[:-1]
    longest = recipe.evaluation.max_completion_tokens
    return sorted({max(1, longest // 4), max(1, longest // 2)})


def length_buckets(outcomes: Sequence[tuple[int, float]], edges: Sequence[int]) -> list[Bucket]:
    """Share and accuracy by completion length, figure 1 (A).

    Args:
        outcomes: (completion tokens, accuracy) of each response; at least one.
        edges: inner borders in tokens, in rising order.
    """
    lows = [0, *edges]
    highs: list[int | None] = [*edges, None]
    buckets = []
    for low, high in zip(lows, highs, strict=True):
        inside = [accuracy for tokens, accuracy in outcomes if tokens >= low and (high is None or tokens < high)]
        mean = sum(inside) / len(inside) if inside else None
        buckets.append(Bucket(low, high, len(inside), len(inside) / len(outcomes), mean))
    return buckets


def series(phase: PhaseRecord, key: str) -> list[tuple[int, float]]:
    """(global step, value) of each step that has a finite value."""
    points = [(step["step"], number(step.get(key))) for step in phase.steps]
    return [(step, value) for step, value in points if value is not None]


def smoothing_window(points: int) -> int:
    """How many steps a drawn curve is averaged over: 1 for short curves, else an odd number near points / 20."""
    return 1 if points < 40 else points // 20 // 2 * 2 + 1


def smooth(points: Sequence[tuple[int, float]], window: int) -> list[tuple[int, float]]:
    """Centred moving average over `window` (odd) points, over fewer at the ends."""
    half = window // 2
    averaged = []
    for index, (step, _) in enumerate(points):
        near = [value for _, value in points[max(0, index - half) : index + half + 1]]
        averaged.append((step, sum(near) / len(near)))
    return averaged


def spans(stages: Sequence[PhaseRecord], first_steps: Sequence[int], last: int) -> list[tuple[PhaseRecord, int, int]]:
    """(stage, step before its first, its last step) of the stages that begin before step `last`."""
    ends = [*first_steps[1:], last]
    found = zip(stages, first_steps, ends, strict=True)
    return [(stage, start, min(end, last)) for stage, start, end in found if start < last]
