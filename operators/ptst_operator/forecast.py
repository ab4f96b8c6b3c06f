"""What is expected of a run on the GPUs that its pods ask for: what surely does not fit, memory, and hours that are left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ptst_operator.elastic import fewest
from ptst_operator.spec import Pods, Spec
from visionr1.capacity.cards import CARDS, Card, Fleet, card_of_driver
from visionr1.capacity.model import find_model_sizes
from visionr1.capacity.phases import PhasePlan
from visionr1.capacity.plan import PAPER_CARD, plan_phases, setting_of
from visionr1.capacity.preflight import LARGEST, memory_faults
from visionr1.errors import BadInput
from visionr1.recipe import PhaseKind, Recipe, StagePhase, phases

PRODUCT: Final = "nvidia.com/gpu.product"
"""Label of a node with the name of its GPUs, from NVIDIA's GPU feature discovery."""

_MOST_HOURS: Final = 100 * 366 * 24.0
"""A run that would take longer, by its plan or by what its driver says, is not forecast."""


@dataclass(frozen=True)
class Done:
    """How far a phase is: steps that are done, and seconds of its newest step where they are known."""

    steps: int
    step_seconds: float | None = None


def card_of(spec: Spec) -> Card | None:
    """The card of the workers' nodes, by the node selector of their pods; None if that does not say."""
    pods: tuple[Pods, ...] = (spec.grpo.workers, spec.pods)
    names = (pods_.node_selector.get(PRODUCT) for pods_ in pods)
    return next((card_of_driver(name) for name in names if name), None)


def faults(spec: Spec, recipe: Recipe) -> tuple[str, ...]:
    """What surely does not fit on the run's GPUs, also with the fewest workers that a stage may begin with.

    Where nobody says which GPUs they are, on the largest that are known.
    """
    card, per_pod, sft_gpus = card_of(spec) or LARGEST, spec.grpo.workers_per_pod, _sft_gpus(spec, recipe)
    lines, least = _faults(recipe, card, per_pod, sft_gpus), fewest(spec, recipe)
    if lines or least == recipe:
        return lines
    with_fewer = f"with {least.rollout.workers} workers, which spec.grpo.minWorkers allows"
    return tuple(f"{line} ({with_fewer})" for line in _faults(least, card, per_pod, sft_gpus))


def hours_left(spec: Spec, recipe: Recipe, done: Mapping[str, Done], complete: frozenset[str]) -> float | None:
    """Hours until all phases are complete: planned, and corrected by what is measured. None where nothing is known.

    A stage that runs goes on at the pace of its newest step. Later stages are as much slower or faster than planned as it is;
    without a plan, they are as fast as it is.
    """
    planned = _planned(recipe, card_of(spec), spec.grpo.workers_per_pod, _sft_gpus(spec, recipe))
    measured = next((one.step_seconds for one in done.values() if one.step_seconds), None)
    current = next((name for name, one in done.items() if one.step_seconds), "")
    pace = measured / planned[current].step_seconds if measured and current in planned else 1.0
    seconds, known = 0.0, False
    for phase in phases(recipe):
        if phase.name in complete:
            continue
        plan, here = planned.get(phase.name), done.get(phase.name, Done(0))
        if isinstance(phase, StagePhase):
            steps = phase.stage.steps
            each = measured if phase.name == current or plan is None else plan.step_seconds * pace
        else:
            steps, each = (plan.steps, plan.step_seconds) if plan is not None else (0, None)
        if each:
            known = True
            seconds += max(0, steps - here.steps) * each + (plan.start if plan and not here.steps else 0.0)
    hours = seconds / 3600
    return hours if known and hours <= _MOST_HOURS else None


def host_gib(spec: Spec, recipe: Recipe, kind: PhaseKind) -> float | None:
    """Most GiB that a pod of the phases of this kind holds on its host. None for a model whose sizes are not known here.

    Where nobody says which GPUs the nodes have, they are the paper's. With fewer workers each has a larger share. The one pod of
    an evaluation has all of its engines, also those that the plan counts on several nodes.
    """
    card = card_of(spec) or next(one for one in CARDS if one.name == PAPER_CARD)
    of_kind: list[PhasePlan] = []
    for one in {recipe, fewest(spec, recipe)}:
        planned = _planned(one, card, spec.grpo.workers_per_pod, _sft_gpus(spec, recipe))
        of_kind += [planned[phase.name] for phase in phases(recipe) if phase.kind == kind and phase.name in planned]
    held = [(plan, moment.host_total) for plan in of_kind if plan.fit for moment in plan.fit.moments]
    return max((gib * plan.nodes if kind == "evaluate" else gib for plan, gib in held), default=None)


def _sft_gpus(spec: Spec, recipe: Recipe) -> int | None:
    return None if recipe.sft is None else spec.sft.nodes * recipe.sft.processes


@lru_cache(maxsize=512)  # the operator looks at a run many times before its spec changes
def _faults(recipe: Recipe, card: Card, per_pod: int, sft_gpus: int | None) -> tuple[str, ...]:
    fleet = Fleet(card, recipe.rollout.workers, per_pod)
    return tuple(memory_faults(recipe, phases(recipe), fleet, sft_gpus))


@lru_cache(maxsize=512)
def _planned(recipe: Recipe, card: Card | None, per_pod: int, sft_gpus: int | None) -> dict[str, PhasePlan]:
    """The plan of each phase by its name; empty for unknown GPUs, a CPU, or a model whose sizes are not known here."""
    if card is None or recipe.rollout.device == "cpu":
        return {}
    try:
        model = find_model_sizes(recipe.model)
    except BadInput:
        return {}
    setting = setting_of(recipe, model, Fleet(card, recipe.rollout.workers, per_pod), sft_gpus=sft_gpus)
    return {phase.name: plan for phase, plan in plan_phases(setting)}
