"""What surely does not fit, in one line for each phase, before anything runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from visionr1.capacity.cards import CARDS, Card, Fleet, card_of_driver
from visionr1.capacity.choose import Fit, refuses
from visionr1.capacity.knobs import knobs_for
from visionr1.capacity.model import find_model_sizes
from visionr1.capacity.phases import plan_phase
from visionr1.capacity.plan import setting_of
from visionr1.errors import BadInput
from visionr1.recipe.phases import Phase
from visionr1.recipe.schema import Recipe

LARGEST: Final = max(CARDS, key=lambda card: card.gib)
"""What does not fit on this card fits on none that is known."""
_MOST_FAULTS: Final = 4
"""Phases whose remedy is looked for, which takes a second each."""
_SMI_SECONDS: Final = 20
_USABLE: Final = 0.99
"""Part of the memory that the driver reports which a process can have."""


def memory_faults(recipe: Recipe, chain: Sequence[Phase], fleet: Fleet | None, sft_gpus: int | None = None) -> list[str]:
    """One line for each phase of `chain` that surely does not fit, with what makes it fit.

    Nothing is said about a model whose sizes are not known here.

    Args:
        fleet: GPUs of the stages; None if there are none, or nobody knows them.
        sft_gpus: GPUs of SFT; None takes as many of the fleet as a batch has samples.
    """
    if fleet is None or recipe.rollout.device == "cpu":
        return []
    try:
        setting = setting_of(recipe, find_model_sizes(recipe.model), fleet, sft_gpus=sft_gpus)
    except BadInput:
        return []
    lines: list[str] = []
    for phase in chain:
        if len(lines) == _MOST_FAULTS:
            return [*lines, "later phases were not looked at; correct these first"]
        plan = plan_phase(setting, phase)
        if plan.fit is not None and refuses(recipe, phase, plan.fit, fleet.card.gib):
            offered = knobs_for(setting, phase)
            lines.append(_line(phase, plan.fit, f"{plan.gpus} x {fleet.card.name}", offered[0].change if offered else ""))
    return lines


def _line(phase: Phase, fit: Fit, gpus: str, change: str) -> str:
    tightest = fit.tightest
    item, size = max(tightest.gpu.items(), key=lambda pair: pair[1])
    remedy = f"{change} makes it fit" if change else "take more or larger GPUs, or a smaller model"
    return (
        f"{phase.name} does not fit on {gpus}: in the moment '{tightest.name}' each needs {tightest.gpu_total:.1f} GiB of the "
        f"{fit.limit:.1f} that may be used, most of it ({size:.1f}) for {item}; {remedy} (visionr1 plan shows all of it; "
        "preflight: warn in the recipe starts it all the same)"
    )


def gpus_here(recipe: Recipe, environment: Mapping[str, str]) -> Fleet | None:
    """The GPUs that a run on this machine gets, as NVIDIA's driver lists them, the smallest for all.

    None without a GPU or with an unknown one, and where a Ray cluster of another place is asked for.
    """
    program = shutil.which("nvidia-smi")
    if program is None or environment.get("RAY_ADDRESS") or recipe.rollout.device == "cpu":
        return None
    asked = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True, env=dict(os.environ))
    except (OSError, subprocess.SubprocessError):  # no driver behind it: then nothing is known
        return None
    return fleet_of_driver(done.stdout, recipe.rollout.workers)


def fleet_of_driver(text: str, workers: int) -> Fleet | None:
    """From lines of name and MiB; None if one is of no known card."""
    found: list[Card] = []
    for line in text.strip().splitlines():
        name, _, size = line.rpartition(",")
        card = card_of_driver(name)
        if card is None or not size.strip().isdigit():
            return None
        found.append(replace(card, gib=_USABLE * int(size) / 1024))
    return Fleet(min(found, key=lambda card: card.gib), workers) if found else None
