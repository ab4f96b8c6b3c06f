"""Whether host memory stays flat: RSS of a GRPO stage's driver and workers at every step, and the slope of each.

    python benchmarks/host_memory.py --run runs/demo --json host-memory.json

The stage is the demo's second (96 tokens x 8) with 300 steps: two workers, each with DeepSpeed and vLLM. It starts from the
SFT checkpoint of --run, which is only read, or without --run from the demo's base model.

The first 50 steps are warm-up: caches fill, the allocators find their size. Means of 25 steps each then give the slope by least
squares and its standard error (single steps are no independent measurements). A process is flat if its slope plus two standard
errors is below 1 % of its mean RSS in 100 steps.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from visionr1.recipe import load_recipe, to_yaml
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import RECIPE
from visionr1.rundir.steplog import read_steps
from visionr1.storage import Store, open_store

MIB: Final = 2**20
WARM_UP: Final = 50
BLOCK: Final = 25
FLAT_PERCENT: Final = 1.0
"""Growth in 100 steps, in percent of a process's mean RSS, that still counts as flat."""
_WORKER: Final = "ray::Host"
_LOOK_SECONDS: Final = 0.05


def slope(values: list[float]) -> tuple[float, float]:
    """Least-squares slope over values that are 1 apart, and its standard error."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    spread = sum((place - middle) ** 2 for place in range(count))
    rise = sum((place - middle) * (value - mean) for place, value in enumerate(values)) / spread
    left = sum((value - mean - rise * (place - middle)) ** 2 for place, value in enumerate(values))
    return rise, math.sqrt(left / (count - 2) / spread)


def verdict(rss: list[int]) -> dict[str, Any]:
    """A process's RSS by step (bytes) in figures: MiB, and MiB in 100 steps."""
    steady = [value / MIB for value in rss[WARM_UP:]]
    blocks = [sum(steady[at : at + BLOCK]) / BLOCK for at in range(0, len(steady) - BLOCK + 1, BLOCK)]
    rise, error = (value * 100 / BLOCK for value in slope(blocks))
    mean = sum(steady) / len(steady)
    return {
        "first_step_mib": rss[0] / MIB,
        "after_warm_up_mib": steady[0],
        "last_step_mib": steady[-1],
        "highest_mib": max(rss) / MIB,
        "slope_mib_per_100_steps": rise,
        "standard_error": error,
        "flat": rise + 2 * error < mean * FLAT_PERCENT / 100,
    }


def prepare(folder: Path, run: str | None, steps: int, changes: list[str]) -> Store:
    """A run directory with nothing in it but the recipe of one stage."""
    settings = [
        *changes,
        "coldstart=null",
        "sft=null",
        "data.held_out=null",
        f"stages=[{{max_completion_tokens: 96, group_size: 8, steps: {steps}}}]",
    ]
    if run is not None:
        source = open_store(run)
        step = Checkpoints(source, "sft").latest()
        if step is None:
            sys.exit(f"{run}: no committed SFT checkpoint to start from")
        settings.append(f"model.base={Checkpoints(source, 'sft').fetch(step)}")
    store = open_store(str(folder))
    store.write_bytes(RECIPE, to_yaml(load_recipe("demo", settings)).encode())
    return store


def watch(store: Store, folder: Path, steps: int) -> dict[str, list[int]]:
    """Runs the stage; RSS in bytes of each process at the end of every step."""
    rss: dict[str, list[int]] = {}
    with (folder / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "visionr1.cli", "grpo", "--run", str(folder), "--stage", "1"]
        stage = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        driver = psutil.Process(stage.pid)
        seen = 0
        processes: dict[str, psutil.Process] = {}
        while seen < steps:
            if stage.poll() is not None:
                sys.exit(f"the stage ended with {stage.returncode} after step {seen}; see {folder}/log.txt")
            done = len(read_steps(store))
            if done > seen:
                if not processes:
                    workers = [child for child in driver.children(recursive=True) if _WORKER in child.name()]
                    processes = {"driver": driver, **{f"worker {n}": worker for n, worker in enumerate(workers)}}
                    rss = {name: [] for name in processes}
                for name, process in processes.items():
                    # Should two steps have ended since the last look, both get this value.
                    rss[name] += [process.memory_info().rss] * (done - seen)
                if done // 25 > seen // 25:
                    print(f"step {done} of {steps}", file=sys.stderr, flush=True)
                seen = done
            time.sleep(_LOOK_SECONDS)
        if stage.wait() != 0:
            sys.exit(f"the stage ended with {stage.returncode}; see {folder}/log.txt")
    return rss


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'process':<10} {'step 1':>8} {'step ' + str(WARM_UP + 1):>8} {'last':>8} {'MiB / 100 steps':>20}  flat"]
    for name, one in found.items():
        rise = f"{one['slope_mib_per_100_steps']:+.2f} +- {one['standard_error']:.2f}"
        sizes = " ".join(f"{one[key]:8.0f}" for key in ("first_step_mib", "after_warm_up_mib", "last_step_mib"))
        lines.append(f"{name:<10} {sizes} {rise:>20}  {'yes' if one['flat'] else 'NO'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a demo run directory with a committed SFT checkpoint; it is only read")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", type=Path, help="also write the figures, with every step's RSS, to this file")
    parser.add_argument("--work", type=Path, help="an empty folder to run in, which then stays; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], help="change the recipe, as `visionr1 run --set` does")
    given = parser.parse_args()
    if given.steps < WARM_UP + 3 * BLOCK:
        parser.error(f"--steps must be at least {WARM_UP + 3 * BLOCK}: {WARM_UP} to warm up and three means of {BLOCK}")
    with tempfile.TemporaryDirectory(prefix="visionr1-memory-") as temporary:
        folder = given.work or Path(temporary)
        store = prepare(folder, given.run, given.steps + 1, given.set)  # workers are gone when the last step is seen
        begun = time.time()
        rss = watch(store, folder, given.steps)
        seconds = time.time() - begun
    found = {name: verdict(values) for name, values in rss.items()}
    result = {"steps": given.steps, "changes": given.set, "seconds": round(seconds, 1), "processes": found}
    if given.json is not None:
        given.json.write_text(json.dumps(result | {"rss_bytes": rss}) + "\n")
    print(json.dumps(result, indent=1))
    print(table(found))
    sys.exit(not all(one["flat"] for one in found.values()))


if __name__ == "__main__":
    main()
