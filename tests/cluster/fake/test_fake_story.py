"""A run as its owner lives with it: held, let go by the command that it prints, stopped, done, and one stage more. On GPUs."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from control_plane import wait_for

from fake.controllers import Controllers
from fake.fake_release import STAGE, FakeRelease, ended

LONGER = {**STAGE, "steps": 40}
RECIPE: dict[str, Any] = {
    "preset": "demo",
    "coldstart": None,
    "sft": {"data": {"path": "/nowhere"}, "processes": 8},
    "algorithm": {"prompts_per_step": 8},
    "checkpoint": {"every": 2},
    "rollout": {"device": "cuda", "workers": 8},
    "stages": [STAGE, LONGER],
}


def gpus(release: FakeRelease, role: str) -> dict[str, str]:
    """GPUs that a pod of a role has on each node."""
    pods = [one["spec"] for one in release.get("pods", "-l", f"visionr1.io/role={role}")["items"]]
    return {one["nodeName"]: one["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for one in pods if "nodeName" in one}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["shared", "per-stage"])
def test_held_let_go_stopped_done_and_one_stage_more(mode: str, controllers: Controllers, release: FakeRelease) -> None:
    release.install_fake(
        {"recipe": RECIPE, "sft": {"nodes": 2}, "grpo": {"workersPerPod": 8, "cluster": mode}, "holdBefore": ["stage-2"]}
    )
    workers = wait_for("a worker", lambda: gpus(release, "worker"), 60)
    assert list(workers.values()) == ["8"]
    assert list(gpus(release, "sft").values()) == ["8", "8"], "a node each"

    status = release.wait("run", "held", lambda status: status if status.get("phase") == "Held" else None, 60)
    wait_for("the GPUs are given back", lambda: not release.pods("visionr1.io/role in (head,worker)"), 30)
    (held,) = [one["message"] for one in status["conditions"] if one["type"] == "Held"]
    command = shlex.split(held[held.index("kubectl ") :])
    release.platform.kubectl(*command[1:])
    release.wait("run", "a step of stage 2", lambda status: (status.get("step") or 0) > 6, 60)
    release.kubectl("patch", "ptst", "run", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("run", "suspended", lambda status: status.get("phase") == "Suspended", 60)
    release.kubectl("patch", "ptst", "run", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    (stage,) = [one for one in ended(release, ["run"], 90)["run"]["phases"] if one["name"] == "stage-2"]
    stopped, again = stage["attempts"]
    assert (stopped["exitCode"], again["exitCode"]) == (3, 0)
    assert again["fromStep"] == stopped["toStep"] > 6, "it has committed a checkpoint when it was asked to stop"

    longer = json.dumps({"spec": {"recipe": {"stages": [STAGE, LONGER, STAGE]}}})
    release.kubectl("patch", "ptst", "run", "--type", "merge", "-p", longer)
    wait_for("it has begun again", lambda: release.status("run")["phase"] != "Succeeded", 30)
    last = ended(release, ["run"], 60)["run"]

    begun = [one["phase"] for one in controllers.reported(release.namespace)]
    assert begun == ["sft", "stage-1", "stage-2", "stage-2", "evaluate", "stage-3", "evaluate"]
    assert controllers.reported(release.namespace, "overlap") == []
    assert {one["name"]: one["attemptsBegun"] for one in last["phases"]} == {
        **dict.fromkeys(("sft", "stage-1", "stage-3"), 1),
        **dict.fromkeys(("stage-2", "evaluate"), 2),
    }
    assert [one["step"] for one in release.steps("run")] == list(range(1, 53)), "none twice"
