"""What a recipe leaves to us (`auto` or null), decided from what fits on the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from visionr1.capacity.memory import Moment, Place, Setup, evaluation_moment, sft_moments, stage_moments, with_room_for_engine
from visionr1.capacity.model import ModelSizes
from visionr1.errors import BadInput
from visionr1.recipe.phases import Phase
from visionr1.recipe.schema import SFT, Recipe, Stage

SPARE: Final = 0.08
"""Part of a GPU that a choice leaves free: for the allocator's gaps, and for what the estimates miss."""
ROWS: Final = (20_480, 16_384, 12_288, 8_192, 4_096)
"""Tokens of a packed row to try, largest first; what a longer row saves past 8,192 is little."""
ALONE_SHARE: Final = 0.9
"""vLLM's part of a GPU that it shares with no trainer (evaluation)."""
NO_SHARE: Final = 0.0
"""Before it is chosen, and on a CPU, where the KV cache has a size of its own (`rollout.cpu_kv_cache_gib`)."""


@dataclass(frozen=True)
class Gpus:
    """GPUs of a phase; `gib` is what a process can have of one."""

    gib: float
    count: int


@dataclass(frozen=True)
class Choice:
    """How a GRPO stage uses memory."""

    zero_stage: int
    reference: Place
    row_tokens: int
    engine_share: float

    def __str__(self) -> str:
        reference = {"none": "no reference model", "gpu": "reference on the GPU", "host": "reference on the host between passes"}
        return (
            f"ZeRO-{self.zero_stage}, {reference[self.reference]}, rows of {self.row_tokens} tokens, "
            f"{self.engine_share:.0%} of the GPU for vLLM"
        )


@dataclass(frozen=True)
class Fit:
    """A way to use memory, with all its moments; `limit` is what one GPU may hold, in GiB."""

    choice: Choice
    moments: tuple[Moment, ...]
    limit: float

    @property
    def tightest(self) -> Moment:
        """The moment that needs most of a GPU."""
        return max(self.moments, key=lambda moment: moment.gpu_total)

    @property
    def fits(self) -> bool:
        """Whether each moment stays within the limit."""
        return self.tightest.gpu_total <= self.limit


def refuses(recipe: Recipe, phase: Phase, fit: Fit, gib: float) -> bool:
    """Whether the phase surely fails on GPUs of so many GiB.

    Where the recipe leaves something open, the phase refuses to begin; else it may use the part that is kept free, too.
    """
    if phase.kind == "grpo":
        leaves = _leaves_something(recipe)
    else:
        leaves = phase.kind == "sft" and recipe.sft is not None and recipe.sft.zero_stage == "auto"
    return not fit.fits if leaves else fit.tightest.gpu_total > gib


def choose_stage(recipe: Recipe, stage: Stage, model: ModelSizes, gpus: Gpus | None) -> Choice:
    """The first that fits with room to spare of: ZeRO-2 before 3, the reference on the GPU before the host, long rows first.

    A value that the recipe gives stays as it is; where it gives all four nothing is checked.

    Args:
        gpus: None on a CPU, where memory is not planned.

    Raises:
        BadInput: nothing fits.
    """
    if gpus is None or not _leaves_something(recipe):
        return next(_candidates(recipe, stage, gpus))
    fit = fit_stage(recipe, stage, model, gpus)
    if not fit.fits:
        raise BadInput(_does_not_fit(fit, gpus, "rollout.workers"))
    return fit.choice


def fit_stage(recipe: Recipe, stage: Stage, model: ModelSizes, gpus: Gpus) -> Fit:
    """The first way that fits, in the order of `choose_stage`, else the one that is nearest to it."""
    fits = []
    for choice in _candidates(recipe, stage, gpus):
        setup = _setup(recipe, stage, model, gpus, choice)
        if recipe.rollout.gpu_memory_utilization is None:
            setup = with_room_for_engine(setup, _limit(gpus))
        fits.append(Fit(replace(choice, engine_share=setup.engine_share), tuple(stage_moments(setup)), _limit(gpus)))
        if fits[-1].fits:
            return fits[-1]
    return min(fits, key=lambda fit: fit.tightest.gpu_total)


def choose_sft_zero_stage(recipe: Recipe, sft: SFT, model: ModelSizes, gpus: Gpus | None) -> int:
    """`sft.zero_stage`, or the first of 2 and 3 that fits; 2 on a CPU.

    Raises:
        BadInput: neither fits.
    """
    if sft.zero_stage != "auto":
        return sft.zero_stage
    if gpus is None:
        return 2
    fit = fit_sft(recipe, sft, model, gpus)
    if not fit.fits:
        raise BadInput(_does_not_fit(fit, gpus, "sft.processes"))
    return fit.choice.zero_stage


