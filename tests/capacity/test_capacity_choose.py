"""What the autos choose fits at every moment, and what cannot fit is refused in one line."""

import pytest

from visionr1.capacity.choose import ROWS, SPARE, Choice, Gpus, choose_sft_zero_stage, choose_stage, evaluation_share
from visionr1.capacity.memory import Place, Setup, sft_moments, stage_moments
from visionr1.capacity.model import QWEN2_5_VL
from visionr1.errors import BadInput
from visionr1.recipe import Recipe, load_recipe

GIB = 79.2
"""Of an 80 GB card, what a process can have."""
CASES = [
    (name, gpus, tensor_parallel, number)
    for name, gpus, tensor_parallel in [("7B", 64, 1), ("7B", 8, 1), ("3B", 1, 1), ("32B", 64, 4), ("72B", 64, 8)]
    for number in (0, 1)
]


def recipe_for(gpus: int, tensor_parallel: int, *settings: str) -> Recipe:
    parts = [f"stages.{index}.tensor_parallel={tensor_parallel}" for index in (0, 1)]
    return load_recipe("vision-r1", [f"rollout.workers={gpus}", *parts, *settings])


def setup_of(name: str, gpus: int, tensor_parallel: int, choice: Choice, longest: int) -> Setup:
    return Setup(
        model=QWEN2_5_VL[name],
        gpu_gib=GIB,
        gpus=gpus,
        zero_stage=choice.zero_stage,
        row_tokens=choice.row_tokens,
        longest=longest,
        tensor_parallel=tensor_parallel,
        reference=choice.reference,
        engine_share=choice.engine_share,
    )


@pytest.mark.parametrize(("name", "gpus", "tensor_parallel", "number"), CASES)
def test_every_moment_of_a_stage_leaves_room(name: str, gpus: int, tensor_parallel: int, number: int) -> None:
    recipe = recipe_for(gpus, tensor_parallel)
    stage = recipe.stages[number]
    choice = choose_stage(recipe, stage, QWEN2_5_VL[name], Gpus(GIB, gpus))
    longest = recipe.data.max_prompt_tokens + stage.max_completion_tokens
    assert choice.row_tokens >= longest
    moments = stage_moments(setup_of(name, gpus, tensor_parallel, choice, longest))
    assert [moment.name for moment in moments] == [
        "load", "construct", "rollout", "reference", "update", "step", "save", "sync", "probe"
    ]  # fmt: skip
    for moment in moments:
        assert moment.gpu_total <= (1 - SPARE) * GIB, (moment.name, moment.gpu)


@pytest.mark.parametrize(
    ("name", "gpus", "tensor_parallel", "zero_stage", "reference"),
    [
        ("7B", 64, 1, 2, "gpu"),
        ("7B", 8, 1, 2, "gpu"),
        ("3B", 1, 1, 2, "host"),
        ("32B", 64, 4, 3, "gpu"),
        ("72B", 64, 8, 3, "gpu"),
    ],
)
def test_what_is_chosen(name: str, gpus: int, tensor_parallel: int, zero_stage: int, reference: str) -> None:
    recipe = recipe_for(gpus, tensor_parallel)
    choice = choose_stage(recipe, recipe.stages[0], QWEN2_5_VL[name], Gpus(GIB, gpus))
    assert (choice.zero_stage, choice.reference) == (zero_stage, reference)
    assert choice.engine_share > 0.6


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["optimiser.zero_stage=3"], ("zero_stage", 3)),
        (["optimiser.micro_batch_tokens=9000"], ("row_tokens", 9000)),
        (["rollout.gpu_memory_utilization=0.5"], ("engine_share", 0.5)),
        (["algorithm.reference_device=host"], ("reference", "host")),
        (["algorithm.kl_beta=0"], ("reference", "none")),
    ],
)
def test_what_the_recipe_says_stays(settings: list[str], expected: tuple[str, object]) -> None:
    recipe = recipe_for(8, 1, *settings)
    choice = choose_stage(recipe, recipe.stages[0], QWEN2_5_VL["7B"], Gpus(GIB, 8))
    assert getattr(choice, expected[0]) == expected[1]


