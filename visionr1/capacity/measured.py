"""A run's own steps beside its plan, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from visionr1.capacity.lengths import Sizes, assumed_sizes
from visionr1.capacity.phases import PhasePlan
from visionr1.recipe.phases import stage_phases
from visionr1.recipe.schema import Recipe

NEWEST: Final = 50
"""Steps that are looked at, the newest; the first of a phase is left out where there are others, as it warms up."""
TOGETHER: Final = {"reference": "update"}
"""Parts of the plan that a step measures within another one."""


@dataclass(frozen=True)
class Compared:
    """Seconds of a part of a step: planned, measured, and the floor (0 where there is none)."""

    part: str
    planned: float
    measured: float
    floor: float


@dataclass(frozen=True)
class PhaseMeasured:
    """A phase of which steps are logged.

    Attributes:
        title: for people.
        steps: how many the figures are the mean of.
        parts: in the plan's order, then those that no plan has.
        farthest: the part that has most seconds above its floor; None if no part has a floor.
    """

    title: str
    steps: int
    parts: tuple[Compared, ...]
    farthest: Compared | None


def sizes_of_run(recipe: Recipe, records: Sequence[Mapping[str, Any]]) -> Sizes:
    """With the mean lengths of the completions that the stages have sampled so far; a later stage keeps what is assumed."""
    sizes = assumed_sizes(recipe)
    found = []
    for phase, assumed in zip(stage_phases(recipe), sizes.completion_tokens, strict=True):
        own = [record.get("completion_tokens_mean") for record in records if record["phase"] == phase.name]
        lengths = [length for length in own if length]
        found.append(fmean(lengths) if lengths else assumed)
    return sizes.with_lengths(found) if found else sizes


def compare(plan: PhasePlan, records: Sequence[Mapping[str, Any]]) -> PhaseMeasured | None:
    """The plan of a phase beside its newest steps; None without any. `records` are of all phases."""
    own = [record for record in records if record["phase"] == plan.name and isinstance(record.get("step_seconds"), Mapping)]
    own = (own[1:] or own)[-NEWEST:]
    if not own:
        return None
    planned: dict[str, float] = {}
    floors: dict[str, float] = {}
    for name, part in plan.parts.items():
        within = TOGETHER.get(name, name)
        planned[within] = planned.get(within, 0.0) + part.expected
        floors[within] = floors.get(within, 0.0) + part.floor
    names = list(dict.fromkeys([*_ordered(plan), *(name for record in own for name in record["step_seconds"])]))
    parts = tuple(
        Compared(name, planned.get(name, 0.0), fmean(_seconds(record, name) for record in own), floors.get(name, 0.0))
        for name in names
    )
    above = [part for part in parts if part.floor]
    return PhaseMeasured(plan.title, len(own), parts, max(above, key=lambda part: part.measured - part.floor, default=None))


def _ordered(plan: PhasePlan) -> list[str]:
    return list(dict.fromkeys(TOGETHER.get(name, name) for name in plan.parts))


def _seconds(record: Mapping[str, Any], part: str) -> float:
    """0 for a step without the part, such as one without a checkpoint."""
    return record["step_seconds"].get(part) or 0.0
