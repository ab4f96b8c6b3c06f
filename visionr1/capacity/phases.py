"""The plan of each phase: what it needs in memory, how its batch looks, how long its steps take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from visionr1.capacity.cards import Fleet
from visionr1.capacity.choose import Choice, Fit, Gpus, choose_stage, fit_evaluation, fit_sft, fit_stage
from visionr1.capacity.lengths import MOST_OF_LIMIT, part_of, spread
from visionr1.capacity.memory import GIB
from visionr1.capacity.times import Part, Rows, Setting, StepTimes, sampling_seconds, sft_times, stage_times
from visionr1.recipe.phases import Phase, StagePhase, sft_steps
from visionr1.recipe.schema import SFT

CI_LENGTH: Final = 3566
"""Completion tokens after the cold start alone, on the RL set (table 3)."""
TEACHER_CALLS: Final = 3
"""Requests of modality bridging per problem (section 3.3.1)."""


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """What is expected of a phase.

    Attributes:
        fit: its memory; None where memory is not planned.
        choice: what the recipe leaves open, in words.
        shape: of a step, in words.
        steps: of the phase; for an evaluation, the models that it scores.
        parts: seconds of the parts of a step.
        start: seconds before the first step.
        tokens: of a step, prompts included.
        remark: what else there is to say.
    """

    name: str
    title: str
    gpus: int
    nodes: int
    fit: Fit | None = None
    choice: str = ""
    shape: tuple[str, ...] = ()
    steps: int = 0
    parts: dict[str, Part] = field(default_factory=dict)
    start: float = 0.0
    tokens: float = 0.0
    remark: str = ""

    @property
    def step_seconds(self) -> float:
        """Of a step on average."""
        return sum(part.expected for part in self.parts.values())

    @property
    def seconds(self) -> float:
        """Of the phase."""
        return self.start + self.steps * self.step_seconds

    @property
    def gpu_hours(self) -> float:
        """GPUs times hours."""
        return self.gpus * self.seconds / 3600


def fleet_gpus(fleet: Fleet) -> Gpus | None:
    """For the choice of what a recipe leaves open; None on a CPU, where memory is not planned."""
    return Gpus(fleet.card.gib, fleet.count) if fleet.card.gib else None


def sft_fleet(sft: SFT, fleet: Fleet, count: int | None = None) -> Fleet:
    """`count` GPUs, or as many as a batch has samples, in whole nodes of `sft.processes`; at most one node on a CPU."""
    if count is not None:
        return Fleet(fleet.card, count, min(sft.processes, count))
    if not fleet.card.gib:
        return Fleet(fleet.card, sft.processes, sft.processes)
    most = min(fleet.count, max(sft.global_batch_size, 1))
    per_node = min(sft.processes, fleet.per_node)
    return fleet.of(most if most < per_node else most // per_node * per_node)


def plan_phase(setting: Setting, phase: Phase) -> PhasePlan:
    """The plan of one phase on the setting's GPUs."""
    recipe = setting.recipe
    if isinstance(phase, StagePhase):
        return _stage(setting, phase)
    if phase.kind == "sft" and recipe.sft is not None:
        return _sft(setting, phase, recipe.sft)
    return _evaluation(setting, phase) if phase.kind == "evaluate" else _coldstart(setting, phase)


def _stage(setting: Setting, phase: StagePhase) -> PhasePlan:
    recipe, fleet, stage = setting.recipe, setting.fleet, phase.stage
    gpus, index = fleet_gpus(fleet), phase.number - 1
    fit = None if gpus is None else fit_stage(recipe, stage, setting.model, gpus)
    choice = choose_stage(recipe, stage, setting.model, None) if fit is None else fit.choice
    mean = setting.sizes.completion_tokens[index]
    cache = _cache_tokens(setting, fit, stage.tensor_parallel)
    times = stage_times(setting, stage, choice, mean, cache)
    longest = recipe.data.max_prompt_tokens + stage.max_completion_tokens
    sequences = recipe.algorithm.prompts_per_step * stage.group_size
    shape = (
        f"{recipe.algorithm.prompts_per_step} prompts x {stage.group_size} = {sequences:,} completions of {mean:,.0f} tokens "
        f"(limit {stage.max_completion_tokens:,})",
        _row_words(times, choice.row_tokens),
        f"the KV cache of an engine holds {_held(cache / longest)} of full length, {_held(cache / (_prompt(setting) + mean))} "
        f"of mean length; it decodes {min(recipe.rollout.max_sequences, sequences * stage.tensor_parallel // fleet.count):,} "
        "at a time at most",
    )
    return PhasePlan(
        name=phase.name,
        title=f"{phase.title}: {stage.max_completion_tokens} x {stage.group_size}",
        gpus=fleet.count,
        nodes=fleet.nodes,
        fit=fit,
        choice=_choice_words(choice, fit),
        shape=shape if fit else shape[:2],
        steps=stage.steps,
        parts=times.parts,
        start=setting.pace.start_seconds,
        tokens=times.tokens,
    )