def test_a_model_that_cannot_fit_names_the_item_in_the_way() -> None:
    recipe = recipe_for(1, 1)
    with pytest.raises(
        BadInput, match=r"^the model does not fit on 1 GPUs of 79.2 GiB: in the moment 'step' .* for moments; take"
    ):
        choose_stage(recipe, recipe.stages[0], QWEN2_5_VL["7B"], Gpus(GIB, 1))


def test_72b_on_one_machine_is_refused() -> None:
    recipe = recipe_for(8, 8)
    with pytest.raises(
        BadInput, match=r"^the model does not fit on 8 GPUs of 79.2 GiB: in the moment 'step' .* for moments; take"
    ):
        choose_stage(recipe, recipe.stages[0], QWEN2_5_VL["72B"], Gpus(GIB, 8))


def test_a_model_that_comes_divided_needs_its_part_and_one_tensor_on_the_host() -> None:
    def loading(zero_stage: int, reference: Place) -> float:
        setup = setup_of("72B", 64, 8, Choice(zero_stage, reference, 8192, 0.5), 8192)
        [load] = [moment for moment in stage_moments(setup) if moment.name == "load"]
        return load.host["weights being loaded"] / 8

    assert loading(3, "gpu") < 3 < loading(3, "host") == loading(2, "gpu")


def test_a_recipe_that_leaves_nothing_open_is_taken_at_its_word() -> None:
    all_four = [
        "optimiser.zero_stage=2",
        "optimiser.micro_batch_tokens=8192",
        "rollout.gpu_memory_utilization=0.3",
        "algorithm.reference_device=gpu",
    ]
    recipe = recipe_for(1, 1, *all_four)
    assert choose_stage(recipe, recipe.stages[0], QWEN2_5_VL["7B"], Gpus(GIB, 1)) == Choice(2, "gpu", 8192, 0.3)


def test_on_a_cpu_nothing_is_planned() -> None:
    recipe = load_recipe("demo", ["optimiser.zero_stage=auto", "optimiser.micro_batch_tokens=null"])
    choice = choose_stage(recipe, recipe.stages[0], QWEN2_5_VL["72B"], None)
    assert (choice.zero_stage, choice.reference, choice.row_tokens) == (2, "gpu", ROWS[0])


def test_sft_takes_the_first_stage_that_fits() -> None:
    recipe = load_recipe("vision-r1", ["sft.zero_stage=auto"])
    assert recipe.sft is not None
    assert choose_sft_zero_stage(recipe, recipe.sft, QWEN2_5_VL["7B"], Gpus(GIB, 32)) == 2
    assert choose_sft_zero_stage(recipe, recipe.sft, QWEN2_5_VL["32B"], Gpus(GIB, 64)) == 3
    with pytest.raises(BadInput, match=r"^the model does not fit on 1 GPUs .*sft.processes"):
        choose_sft_zero_stage(recipe, recipe.sft, QWEN2_5_VL["7B"], Gpus(GIB, 1))


def test_more_gpus_never_need_more_and_a_longer_row_never_less() -> None:
    one = setup_of("7B", 8, 1, Choice(2, "gpu", 8192, 0.5), 8192)
    for moments in (stage_moments, sft_moments):
        for few, many in zip(moments(one), moments(setup_of("7B", 64, 1, Choice(2, "gpu", 8192, 0.5), 8192)), strict=True):
            assert many.gpu_total <= few.gpu_total, few.name
        for short, long in zip(moments(one), moments(setup_of("7B", 8, 1, Choice(2, "gpu", 16_384, 0.5), 8192)), strict=True):
            assert short.gpu_total <= long.gpu_total, short.name


def test_an_evaluation_has_the_gpu_for_itself() -> None:
    assert evaluation_share(load_recipe("vision-r1", [])) == 0.9
    assert evaluation_share(load_recipe("vision-r1", ["rollout.gpu_memory_utilization=0.4"])) == 0.4
