"""What makes a phase fit that does not: changes of the recipe or of the GPUs, tried one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from visionr1.capacity.phases import PhasePlan, plan_phase
from visionr1.capacity.times import Setting
from visionr1.errors import BadInput
from visionr1.recipe.load import parse_recipe, to_yaml
from visionr1.recipe.phases import Phase, StagePhase, phases

_LEAST_ROW: Final = 4096
_MOST_PARALLEL: Final = 8
_MOST_CHANGES: Final = 3


@dataclass(frozen=True)
class Knob:
    """A change that makes a phase fit.

    Attributes:
        change: as the command line takes it: `--set ...` or `--gpus ...`.
        gpu_hours: of the phase with it.
        same_training: whether the same is trained for; else the change is one of method.
    """

    change: str
    gpu_hours: float
    same_training: bool


def knobs_for(setting: Setting, phase: Phase) -> tuple[Knob, ...]:
    """Single changes with which the phase fits, by GPU-hours; those that change what is trained come last."""
    found = []
    for change, same_training, other in knobs(setting, phase):
        plan = _plan(other, phase.name)
        if plan.fit is not None and plan.fit.fits:
            found.append(Knob(change, plan.gpu_hours, same_training))
    return tuple(sorted(found, key=lambda knob: (not knob.same_training, knob.gpu_hours))) or _together(setting, phase)


def _together(setting: Setting, phase: Phase) -> tuple[Knob, ...]:
    """Where no single change is enough: those that save most, one after the other, without a change of method."""
    changes: list[str] = []
    for _ in range(_MOST_CHANGES):
        possible = [(change, other) for change, same_training, other in knobs(setting, phase) if same_training]
        if not possible:
            break
        change, setting = min(possible, key=lambda one: _preference(one[0], _plan(one[1], phase.name)))
        changes = [*(one for one in changes if not _replaces(change, one)), change]
        plan = _plan(setting, phase.name)
        if plan.fit is not None and plan.fit.fits:
            return (Knob(" ".join(changes), plan.gpu_hours, same_training=True),)
    return ()


def _preference(change: str, plan: PhasePlan) -> tuple[bool, bool, float]:
    """Smallest for a change that fits at few GPU-hours; else the recipe's come before more GPUs, and what saves most first."""
    fits = plan.fit is not None and plan.fit.fits
    return not fits, change.startswith("--gpus"), plan.gpu_hours if fits else _tightest(plan)


def _replaces(change: str, earlier: str) -> bool:
    """Whether both set the same thing."""
    return change.split("=")[0] == earlier.split("=")[0] or change.split()[0] == earlier.split()[0] == "--gpus"


def knobs(setting: Setting, phase: Phase) -> Iterator[tuple[str, bool, Setting]]:
    """All changes that make a phase smaller: how they are written, whether the training stays the same, and what results."""
    before = _tightest(_plan(setting, phase.name))
    for overrides, same_training in _settings(setting, phase):
        try:
            recipe = parse_recipe(to_yaml(setting.recipe), "the recipe", overrides)
        except BadInput:  # a number that does not divide another
            continue
        other = replace(setting, recipe=recipe)
        if _tightest(_plan(other, phase.name)) < before:
            yield " ".join(f"--set {one}" for one in overrides), same_training, other
    for times in (2, 4, 8):
        fleet = setting.fleet.of(times * setting.fleet.count)
        if setting.recipe.stages and setting.recipe.algorithm.prompts_per_step % fleet.count:
            continue
        workers = setting.recipe.rollout.model_copy(update={"workers": fleet.count})
        other = replace(
            setting,
            recipe=setting.recipe.model_copy(update={"rollout": workers}),
            fleet=fleet,
            sft_gpus=_times(setting.sft_gpus, times),
        )
        if _tightest(_plan(other, phase.name)) < before:
            yield f"--gpus {fleet.count}x{fleet.card.name}", True, other


def _times(count: int | None, times: int) -> int | None:
    return None if count is None else times * count


def _plan(setting: Setting, name: str) -> PhasePlan:
    """Of the phase of that name, as the setting's recipe has it."""
    return plan_phase(setting, next(phase for phase in phases(setting.recipe) if phase.name == name))


def _tightest(plan: PhasePlan) -> float:
    assert plan.fit is not None
    return plan.fit.tightest.gpu_total


def _settings(setting: Setting, phase: Phase) -> Iterator[tuple[list[str], bool]]:
    recipe = setting.recipe
    if not recipe.model.gradient_checkpointing:
        yield ["model.gradient_checkpointing=true"], True
    if isinstance(phase, StagePhase):
        yield from _of_stage(setting, phase)
    elif phase.kind == "evaluate":
        if recipe.rollout.gpu_memory_utilization is not None:
            yield ["rollout.gpu_memory_utilization=null"], True
        if recipe.stages:
            yield from _parallel(setting, len(recipe.stages) - 1)
    elif recipe.sft is not None:
        if recipe.sft.zero_stage != "auto":
            yield ["sft.zero_stage=auto"], True
        if not recipe.sft.freeze_vision_tower:
            yield ["sft.freeze_vision_tower=true"], False
        if recipe.sft.cutoff_tokens > _LEAST_ROW:
            half = recipe.sft.cutoff_tokens // 2
            yield [f"sft.cutoff_tokens={half}", f"sft.micro_batch_tokens={min(half, recipe.sft.micro_batch_tokens)}"], False


def _of_stage(setting: Setting, phase: StagePhase) -> Iterator[tuple[list[str], bool]]:
    recipe, here = setting.recipe, f"stages.{phase.number - 1}"
    if recipe.optimiser.micro_batch_tokens is not None:
        yield ["optimiser.micro_batch_tokens=null"], True
    if recipe.rollout.gpu_memory_utilization is not None:
        yield ["rollout.gpu_memory_utilization=null"], True
    if recipe.algorithm.kl_beta > 0 and recipe.algorithm.reference_device == "gpu":
        yield ["algorithm.reference_device=auto"], True
    if recipe.optimiser.zero_stage != "auto":
        yield ["optimiser.zero_stage=auto"], True
    yield from _parallel(setting, phase.number - 1)
    if not recipe.optimiser.freeze_vision_tower:
        yield ["optimiser.freeze_vision_tower=true"], False
    if phase.stage.max_completion_tokens > _LEAST_ROW:
        yield [f"{here}.max_completion_tokens={phase.stage.max_completion_tokens // 2}"], False
    if recipe.algorithm.kl_beta > 0:
        yield ["algorithm.kl_beta=0"], False


def _parallel(setting: Setting, index: int) -> Iterator[tuple[list[str], bool]]:
    parallel = 2 * setting.recipe.stages[index].tensor_parallel
    while parallel <= min(_MOST_PARALLEL, setting.fleet.per_node, setting.fleet.count):
        yield [f"stages.{index}.tensor_parallel={parallel}"], True
        parallel *= 2
