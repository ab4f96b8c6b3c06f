"""The plan of a run: does it fit, how long does it take, what does it cost. Pure; `visionr1 plan` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from visionr1.capacity.cards import CPU, Fleet, parse_fleet
from visionr1.capacity.disk import Disk, disk_of
from visionr1.capacity.knobs import Knob, knobs_for
from visionr1.capacity.lengths import Sizes, assumed_sizes
from visionr1.capacity.model import ModelSizes
from visionr1.capacity.pace import CPU as CPU_PACE
from visionr1.capacity.pace import GPU, Pace
from visionr1.capacity.phases import PhasePlan, plan_phase
from visionr1.capacity.times import Setting
from visionr1.recipe.phases import Phase, StagePhase, phases
from visionr1.recipe.schema import Recipe

PAPER_CARD: Final = "H800"
WRONG_BY: Final = 1.5
"""How far off an assumption may be when the plan says which one it hangs on most."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is expected of a run.

    Attributes:
        phases: in order.
        knobs: for each phase that does not fit, what makes it fit; those that cost least first.
        gpu_hours: of all phases, each with its own GPUs.
        assumptions: in words.
        hinge: the assumption that the hours hang on most, in words.
        price: of all GPU-hours, if one has a price.
    """

    name: str
    model: str
    fleet: Fleet
    phases: tuple[PhasePlan, ...]
    knobs: dict[str, tuple[Knob, ...]]
    disk: Disk
    assumptions: tuple[str, ...]
    hinge: str
    price: float | None

    @property
    def seconds(self) -> float:
        """Of all phases, one after the other."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def gpu_hours(self) -> float:
        """Of all phases."""
        return sum(phase.gpu_hours for phase in self.phases)

    @property
    def tokens(self) -> float:
        """Of all steps, prompts included."""
        return sum(phase.steps * phase.tokens for phase in self.phases)

    @property
    def fits(self) -> bool:
        """Whether each phase fits."""
        return all(phase.fit is None or phase.fit.fits for phase in self.phases)

    @property
    def host_gib(self) -> float:
        """Most that one node's host holds at any moment of the run."""
        return max((moment.host_total for phase in self.phases if phase.fit for moment in phase.fit.moments), default=0.0)


def default_fleet(recipe: Recipe) -> Fleet:
    """The recipe's workers on the paper's card, or on CPUs if the recipe says so."""
    if recipe.rollout.device == "cpu":
        return Fleet(CPU, recipe.rollout.workers, recipe.rollout.workers)
    return parse_fleet(f"{recipe.rollout.workers}x{PAPER_CARD}")


def plan_run(
    recipe: Recipe,
    model: ModelSizes,
    fleet: Fleet,
    sizes: Sizes | None = None,
    price: float | None = None,
    sft_gpus: int | None = None,
) -> RunPlan:
    """The plan of a recipe.

    Args:
        fleet: GPUs of the stages; the recipe must have as many workers.
        sizes: of the data; None assumes them.
        price: of a GPU for an hour.
        sft_gpus: GPUs of SFT; None takes as many of the fleet as a batch has samples.
    """
    setting = setting_of(recipe, model, fleet, sizes, sft_gpus)
    planned = plan_phases(setting)
    tight = [(phase, plan) for phase, plan in planned if plan.fit is not None and not plan.fit.fits]
    hours = sum(plan.gpu_hours for _, plan in planned)
    return RunPlan(
        name=recipe.name,
        model=recipe.model.base,
        fleet=fleet,
        phases=tuple(plan for _, plan in planned),
        knobs={phase.name: knobs_for(setting, phase) for phase, _ in tight},
        disk=disk_of(recipe, model, planned, _sampled(setting)),
        assumptions=_assumptions(setting, given=sizes is not None),
        hinge=_hinge(setting, sum(plan.seconds for _, plan in planned)),
        price=None if price is None else price * hours,
    )


def setting_of(
    recipe: Recipe, model: ModelSizes, fleet: Fleet, sizes: Sizes | None = None, sft_gpus: int | None = None
) -> Setting:
    """What times are computed for."""
    pace = GPU if fleet.card.gib else CPU_PACE
    return Setting(recipe=recipe, model=model, fleet=fleet, pace=pace, sizes=sizes or assumed_sizes(recipe), sft_gpus=sft_gpus)