def _sft(setting: Setting, phase: Phase, sft: SFT) -> PhasePlan:
    fleet = sft_fleet(sft, setting.fleet, setting.sft_gpus)
    gpus = fleet_gpus(fleet)
    fit = None if gpus is None else fit_sft(setting.recipe, sft, setting.model, gpus)
    own = replace(setting, fleet=fleet)
    zero_stage = 2 if fit is None else fit.choice.zero_stage
    steps = sft_steps(sft, setting.sizes.sft_samples)
    times = sft_times(own, sft, zero_stage, steps)
    return PhasePlan(
        name=phase.name,
        title="SFT",
        gpus=fleet.count,
        nodes=fleet.nodes,
        fit=fit,
        choice=f"ZeRO-{zero_stage}" if fit else "",
        shape=(
            f"{sft.global_batch_size} samples of {setting.sizes.sft_tokens:,.0f} tokens (limit {sft.cutoff_tokens:,})",
            _row_words(times, sft.micro_batch_tokens),
        ),
        steps=steps,
        parts=times.parts,
        start=setting.pace.start_seconds,
        tokens=times.tokens,
    )


def _evaluation(setting: Setting, phase: Phase) -> PhasePlan:
    recipe = setting.recipe
    models = 1 + len(recipe.stages)
    parallel, engines = recipe.stages[-1].tensor_parallel if recipe.stages else 1, recipe.evaluation.workers
    own = replace(setting, fleet=setting.fleet.of(parallel))
    whole = setting.fleet.of(parallel * engines)
    limit = recipe.evaluation.max_completion_tokens
    mean = min(setting.sizes.completion_tokens[-1] if recipe.stages else CI_LENGTH, MOST_OF_LIMIT * limit)
    count = setting.sizes.held_out * recipe.evaluation.samples
    gpus = fleet_gpus(own.fleet)
    fit = None if gpus is None else fit_evaluation(recipe, setting.model, gpus, whole.per_node)
    cache = _cache_tokens(setting, fit, parallel)
    shown, times = part_of(-(-count // engines))
    lengths = spread(mean, limit, shown)
    sampling = times * sampling_seconds(own, setting.sizes.held_out / engines / times, lengths, cache, parallel)
    grading = count / (recipe.reward.processes * setting.pace.grades)
    return PhasePlan(
        name=phase.name,
        title="evaluation",
        gpus=whole.count,
        nodes=whole.nodes,
        fit=fit,
        shape=(f"{models} models on {setting.sizes.held_out:,} problems, {count:,} completions of {mean:,.0f} tokens each",),
        steps=models,
        parts={"start": Part(setting.pace.start_seconds), "rollout": Part(sampling), "reward": Part(grading)},
        tokens=count * mean + setting.sizes.held_out * _prompt(setting),
    )


def _coldstart(setting: Setting, phase: Phase) -> PhasePlan:
    recipe = setting.recipe
    assert recipe.coldstart is not None
    problems = setting.sizes.sft_samples
    return PhasePlan(
        name=phase.name,
        title="cold-start data",
        gpus=0,
        nodes=1,
        shape=(f"{problems:,} problems, {TEACHER_CALLS * problems:,} requests, {recipe.coldstart.concurrency} at a time",),
        remark="its time is that of the teachers, which are not part of the run (the paper: 128 H800 for about 2 days)",
    )


def _prompt(setting: Setting) -> float:
    return setting.sizes.prompt_tokens


def _cache_tokens(setting: Setting, fit: Fit | None, parallel: int) -> float:
    """Tokens that the KV cache of an engine on `parallel` GPUs holds."""
    if fit is None:
        return _cpu_cache(setting)
    rollout = next(moment for moment in fit.moments if moment.name == "rollout")
    return _tokens_in(setting, rollout.gpu["KV cache"] * GIB * parallel)


def _cpu_cache(setting: Setting) -> float:
    return _tokens_in(setting, setting.recipe.rollout.cpu_kv_cache_gib * GIB)


def _tokens_in(setting: Setting, size: float) -> float:
    return max(1.0, size / (setting.element * 2 * setting.model.layers * setting.model.keys))


def _held(sequences: float) -> str:
    return f"{sequences:.1f}" if sequences < 10 else f"{sequences:,.0f}"


def _row_words(times: StepTimes, row_tokens: int) -> str:
    rows: Rows = times.rows
    if rows.passes == 1:
        return f"one micro-batch of up to {row_tokens:,} tokens per rank"
    return (
        f"{rows.passes:,} micro-batches of up to {row_tokens:,} tokens per rank, {rows.idle:.1f} of them idle or unfilled on an "
        "average rank"
    )


def _choice_words(choice: Choice, fit: Fit | None) -> str:
    return str(choice) if fit else f"rows of {choice.row_tokens} tokens"
