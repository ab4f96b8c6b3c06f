"""A run's steps beside its plan."""

from typing import Any

import pytest

from visionr1.capacity.measured import compare, sizes_of_run
from visionr1.capacity.phases import PhasePlan
from visionr1.capacity.times import Part
from visionr1.recipe import load_recipe

PARTS = {
    "rollout": Part(10, 6),
    "reference": Part(2, 1),
    "update": Part(8, 2),
    "checkpoint": Part(1),
    "weight_sync": Part(1, 0.01),
}
PLAN = PhasePlan(name="stage-1", title="stage 1", gpus=8, nodes=1, steps=100, parts=PARTS)


def record(step: int, phase: str = "stage-1", length: float = 100, **seconds: float) -> dict[str, Any]:
    return {"phase": phase, "step": step, "completion_tokens_mean": length, "step_seconds": seconds}


def test_parts_are_compared_without_the_first_step() -> None:
    steps = [
        record(1, rollout=99, update=99, weight_sync=9),
        record(2, rollout=12, update=14, weight_sync=1, checkpoint=4),
        record(3, rollout=14, update=16, weight_sync=3, data=2),
        record(9, "stage-2", rollout=50),
    ]
    found = compare(PLAN, steps)
    assert found is not None and found.steps == 2
    assert {part.part: (part.planned, part.measured, part.floor) for part in found.parts} == {
        "rollout": (10, 13, 6),
        "update": (10, 15, 3),  # the reference is measured within
        "checkpoint": (1, 2, 0),
        "weight_sync": (1, 2, 0.01),
        "data": (0, 1, 0),
    }
    assert found.farthest is not None and found.farthest.part == "update"  # 12 seconds above its floor, the rollout 7


def test_without_steps_there_is_nothing_to_compare() -> None:
    assert compare(PLAN, [record(1, "sft", update=1)]) is None
    one = compare(PLAN, [record(1, rollout=5)])
    assert one is not None and one.steps == 1


def test_lengths_come_from_the_steps_where_there_are_any() -> None:
    recipe = load_recipe("vision-r1")
    sizes = sizes_of_run(recipe, [record(1, length=900), record(2, length=1100), record(3, "sft")])
    assert sizes.completion_tokens == pytest.approx((1000, 1695), rel=0.01)
    assert sizes_of_run(load_recipe("ci"), []).completion_tokens == ()
