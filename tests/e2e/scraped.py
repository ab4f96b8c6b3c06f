"""A tiny run under the eyes of a real Prometheus: cold start, SFT on two ranks, a stage with two workers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_server import Prometheus, free_ports, prometheus

ROOT = Path(__file__).parents[2]
PODS = ("head", "worker-0", "worker-1")
TINY = {
    "name": "tiny",
    "coldstart.problems.limit": 1500,  # some seconds, hence some scrapes
    "sft.max_steps": 8,
    "data.train.limit": 80,
    "data.held_out": "null",
    "algorithm.prompts_per_step": 4,
    "stages": "[{max_completion_tokens: 24, group_size: 4, steps: 16}]",
    "checkpoint.every": 4,
    # The shipped base never ends in the format, so its rewards would all be 0; this one pays for any readable number.
    "reward.function": "zero",
}


def scraped_run(server_folder: Path, run: Path, settings: Mapping[str, object]) -> Iterator[tuple[Prometheus, float, float]]:
    """Runs a recipe under the eyes of a Prometheus; gives it, and when the run began and ended (unix seconds)."""
    port = free_ports(len(PODS))
    targets = [
        {"targets": [f"127.0.0.1:{port + place}"], "labels": {"namespace": "ml", "pod": pod}} for place, pod in enumerate(PODS)
    ]
    given = [part for name, value in {**settings, "metrics.port": port}.items() for part in ("--set", f"{name}={value}")]
    with prometheus(server_folder, [{"job_name": "visionr1", "static_configs": targets}]) as server:
        begun = time.time()
        command = [sys.executable, "-m", "visionr1.cli", "run", "demo", "--run", str(run), *given]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=1000)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        yield server, begun, time.time()