def fit_sft(recipe: Recipe, sft: SFT, model: ModelSizes, gpus: Gpus) -> Fit:
    """The first of the ZeRO stages that fits, else the one that is nearest to it."""
    stages = ((2, 3) if gpus.count > 1 else (2,)) if sft.zero_stage == "auto" else (sft.zero_stage,)
    fits = []
    for zero_stage in stages:
        setup = Setup(
            model=model,
            gpu_gib=gpus.gib,
            gpus=gpus.count,
            zero_stage=zero_stage,
            reference="none",
            row_tokens=max(sft.micro_batch_tokens, sft.cutoff_tokens),
            longest=sft.cutoff_tokens,
            checkpointing=recipe.model.gradient_checkpointing,
            vision_trained=not sft.freeze_vision_tower,
            element=_element(recipe),
        )
        choice = Choice(zero_stage, "none", setup.row_tokens, NO_SHARE)
        fits.append(Fit(choice, tuple(sft_moments(setup)), _limit(gpus)))
        if fits[-1].fits:
            return fits[-1]
    return min(fits, key=lambda fit: fit.tightest.gpu_total)


def fit_evaluation(recipe: Recipe, model: ModelSizes, gpus: Gpus, per_node: int) -> Fit:
    """vLLM alone: `evaluation.workers` engines, each on `gpus.count` GPUs, of which a node has `per_node`."""
    longest = recipe.data.max_prompt_tokens + recipe.evaluation.max_completion_tokens
    setup = Setup(
        model=model,
        gpu_gib=gpus.gib,
        gpus=gpus.count,
        zero_stage=2,
        reference="none",
        row_tokens=longest,
        longest=longest,
        gpus_per_node=per_node,
        tensor_parallel=gpus.count,
        engines=recipe.evaluation.workers,
        engine_share=evaluation_share(recipe),
        element=_element(recipe),
    )
    return Fit(Choice(2, "none", longest, setup.engine_share), (evaluation_moment(setup),), gpus.gib)


def evaluation_share(recipe: Recipe) -> float:
    """vLLM's part of the GPU where it is alone."""
    share = recipe.rollout.gpu_memory_utilization
    return ALONE_SHARE if share is None else share


def _candidates(recipe: Recipe, stage: Stage, gpus: Gpus | None) -> Iterator[Choice]:
    zero, row = recipe.optimiser.zero_stage, recipe.optimiser.micro_batch_tokens
    place, share = recipe.algorithm.reference_device, recipe.rollout.gpu_memory_utilization
    longest = recipe.data.max_prompt_tokens + stage.max_completion_tokens
    stages: Sequence[int] = ((2, 3) if gpus is not None and gpus.count > 1 else (2,)) if zero == "auto" else (zero,)
    places: Sequence[Place] = ("gpu", "host") if place == "auto" else (place,)
    if recipe.algorithm.kl_beta == 0:
        places = ("none",)
    # A row has room for the longest prompt with its completion, so shorter rows would not save anything.
    rows = sorted({max(tokens, longest) for tokens in ROWS}, reverse=True) if row is None else [row]
    for zero_stage in stages:
        for reference in places:
            for row_tokens in rows:
                yield Choice(zero_stage, reference, row_tokens, NO_SHARE if share is None else share)


def _leaves_something(recipe: Recipe) -> bool:
    named = "auto" in (recipe.optimiser.zero_stage, recipe.algorithm.reference_device)
    return named or None in (recipe.optimiser.micro_batch_tokens, recipe.rollout.gpu_memory_utilization)


def _setup(recipe: Recipe, stage: Stage, model: ModelSizes, gpus: Gpus, choice: Choice) -> Setup:
    longest = recipe.data.max_prompt_tokens + stage.max_completion_tokens
    return Setup(
        model=model,
        gpu_gib=gpus.gib,
        gpus=gpus.count,
        zero_stage=choice.zero_stage,
        reference=choice.reference,
        # A sequence that is longer than a row is a row by itself.
        row_tokens=max(choice.row_tokens, longest),
        longest=longest,
        tensor_parallel=stage.tensor_parallel,
        engine_share=choice.engine_share,
        checkpointing=recipe.model.gradient_checkpointing,
        vision_trained=not recipe.optimiser.freeze_vision_tower,
        element=_element(recipe),
    )


def _element(recipe: Recipe) -> int:
    return 2 if recipe.model.dtype == "bfloat16" else 4


def _limit(gpus: Gpus) -> float:
    return (1 - SPARE) * gpus.gib


def _does_not_fit(fit: Fit, gpus: Gpus, more: str) -> str:
    moment = fit.tightest
    item, size = max(moment.gpu.items(), key=lambda pair: pair[1])
    return (
        f"the model does not fit on {gpus.count} GPUs of {gpus.gib:.1f} GiB: in the moment '{moment.name}' each needs "
        f"{moment.gpu_total:.1f} GiB of the {fit.limit:.1f} that may be used, most of it ({size:.1f}) for {item}; take more GPUs "
        f"({more}), a smaller model, or shorter completions"
    )
