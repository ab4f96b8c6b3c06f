"""Runs a recipe with fake phases in a process of its own, for tests that kill or signal the runner.

Usage: fake_run.py RUN SECONDS_A_STEP GRACE_SECONDS [PHASE=BEHAVIOUR,BEHAVIOUR...]...
A phase's attempts behave in the given order, later ones well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from visionr1.pipeline.local import CommandFor, run_local
from visionr1.pipeline.planner import Retry
from visionr1.recipe import Phase, StagePhase, load_recipe

RECIPE = load_recipe(
    "demo",
    [
        "coldstart=null",
        "sft.data={path: x.jsonl}",
        "data.held_out=null",
        "stages=[{max_completion_tokens: 8, group_size: 2, steps: 4}]",
    ],
)
"""SFT to step 2, one stage to step 4."""
ALL_PHASES = load_recipe(
    "demo",
    ["stages=[{max_completion_tokens: 8, group_size: 2, steps: 4}, {max_completion_tokens: 16, group_size: 2, steps: 3}]"],
)


def fake_commands(seconds: float, behaviours: dict[str, list[str]]) -> CommandFor:
    """The argv builder that `run_local` takes; each call uses up one behaviour of the phase."""

    def command(phase: Phase, run_url: str) -> list[str]:
        behaviour = behaviours.get(phase.name, [])
        now = behaviour.pop(0) if behaviour else "work"
        last = phase.last_step if isinstance(phase, StagePhase) else 2
        script = Path(__file__).with_name("fake_phase.py")
        words = [sys.executable, script, now, run_url, phase.name, phase.input_phase, phase.first_step, last, seconds]
        return [str(word) for word in words]

    return command


def parsed(arguments: Iterable[str]) -> dict[str, list[str]]:
    pairs = (argument.split("=") for argument in arguments)
    return {phase: behaviours.split(",") for phase, behaviours in pairs}


if __name__ == "__main__":
    run, seconds, grace = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    commands = fake_commands(seconds, parsed(sys.argv[4:]))
    retry = Retry(max_attempts=2, first_wait=0.1)
    sys.exit(run_local(RECIPE, run, command_for=commands, retry=retry, grace_seconds=grace))
