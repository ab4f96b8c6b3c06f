"""The chain of phases that a recipe asks for, and the names of phases."""

import re

import pytest

from visionr1.recipe import Recipe, StagePhase, load_recipe, phases, stage_name, stage_number, stage_phases
from visionr1.recipe.phases import STAGE_PATTERN

TWO_STAGES = [
    {"max_completion_tokens": 48, "group_size": 4, "steps": 24},
    {"max_completion_tokens": 96, "group_size": 2, "steps": 10},
]


def test_stages_count_from_one_and_their_steps_go_on() -> None:
    first, second = stage_phases(Recipe.model_validate({"stages": TWO_STAGES}))
    assert (first.name, first.title, first.number, first.first_step, first.last_step) == ("stage-1", "stage 1", 1, 0, 24)
    assert (second.name, second.title, second.number, second.first_step, second.last_step) == ("stage-2", "stage 2", 2, 24, 34)
    assert second.stage.max_completion_tokens == 96
    assert second.input_phase == "stage-1"


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [
        ([], {"coldstart": None, "sft": None, "stage-1": "sft", "stage-2": "stage-1", "evaluate": "stage-2"}),
        (["coldstart=null", "sft=null"], {"stage-1": None, "stage-2": "stage-1", "evaluate": "stage-2"}),
        (["stages=[]"], {"coldstart": None, "sft": None, "evaluate": "sft"}),
    ],
)
def test_each_phase_starts_from_the_last_one_that_has_weights(changes: list[str], inputs: dict[str, str | None]) -> None:
    two = "stages=[{max_completion_tokens: 48, group_size: 4}, {max_completion_tokens: 96, group_size: 2}]"
    chain = phases(load_recipe("demo", [two, *changes]))
    assert {phase.name: phase.input_phase for phase in chain} == inputs
    assert all(isinstance(phase, StagePhase) == (phase.kind == "grpo") for phase in chain)


def test_a_stages_name_says_its_number_and_no_other_name_does() -> None:
    assert [stage_number(stage_name(number)) for number in (1, 2, 12)] == [1, 2, 12]
    for name in (
        "sft",
        "coldstart",
        "evaluate",
        "base",
        "stage-",
        "stage-0",
        "stage-01",
        "stage-x",
        "stage-1/step-2",
        "my-stage-1",
    ):
        assert stage_number(name) is None
    assert re.fullmatch(STAGE_PATTERN, stage_name(1)) and not re.fullmatch(STAGE_PATTERN, "stage-0")