def plan_phases(setting: Setting) -> list[tuple[Phase, PhasePlan]]:
    """Each phase with its plan."""
    return [(phase, plan_phase(setting, phase)) for phase in phases(setting.recipe)]


def _sampled(setting: Setting) -> dict[str, float]:
    """Completion tokens that each stage samples in all."""
    found = {}
    for phase in phases(setting.recipe):
        if isinstance(phase, StagePhase):
            completions = setting.recipe.algorithm.prompts_per_step * phase.stage.group_size * phase.stage.steps
            found[phase.name] = completions * setting.sizes.completion_tokens[phase.number - 1]
    return found


def _assumptions(setting: Setting, *, given: bool) -> tuple[str, ...]:
    sizes, pace, card = setting.sizes, setting.pace, setting.fleet.card
    lengths = ", ".join(f"{length:,.0f}" for length in sizes.completion_tokens)
    lines = [
        f"completions of {lengths} tokens on average in the stages{'' if given else ', as on the curves of the paper'}"
        if lengths
        else "",
        f"prompts of {sizes.prompt_tokens:,.0f} tokens, {sizes.image_tokens:,.0f} of them of a picture",
        f"{sizes.sft_samples:,} cold-start samples of {sizes.sft_tokens:,.0f} tokens" if setting.recipe.sft else "",
        f"passes reach {pace.compute:.0%} of {card.flops / 1e12:,.4g} TFLOP/s, decoding {pace.decode:.0%} of "
        f"{card.bandwidth / 1e12:,.4g} TB/s (peaks: {card.source})",
        f"{pace.network * 8 / 1e9:,.0f} Gbit/s of network per GPU between nodes, {pace.disk / 1e9:,.1f} GB/s of storage per node"
        if setting.fleet.nodes > 1
        else f"{pace.disk / 1e9:,.1f} GB/s of storage per node",
        "no failures, no time in a queue" + (", nothing of the teachers' time" if setting.recipe.coldstart else ""),
    ]
    return tuple(line for line in lines if line)


def _hinge(setting: Setting, seconds: float) -> str:
    """The assumption that changes the whole time most if it is off by WRONG_BY."""
    changed = {name: sum(plan.seconds for _, plan in plan_phases(other)) / seconds - 1 for name, other in _less_lucky(setting)}
    name = max(changed, key=lambda one: changed[one])
    return f"{name}: with {WRONG_BY:g} times as much to do there, the run takes {changed[name]:.0%} longer"


def _less_lucky(setting: Setting) -> Iterator[tuple[str, Setting]]:
    sizes, pace = setting.sizes, setting.pace
    if sizes.completion_tokens:
        limits = [stage.max_completion_tokens for stage in setting.recipe.stages]
        longer = tuple(min(WRONG_BY * n, limit) for n, limit in zip(sizes.completion_tokens, limits, strict=True))
        yield "the length of completions", replace(setting, sizes=replace(sizes, completion_tokens=longer))
    yield "the size of prompts and pictures", replace(setting, sizes=_with_larger_prompts(sizes))
    yield "how much of the peak FLOP/s is reached", replace(setting, pace=replace(pace, compute=pace.compute / WRONG_BY))
    yield "the speed of decoding", replace(setting, pace=_slower_decoding(pace))
    if setting.recipe.sft:
        yield (
            "the number of cold-start samples",
            replace(setting, sizes=replace(sizes, sft_samples=round(WRONG_BY * sizes.sft_samples))),
        )
    if setting.fleet.nodes > 1:
        yield "the network between nodes", replace(setting, pace=replace(pace, network=pace.network / WRONG_BY))


def _with_larger_prompts(sizes: Sizes) -> Sizes:
    return replace(sizes, prompt_tokens=WRONG_BY * sizes.prompt_tokens, image_tokens=WRONG_BY * sizes.image_tokens)


def _slower_decoding(pace: Pace) -> Pace:
    return replace(pace, decode=pace.decode / WRONG_BY, token_seconds=WRONG_BY * pace.token_seconds)
