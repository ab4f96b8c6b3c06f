"""What surely does not fit never starts, and the hours that are left come from the plan, then from measured steps."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from ptst_operator.forecast import Done, card_of, faults, hours_left
from ptst_operator.spec import Spec, resolve_recipe
from schedules import SPEC
from site_of_a_run import Site, at_step_2, condition

from visionr1.recipe import load_recipe

PRODUCT = "nvidia.com/gpu.product"
FOUR = {"preset": "vision-r1", "rollout": {"workers": 4}, "sft": None}
GRPO = {"workersPerPod": 4}


def spec(product: str | None = None, **changes: Any) -> Spec:
    pods = {"image": "trainer:1", **({"nodeSelector": {PRODUCT: product}} if product else {})}
    storage = {"url": "s3://bucket/run"}
    return Spec.model_validate({"recipe": {"preset": "vision-r1"}, "storage": storage, "pods": pods, "grpo": GRPO, **changes})


def gpus(product: str) -> dict[str, Any]:
    return {"pods": {"image": "trainer:1", "nodeSelector": {PRODUCT: product}}}


def test_the_card_is_that_of_the_node_selector() -> None:
    card = card_of(spec("NVIDIA-H100-80GB-HBM3"))
    assert card is not None and card.name == "H100"
    own = card_of(spec("NVIDIA-H100-80GB-HBM3", grpo={"workers": {"nodeSelector": {PRODUCT: "NVIDIA-L40S"}}}))
    assert own is not None and own.name == "L40S"
    assert card_of(spec()) is None


def test_a_run_that_surely_does_not_fit_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=FOUR, grpo=GRPO, **gpus("NVIDIA-L40S"))
    status = site.look()
    valid = condition(status, "RecipeValid")
    assert valid.status == "False" and valid.message.startswith("stage-1 does not fit on 4 x L40S")
    assert site.cluster.children() == [] and not site.store.exists("recipe.yaml")


def test_a_run_with_preflight_warn_starts_and_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe={**FOUR, "preflight": "warn"}, grpo=GRPO, **gpus("NVIDIA-L40S"))
    status = site.look()
    valid = condition(status, "RecipeValid")
    assert valid.status == "True" and valid.message.startswith("stage-1 does not fit on 4 x L40S")
    assert status.phase == "Pending" and site.store.exists("recipe.yaml")


def test_unknown_gpus_are_taken_for_the_largest_that_are_known(tmp_path: Path) -> None:
    assert condition(Site(tmp_path / "fits", recipe=FOUR, grpo=GRPO).look(), "RecipeValid").status == "True"
    recipe = {**FOUR, "optimiser": {"zero_stage": 2, "micro_batch_tokens": 400_000}}
    refused = condition(Site(tmp_path / "not", recipe=recipe, grpo=GRPO).look(), "RecipeValid")
    assert refused.status == "False" and "does not fit on 4 x MI300X" in refused.message


def test_before_the_first_step_the_hours_are_planned(tmp_path: Path) -> None:
    known = Site(tmp_path / "known", recipe={**FOUR, "rollout": {"workers": 8}}, grpo=GRPO, **gpus("NVIDIA-H800"))
    hours = known.look().hours_left
    assert hours is not None and 10 < hours < 20
    assert Site(tmp_path / "unknown", recipe=FOUR, grpo=GRPO).look().hours_left is None


@pytest.mark.parametrize("seconds", [1e9, 1e100, 1e308])
def test_hours_that_nobody_lives_to_see_are_not_forecast(seconds: float) -> None:
    recipe = load_recipe("vision-r1", ["sft=null", "data.held_out=null", "rollout.workers=8"])
    for product in (None, "NVIDIA-H800"):
        assert hours_left(spec(product), recipe, {"stage-1": Done(50, seconds)}, frozenset()) is None


def test_then_they_follow_from_measured_steps() -> None:
    recipe = load_recipe("vision-r1", ["sft=null", "data.held_out=null", "rollout.workers=8"])
    there = spec("NVIDIA-H800")
    planned = hours_left(there, recipe, {}, frozenset())
    first = hours_left(there, recipe, {"stage-1": Done(100)}, frozenset({"stage-1"}))
    assert planned is not None and first is not None and 0 < first < planned
    # As slow as planned for the first stage twice over: the second one is expected to be twice as slow, too.
    twice = 2 * (planned - first) * 3600 / 100
    slow = hours_left(there, recipe, {"stage-1": Done(50, twice)}, frozenset())
    assert slow == pytest.approx(planned - first + 2 * first, rel=0.02)


def test_without_a_plan_a_later_stage_is_as_fast_as_this_one() -> None:
    recipe = load_recipe("vision-r1", ["sft=null", "data.held_out=null"])
    assert hours_left(spec(), recipe, {"stage-1": Done(60, 90.0)}, frozenset()) == pytest.approx((40 + 100) * 90 / 3600)
    assert hours_left(spec(), recipe, {}, frozenset()) is None


def test_a_run_at_work_shows_them(tmp_path: Path) -> None:
    assert at_step_2(tmp_path).look().hours_left is None  # the demo runs on CPUs, and this driver says no seconds


def test_a_run_of_a_billion_completions_is_planned_at_once_in_little_memory() -> None:
    """The whole operator would end with the memory of one run's plan."""
    stages = [{"max_completion_tokens": 16384, "group_size": 16, "steps": 1000}] * 5
    huge = {
        "preset": "vision-r1",
        "data": {"held_out": {"limit": 1_000_000_000}},
        "evaluation": {"samples": 10_000},
        "algorithm": {"prompts_per_step": 8192},
        "rollout": {"workers": 1},
        "stages": stages,
    }
    spec = Spec.model_validate({**SPEC, "recipe": huge, "grpo": {"workersPerPod": 1}, "allowUnequalStages": True})
    tracemalloc.start()
    begun = time.monotonic()
    try:
        faults(spec, resolve_recipe(spec, "run"))
        seconds, (_, most) = time.monotonic() - begun, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 60 and most < 32 << 20
