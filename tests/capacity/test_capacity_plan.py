"""A run's plan: totals add up, what does not fit is offered changes that make it smaller, and the directory's size is counted."""

import pytest

from visionr1.capacity.cards import parse_fleet
from visionr1.capacity.choose import Fit
from visionr1.capacity.knobs import knobs
from visionr1.capacity.model import QWEN2_5_VL, find_model_sizes
from visionr1.capacity.phases import plan_phase, sft_fleet
from visionr1.capacity.plan import RunPlan, default_fleet, plan_run, setting_of
from visionr1.capacity.times import Setting
from visionr1.errors import BadInput
from visionr1.recipe import load_recipe, phases, preset_names
from visionr1.recipe.schema import Model

TIGHT = [
    ("4xA100-40", []),
    ("1xH800", ["optimiser.zero_stage=2"]),
    ("8xH800", ["rollout.gpu_memory_utilization=0.9"]),
    ("8xH800", ["model.gradient_checkpointing=false", "optimiser.micro_batch_tokens=65536", "algorithm.reference_device=gpu"]),
    ("4xL40S", []),
]


def plan_of(preset: str, gpus: str | None = None, *overrides: str, model: str | None = None) -> RunPlan:
    workers = [f"rollout.workers={parse_fleet(gpus).count}"] if gpus else []
    recipe = load_recipe(preset, [*workers, *overrides])
    sizes = QWEN2_5_VL[model] if model else find_model_sizes(recipe.model)
    return plan_run(recipe, sizes, parse_fleet(gpus) if gpus else default_fleet(recipe), price=2.0)


def test_an_evaluation_with_several_engines_has_gpus_for_all_and_takes_less_time() -> None:
    one, eight, many = (plan_of("vision-r1", "8xH800", f"evaluation.workers={count}").phases[-1] for count in (1, 8, 16))
    assert [phase.gpus for phase in (one, eight, many)] == [1, 8, 16] and (eight.nodes, many.nodes) == (1, 2)
    assert one.seconds / 8 < eight.seconds < one.seconds, "an engine takes its time to start, and for the longest completion"
    assert one.fit and eight.fit and many.fit
    assert eight.fit.tightest.gpu == one.fit.tightest.gpu, "each has a GPU for itself"
    assert eight.fit.tightest.host_total == many.fit.tightest.host_total == 8 * one.fit.tightest.host_total


def fit_of(setting: Setting, name: str) -> Fit:
    found = plan_phase(setting, next(phase for phase in phases(setting.recipe) if phase.name == name)).fit
    assert found is not None
    return found


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_fits_what_it_is_made_for(preset: str) -> None:
    plan = plan_of(preset)
    assert plan.fits and not plan.knobs
    assert plan.seconds == sum(phase.seconds for phase in plan.phases) > 0
    assert plan.gpu_hours == pytest.approx(sum(phase.gpus * phase.seconds for phase in plan.phases) / 3600)
    assert plan.price == pytest.approx(2.0 * plan.gpu_hours)
    assert plan.hinge and all(plan.assumptions)
    for phase in plan.phases:
        for part in phase.parts.values():
            assert part.expected >= part.floor >= 0, phase.name


@pytest.mark.parametrize(("gpus", "overrides"), TIGHT)
def test_each_offered_change_makes_what_does_not_fit_fit(gpus: str, overrides: list[str]) -> None:
    plan = plan_of("vision-r1", gpus, *overrides)
    assert not plan.fits
    for phase in plan.phases:
        if phase.fit is None or phase.fit.fits:
            assert phase.name not in plan.knobs
            continue
        offered = plan.knobs[phase.name]
        assert offered, phase.name
        kept = [knob.gpu_hours for knob in offered if knob.same_training]
        assert kept == sorted(kept)
        for knob in offered:
            words = knob.change.split()
            fleet = next((words[place + 1] for place, word in enumerate(words) if word == "--gpus"), gpus)
            settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
            workers = f"rollout.workers={parse_fleet(fleet).count}"
            changed = load_recipe("vision-r1", [workers, *overrides, *settings])
            fit = fit_of(setting_of(changed, QWEN2_5_VL["7B"], parse_fleet(fleet)), phase.name)
            assert fit.fits, knob


@pytest.mark.parametrize(("gpus", "overrides"), TIGHT)
def test_each_change_that_is_tried_makes_the_plan_smaller(gpus: str, overrides: list[str]) -> None:
    recipe = load_recipe("vision-r1", [f"rollout.workers={parse_fleet(gpus).count}", *overrides])
    setting = setting_of(recipe, QWEN2_5_VL["7B"], parse_fleet(gpus))

    for phase in phases(recipe):
        before = fit_of(setting, phase.name).tightest.gpu_total
        for change, _, other in knobs(setting, phase):
            assert fit_of(other, phase.name).tightest.gpu_total < before, (phase.name, change)


def test_where_no_single_change_is_enough_several_are_named() -> None:
    wrong = ["model.gradient_checkpointing=false", "optimiser.micro_batch_tokens=100000"]
    (only,) = plan_of("vision-r1", "8xH800", *wrong).knobs["stage-1"]
    assert only.change == "--set model.gradient_checkpointing=true --set optimiser.micro_batch_tokens=null"


def test_sft_gets_as_many_gpus_as_its_batch_has_samples() -> None:
    sft = load_recipe("vision-r1").sft
    assert sft is not None
    assert [sft_fleet(sft, parse_fleet(f"{count}xH800")).count for count in (64, 32, 20, 8, 4, 1)] == [32, 32, 16, 8, 4, 1]


def test_the_run_directory_holds_what_retention_keeps() -> None:
    plan = plan_of("vision-r1", None, "sft=null", "metrics.save_rollouts=false", "data.held_out=null")
    model = QWEN2_5_VL["7B"]
    whole = (2 + 12) * model.parameters
    # Of each stage, every fifth step of the last 50; the newest two are among them.
    assert plan.disk.directory == 2 * 10 * whole
    assert plan.disk.written == 2 * 20 * whole
    assert plan.disk.read == 8 * 2 * model.parameters  # stage 2: each node its policy; the reference is the base model


def test_a_model_that_is_not_here_is_refused_in_one_line(tmp_path: object) -> None:
    with pytest.raises(BadInput, match=r"^model.base: the sizes of 'nobody/nothing' are not known here; give a directory"):
        find_model_sizes(Model(base="nobody/nothing"))
