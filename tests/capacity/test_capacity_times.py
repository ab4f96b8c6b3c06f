"""Expected times against what others have published, and what must hold for any of them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionr1.capacity.cards import parse_fleet
from visionr1.capacity.choose import Choice
from visionr1.capacity.decode import decode_seconds, mixed
from visionr1.capacity.lengths import Sizes, assumed_sizes, deviation, paper_lengths, spread
from visionr1.capacity.model import QWEN2_5_VL
from visionr1.capacity.pace import GPU, Pace
from visionr1.capacity.plan import plan_phases, setting_of
from visionr1.capacity.times import Setting, StepTimes, sampling_seconds, sft_times, stage_times
from visionr1.recipe import Recipe, load_recipe

MODEL = QWEN2_5_VL["7B"]
AS_EASYR1 = ("model.attention=plain", "algorithm.updates_per_batch=4")
"""Each completion with its own prompt, and four optimiser steps a batch, so a pass for the old log-probs."""
H800 = parse_fleet("64xH800")
PAPER_HOURS = 48
PAPER_SFT_HOURS = 10


def stage_step(
    recipe: Recipe, gpus: str, number: int, choice: Choice, sizes: Sizes, cache: float = 1.4e6, pace: Pace = GPU
) -> StepTimes:
    setting = Setting(recipe=recipe, model=MODEL, fleet=parse_fleet(gpus), pace=pace, sizes=sizes)
    return stage_times(setting, recipe.stages[number], choice, sizes.completion_tokens[number], cache)


@pytest.mark.parametrize(("gpus", "published"), [("8xH100", 120), ("8xL20", 580)])
def test_easyr1_s_published_steps_of_a_7b_model(gpus: str, published: float) -> None:
    """assets/baselines.md of EasyR1: geometry3k, 512 prompts x 5, limit 2,048, vLLM on 2 GPUs, fully sharded, about 750 tokens a
    sequence (throughput x seconds x GPUs / 2,560) of which about 400 are prompt. Micro-batches of 10 sequences in updates and 20
    for log-probs on H100, 4 and 16 on L20; rows here are as long as makes the same number of exchanges between ranks.
    """
    recipe = load_recipe(
        "vision-r1",
        [
            *AS_EASYR1,
            "rollout.workers=8",
            "stages=[{max_completion_tokens: 2048, group_size: 5, tensor_parallel: 2, steps: 60}]",
            "checkpoint.every=60",
        ],
    )
    sizes = replace(assumed_sizes(recipe), prompt_tokens=400, image_tokens=330).with_lengths([350])
    choice = Choice(zero_stage=3, reference="gpu", row_tokens=9200 if gpus == "8xH100" else 4300, engine_share=0.6)
    assert stage_step(recipe, gpus, 0, choice, sizes, 6e5).seconds == pytest.approx(published, rel=0.3)


def paper_hours(pace: Pace, *, padded: bool) -> float:
    recipe = load_recipe("vision-r1", [*AS_EASYR1, "stages.0.tensor_parallel=2", "stages.1.tensor_parallel=2"])
    sizes = assumed_sizes(recipe)
    seconds = 0.0
    for number, stage in enumerate(recipe.stages):
        choice = Choice(zero_stage=3, reference="gpu", row_tokens=4 * (2048 + stage.max_completion_tokens), engine_share=0.6)
        step = stage_step(recipe, "64xH800", number, choice, sizes, pace=pace)
        full = replace(sizes, prompt_tokens=2048).with_lengths([stage.max_completion_tokens - 1])
        as_long = stage_step(recipe, "64xH800", number, choice, full, pace=pace) if padded else step
        parts = step.parts | {part: as_long.parts[part] for part in ("reference", "update")}
        # A validation on the held-out problems every fifth step, by all engines of two GPUs.
        setting = Setting(recipe=recipe, model=MODEL, fleet=H800, pace=pace, sizes=sizes)
        share = round(sizes.held_out / 32)
        lengths = spread(sizes.completion_tokens[number], stage.max_completion_tokens, share)
        seconds += stage.steps / 5 * sampling_seconds(setting, share, lengths, 1.4e6, 2)
        seconds += stage.steps * sum(part.expected for part in parts.values())
    return seconds / 3600


def test_the_paper_s_two_days() -> None:
    """64 H800 for about two days. What does it is the trainer of March 2025, an early EasyR1: four updates a batch, so one pass
    more; every sequence padded to the longest prompt and completion (its default: `padding_free: bool = False`); 13.6 % MFU, as
    it publishes for micro-batches of 4 sequences; vLLM's first engine, with some 20 ms a token beside reading memory; and a
    validation every fifth step, as in its examples.
    """
    early = replace(GPU, compute=0.136 * 4 / 3, token_seconds=0.02)
    assert PAPER_HOURS / 1.5 <= paper_hours(early, padded=True) <= 1.5 * PAPER_HOURS
    # This engine, without all of that, on the same GPUs.
    ours = plan_phases(setting_of(load_recipe("vision-r1", ["sft=null"]), MODEL, H800))
    assert sum(plan.seconds for _, plan in ours) / 3600 < PAPER_HOURS / 4


def test_the_paper_s_ten_hours_of_sft() -> None:
    recipe = load_recipe("vision-r1")
    assert recipe.sft is not None
    setting = setting_of(recipe, MODEL, parse_fleet("32xH800"))
    hours = 16_312 * sft_times(setting, recipe.sft, 3, 16_312).seconds / 3600
    assert PAPER_SFT_HOURS / 1.5 <= hours <= 1.5 * PAPER_SFT_HOURS


def times_of(gpus: int, *overrides: str) -> dict[str, tuple[float, float, float]]:
    """Of each GRPO stage: seconds of a step, GPU-seconds, seconds that a rank waits for fuller ones."""
    recipe = load_recipe("vision-r1", [f"rollout.workers={gpus}", *overrides])
    planned = plan_phases(setting_of(recipe, MODEL, parse_fleet(f"{gpus}xH800")))
    return {
        phase.name: (plan.step_seconds, plan.step_seconds * plan.gpus, sum(part.expected for part in plan.parts.values()))
        for phase, plan in planned
    }


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_more_gpus_are_never_slower(tensor_parallel: int) -> None:
    overrides = [f"stages.{index}.tensor_parallel={tensor_parallel}" for index in (0, 1)]
    before = None
    for gpus in (8, 16, 32, 64, 128, 256):
        after = {name: seconds for name, (seconds, _, _) in times_of(gpus, *overrides).items()}
        if before is not None:
            # From one node to two, exchanges go over the network; idle passes are at most one row's time.
            assert all(after[name] <= 1.02 * before[name] for name in ("stage-1", "stage-2")), (gpus, before, after)
        before = after


@given(
    mean=st.floats(10, 4000),
    limit=st.integers(4096, 16_384),
    more=st.integers(1, 16_384),
    gpus=st.sampled_from([8, 16, 64]),
)
@settings(max_examples=25, deadline=None)
def test_a_longer_limit_is_never_faster(mean: float, limit: int, more: int, gpus: int) -> None:
    def step(longest: int) -> float:
        stages = f"stages=[{{max_completion_tokens: {longest}, group_size: 4}}]"
        recipe = load_recipe("vision-r1", [f"rollout.workers={gpus}", stages])
        choice = Choice(2, "gpu", 40_000, 0.6)
        sizes = assumed_sizes(recipe).with_lengths([mean])
        return stage_step(recipe, f"{gpus}xH100", 0, choice, sizes).seconds

    assert step(limit + more) >= step(limit) * 0.999


@given(limits=st.lists(st.integers(64, 32_768), min_size=1, max_size=4), index=st.integers(0, 3), more=st.integers(1, 8192))
@settings(max_examples=50, deadline=None)
def test_a_longer_limit_never_has_shorter_completions(limits: list[int], index: int, more: int) -> None:
    def lengths(chosen: list[int]) -> tuple[float, ...]:
        stages = ", ".join(f"{{max_completion_tokens: {limit}, group_size: 4}}" for limit in chosen)
        return paper_lengths(load_recipe("vision-r1", [f"stages=[{stages}]"]))

    index %= len(limits)
    longer = [limit + more if place == index else limit for place, limit in enumerate(limits)]
    assert all(new >= old for old, new in zip(lengths(limits), lengths(longer), strict=True))


def test_the_paper_s_lengths() -> None:
    ptst = paper_lengths(load_recipe("vision-r1"))
    assert ptst == pytest.approx((1840, 1695), rel=0.01)
    assert paper_lengths(load_recipe("zero")) == pytest.approx((675,), rel=0.01)
    assert 3000 < paper_lengths(load_recipe("long"))[0] < 4000


@given(mean=st.floats(1, 4000), limit=st.floats(4100, 32_768), count=st.integers(1, 500))
@settings(max_examples=100, deadline=None)
def test_spread_lengths_have_the_mean_and_stay_within_the_limit(mean: float, limit: float, count: int) -> None:
    lengths = spread(mean, limit, count)
    assert len(lengths) == count and lengths == sorted(lengths) and lengths[0] >= 0 and lengths[-1] <= limit
    if lengths[-1] < limit:  # else what would be longer is cut
        assert sum(lengths) / count == pytest.approx(mean)
    assert sorted(mixed(lengths)) == lengths


def test_the_deviation_is_that_of_the_spread_lengths() -> None:
    lengths = spread(1500, 8192, 20_000)
    variance = sum((length - 1500) ** 2 for length in lengths) / len(lengths)
    assert deviation(1500, 8192) == pytest.approx(variance**0.5, rel=0.01)


def test_decoding_by_hand() -> None:
    """One second for each token of all that run, half a second for each token that lies in the cache."""

    def step(active: int, context: float) -> float:
        return active + context / 2

    # Two at a time: the third (2 tokens) begins when the first (1 token) is complete.
    together = [(2, 2 * 10.5), (2, 10 + 1.5 + 10 + 0.5), (2, 10 + 2.5 + 10 + 1.5)]
    assert decode_seconds(10, [1, 3, 2], 2, step) == pytest.approx(sum(active + context / 2 for active, context in together))
    assert decode_seconds(10, [3], 8, step) == pytest.approx(sum(1 + (10 + middle) / 2 for middle in (0.5, 1.5, 2.5)))
    assert decode_seconds(10, [], 8, step) == 0
