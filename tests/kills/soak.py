"""A hundred kills: runs of all phases with two workers and vLLM, shot at until so many shots have hit.

    python tests/kills/soak.py --kills 100 --seed 1 --json kills.json

Every run gets shots drawn from the seed: victim, signal, moment and delay for each phase. One run that nothing happens to comes
first; each of the others must end with its bits (`proof.broken`). The first promise that is not kept ends the soak, exit code 1.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from proof import broken
from shots import ROOT, Kill, Moment, Shot, Signal, Target, Victim

ENDS: Final = {"sft": 6, "stage-1": 6, "stage-2": 12, "stage-3": 18}
EVERY: Final = 2
SETTINGS: Final = {
    "coldstart.problems.limit": 60,
    "sft.max_steps": ENDS["sft"],
    "sft.global_batch_size": 8,
    "sft.checkpoint_every": EVERY,
    "data.train.limit": 40,
    "data.held_out": "null",
    "algorithm.prompts_per_step": 4,
    "stages": "[{max_completion_tokens: 24, group_size: 8, steps: 6}, {max_completion_tokens: 32, group_size: 4, steps: 6},"
    " {max_completion_tokens: 48, group_size: 2, steps: 6}]",
    "checkpoint.every": EVERY,
    "rollout.temperature": 2.0,  # the shipped base is sure of itself, and equal completions teach nothing
    "reward.function": f"{Path(__file__).with_name('pay.py')}:checksum",
}
_VICTIMS: Final[dict[str, tuple[Victim, ...]]] = {
    "sft": ("runner", "launcher", "torchrun", "rank", "rank", "largest"),
    "stage": ("runner", "driver", "driver", "worker", "worker", "largest"),
}
_DELAYS: Final[dict[Moment, float]] = {"start": 12.0, "steps": 4.0, "orphaned": 1.0}
"""Longest delay in seconds, where there is one; delays are uniform from 0."""


def draw(rng: random.Random) -> list[Shot]:
    """Shots at one run: for each phase one during its start, two at work and one at its border; a kill of the runner at work is
    now and then followed by one of the phase that it leaves behind."""
    shots = []
    for phase in ENDS:
        victims = _VICTIMS["sft" if phase == "sft" else "stage"]
        middle: list[Moment] = rng.sample(["steps", "writing", "committed"], 2)
        for moment in ("start", *middle, "border"):
            # At the border the ranks and workers are gone or about to go.
            victim: Victim = rng.choice(victims[:2] if moment == "border" else victims)
            shots.append(_shot(rng, phase, victim, moment))
            if victim == "runner" and moment in middle:
                shots.append(_shot(rng, phase, victims[1], "orphaned"))
    return shots


def _shot(rng: random.Random, phase: str, victim: Victim, moment: Moment) -> Shot:
    signal: Signal = "oom" if victim == "largest" else rng.choice(("SIGKILL", "SIGKILL", "SIGTERM"))
    return Shot(phase, victim, signal, moment, rng.uniform(0.0, _DELAYS.get(moment, 0.0)))


def soak(folder: Path, wanted: int, seed: int, settings: list[str]) -> tuple[list[Kill], list[str], int]:
    """Kills, the promises that were not kept, and the number of runs."""
    whole = folder / "whole"
    command = [sys.executable, str(Path(__file__).with_name("go.py")), str(whole), *settings]
    subprocess.run(command, cwd=ROOT, check=True)
    rng = random.Random(seed)
    kills: list[Kill] = []
    for number in range(1, 10 * wanted):
        target = Target(folder / f"run-{number}", settings, ENDS)
        target.shoot(draw(rng)[: wanted - len(kills)])
        kills += target.kills
        lines = [f"run {number}: {line}" for line in broken(target, whole, EVERY)]
        print(f"run {number}: {len(target.kills)} kills, {'sound' if not lines else 'NOT SOUND'}", file=sys.stderr, flush=True)
        if lines or len(kills) >= wanted:
            return kills, lines, number
    return kills, [f"only {len(kills)} of {wanted} shots hit"], number


def table(kills: list[Kill]) -> str:
    """One line for each victim, signal and moment that occurred."""
    groups: dict[tuple[str, str, str], list[Kill]] = defaultdict(list)
    for kill in kills:
        groups[kill.shot.victim, kill.shot.signal, kill.shot.moment].append(kill)
    lines = [
        "| victim | signal | moment | kills | steps repeated, all (most) | seconds lost, mean (most) |",
        "|---|---|---|---|---|---|",
    ]
    for (victim, signal, moment), group in [*sorted(groups.items()), (("all", "", ""), kills)]:
        repeated, seconds = [kill.repeated for kill in group], [kill.seconds for kill in group]
        lost = f"{sum(seconds) / len(seconds):.0f} ({max(seconds):.0f})"
        lines.append(f"| {victim} | {signal} | {moment} | {len(group)} | {sum(repeated)} ({max(repeated)}) | {lost} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures, with every kill, to this file")
    parser.add_argument("--work", type=Path, help="an empty folder to run in, which then stays; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], help="change the recipe, as `visionr1 run --set` does")
    given = parser.parse_args()
    settings = [*(f"{name}={value}" for name, value in SETTINGS.items()), *given.set]
    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="visionr1-kills-") as temporary:
        kills, lines, runs = soak(given.work or Path(temporary), given.kills, given.seed, settings)
    result: dict[str, Any] = {
        "kills": len(kills),
        "runs": runs,
        "seed": given.seed,
        "seconds": round(time.time() - begun, 1),
        "steps_repeated": sum(kill.repeated for kill in kills),
        "not_kept": lines,
    }
    if given.json is not None:
        given.json.write_text(json.dumps(result | {"each": [asdict(kill) for kill in kills]}) + "\n")
    print(json.dumps(result, indent=1))
    print(table(kills))
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
