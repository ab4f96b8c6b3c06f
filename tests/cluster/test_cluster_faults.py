"""What may happen to a run on a real node, with the run still finishing and the same steps trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from release import NAME, RECIPE, ROOT, Release

pytestmark = pytest.mark.timeout(1200)

STAGES = [
    {"max_completion_tokens": 24, "group_size": 4, "steps": 40},
    {"max_completion_tokens": 48, "group_size": 2, "steps": 40},
]
ONLY_STAGES = {**RECIPE, "coldstart": None, "sft": None, "data": {"train": {"limit": 80}, "held_out": None}, "stages": STAGES}
ONLY_STAGES |= {"checkpoint": {"every": 2}}
TRAINED = ("step", "loss", "grad_norm", "reward_mean", "completion_tokens_mean", "kl_mean", "generated_tokens")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The step log of the same recipe where nothing happens: on this machine, without a cluster."""
    run: Path = tmp_path_factory.mktemp("undisturbed") / "demo"
    recipe = run.with_suffix(".yaml")
    recipe.write_text(json.dumps({**ONLY_STAGES, "name": "demo"}))
    command = [sys.executable, "-m", "visionr1.cli", "run", str(recipe), "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    """An installed run of two stages."""
    made = Release(platform, namespace)
    made.install(ONLY_STAGES, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60})
    yield made
    made.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not made.get("ptst,rayclusters,rayjobs,pods")["items"], 120)


def at(step: int) -> Any:
    """A check: the run is at this global step or further."""
    return lambda status: (status.get("step") or 0) >= step


def test_a_lost_worker_a_lost_operator_and_a_suspension(release: Release, undisturbed: list[dict[str, Any]]) -> None:
    release.wait("demo", "step 3", at(3))
    (worker, _) = release.pods("visionr1.io/role=worker")
    release.kubectl("delete", "pod", worker, "--grace-period=0", "--force")

    release.wait("demo", "stage 2", lambda status: status.get("stage") == "stage-2")
    release.kubectl("delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=false")

    release.wait("demo", "step 43", at(43))
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    wait_for("no pod", lambda: not release.pods("visionr1.io/run=demo"), 120)
    stopped_at = release.steps("demo")[-1]["step"]
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")

    phases = {one["name"]: one for one in release.status("demo")["phases"]}
    assert [one["exitCode"] for one in phases["stage-1"]["attempts"]] == [1, 0], "the driver failed with its worker"
    assert phases["stage-1"]["attempts"][1]["fromStep"] >= 2, "and the next went on from a checkpoint, on a new worker"
    ends = [(attempt["reason"], attempt.get("exitCode")) for attempt in phases["stage-2"]["attempts"]]
    assert len(ends) == 2 and phases["stage-2"]["attempts"][0]["stopping"]["reason"] == "Suspended"
    assert phases["stage-2"]["attempts"][1]["fromStep"] == stopped_at >= 43, "it stopped after a checkpoint of its last step"
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed]
