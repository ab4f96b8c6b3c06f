"""What there is to score, and what a response's seed depends on."""

from visionr1.evaluate.phase import Target, targets
from visionr1.evaluate.problems import problem_seed
from visionr1.recipe import parse_recipe

STAGES = "stages: [{max_completion_tokens: 48, group_size: 4}, {max_completion_tokens: 96, group_size: 4}]\n"
ZERO = parse_recipe(STAGES, "zero")
FULL = parse_recipe(STAGES + "sft: {data: {path: cold.jsonl}}\n", "full")


def test_a_model_before_grpo_and_the_last_checkpoint_of_each_stage() -> None:
    committed = {"sft": 60, "stage-1": 100, "stage-2": 200}
    assert targets(FULL, committed.get, lambda _: None) == [Target("sft", 60), Target("stage-1", 100), Target("stage-2", 200)]
    assert targets(ZERO, committed.get, lambda _: None) == [Target("base", 0), Target("stage-1", 100), Target("stage-2", 200)]


def test_scored_checkpoints_are_done_and_newer_ones_are_not() -> None:
    committed = {"sft": 60, "stage-1": 100, "stage-2": 200}
    scored = {"sft": 60, "stage-1": 95}
    assert targets(FULL, committed.get, scored.get) == [Target("stage-1", 100), Target("stage-2", 200)]
    assert targets(FULL, committed.get, committed.get) == []
    assert targets(ZERO, committed.get, (committed | {"base": 0}).get) == []


def test_phases_without_a_checkpoint_are_left_out() -> None:
    assert targets(FULL, {"sft": 60}.get, lambda _: None) == [Target("sft", 60)]
    assert targets(FULL, lambda _: None, lambda _: None) == []


def test_seeds_depend_on_recipe_and_row_only_and_never_change() -> None:
    assert problem_seed(1, "test.parquet#7") == 669_469_996
    assert len({problem_seed(seed, f"row {row}") for seed in range(20) for row in range(200)}) == 4000
    assert all(0 <= problem_seed(seed, "row") < 2**31 for seed in range(100))
