"""Where a stage starts from, and the small decisions of a step."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionr1.errors import BadInput
from visionr1.grpo.schedule import checkpoint_due, learning_rate, request_seed, split_evenly, what_is_made
from visionr1.grpo.start import BASE, StageStart, Weights, stage_start
from visionr1.recipe import load_recipe
from visionr1.recipe.phases import stage_phase
from visionr1.recipe.schema import Checkpoint, Optimiser, Recipe

STAGE = {"max_completion_tokens": 48, "group_size": 4, "steps": 10}


def recipe(sft: bool = True, **second: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "sft": {"data": {"path": "x.jsonl"}} if sft else None,
            "stages": [STAGE, STAGE | second],
        }
    )


def start(recipe: Recipe, number: int, committed: dict[str, int]) -> StageStart:
    return stage_start(
        recipe, stage_phase(recipe, number), committed.get, lambda name, step: {"sampler": {"of": name, "step": step}}
    )


def test_first_stage_starts_from_sft() -> None:
    begun = start(recipe(), 1, {"sft": 37})
    assert begun.policy == begun.reference == Weights("sft", 37)
    assert (begun.step, begun.sampler, begun.restore_trainer) == (0, None, False)


def test_without_sft_the_first_stage_starts_from_the_base() -> None:
    assert start(recipe(sft=False), 1, {}).policy == BASE


def test_second_stage_takes_weights_and_the_place_in_the_data() -> None:
    begun = start(recipe(), 2, {"sft": 37, "stage-1": 10})
    assert begun.policy == Weights("stage-1", 10)
    assert begun.reference == Weights("sft", 37)
    assert (begun.step, begun.sampler, begun.restore_trainer) == (10, {"of": "stage-1", "step": 10}, False)


def test_carry_and_reference_are_the_stages_choice() -> None:
    begun = start(recipe(carry="weights+optimizer", reference="previous_stage"), 2, {"sft": 37, "stage-1": 10})
    assert begun.restore_trainer
    assert begun.reference == Weights("stage-1", 10)


def test_a_resumed_stage_restores_everything_but_keeps_its_reference() -> None:
    begun = start(recipe(), 2, {"sft": 37, "stage-1": 10, "stage-2": 15})
    assert begun.policy == Weights("stage-2", 15)
    assert begun.reference == Weights("sft", 37)
    assert (begun.step, begun.sampler, begun.restore_trainer) == (15, {"of": "stage-2", "step": 15}, True)


def test_a_missing_phase_and_a_missing_stage_are_named() -> None:
    with pytest.raises(BadInput, match="phase stage-1 has no committed checkpoint"):
        start(recipe(), 2, {"sft": 37})
    for number in (0, 3):
        with pytest.raises(BadInput, match="the recipe has 2 stages"):
            stage_phase(recipe(), number)


def test_checkpoints_are_due_every_fifth_step_and_at_the_end() -> None:
    due = [step for step in range(101, 113) if checkpoint_due(step, 100, 112, Checkpoint(every=5))]
    assert due == [105, 110, 112]


def test_learning_rate_warms_up_in_each_stage() -> None:
    rates = [learning_rate(Optimiser(learning_rate=1.0, warmup_steps=3), step) for step in (1, 2, 3, 4, 50)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_request_seeds_depend_on_run_step_and_place_only() -> None:
    seeds = {request_seed(run, step, place) for run in (1, 2) for step in (1, 2) for place in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert request_seed(1, 1, 0) == request_seed(1, 1, 0)


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_batch_has_as_many_parts_as_there_are_updates(size: int, parts: int) -> None:
    batch = list(range(size))
    found = split_evenly(batch, parts)
    assert [index for part in found for index in part] == batch
    assert len(found) == parts
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= 1


def test_what_a_stage_makes_is_printed() -> None:
    recipe = load_recipe("demo", ["algorithm.updates_per_batch=2"])
    line = "stage 2: 20 steps of 8 of 1500 problems, 160 in all (0.1067 epochs), 8 completions each; 40 updates"
    assert what_is_made(recipe, stage_phase(recipe, 2), 1500) == line
