"""The cold start with three workers in a Ray cluster; run as `serving_driver.py SERVER PROBLEMS RUN COUNTS [node]`.

SERVER is a program that stands in for vLLM: it takes --host and --port, answers with a delay, and counts in the folder COUNTS.
In the middle one server is killed; with `node` the file COUNTS/lose-a-node asks whoever has the cluster to take a machine away.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

from visionr1.rollout.cluster import ray_cluster

server, problems, run, counts, *lost = sys.argv[1:]


def lose_one() -> None:
    """Once each server has answered."""
    while len(pids := sorted(Path(counts).glob("*.pid"))) < 2:
        time.sleep(0.05)
    time.sleep(0.5)
    if lost:
        Path(counts, "lose-a-node").touch()
    else:
        os.kill(int(pids[0].stem), signal.SIGKILL)


with ray_cluster(3):
    from visionr1.data.coldstart.run import run_coldstart
    from visionr1.recipe.schema import Recipe
    from visionr1.rollout import serving
    from visionr1.storage import open_store

    teacher = {"model": "m", "max_tokens": 100, "workers": {}}
    coldstart = {"problems": {"path": problems}, "describer": teacher, "reasoner": teacher, "concurrency": 4}
    recipe = Recipe.model_validate({"coldstart": coldstart, "sft": {}, "model": {"min_pixels": 784, "max_pixels": 78400}})
    plan = serving.ServerPlan((sys.executable, server, counts), {"KEY": "secret"}, gpus=0)
    threading.Thread(target=lose_one, daemon=True).start()
    with (
        patch.object(serving, "_AGAIN_SECONDS", 0.1),
        serving.serving_plans({"describer": [plan, plan], "reasoner": [plan]}, "secret", lambda: False) as servers,
    ):
        report = run_coldstart(
            recipe,
            open_store(run),
            lambda pairs: [given == truth for given, truth in pairs],
            lambda: False,
            workers=servers,
        )
        while not all(server.url for server in servers["describer"]):
            time.sleep(0.1)
    print(report.problems, report.kept, report.asked)
    broken = serving.ServerPlan((sys.executable, "-c", "raise ValueError('no such model')"), {}, gpus=0)
    try:
        with serving.serving_plans({"describer": [broken]}, "secret", lambda: False):
            print("it is up")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
