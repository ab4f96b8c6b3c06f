"""With the real Volcano and the real KAI: they place the pods of a child together or not at all, and a run goes its way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from release import PODS, RECIPE, Release
from schedulers import KAI, kai, kai_queue, volcano, volcano_queue
from test_cluster_kueue import reported

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
TOO_SMALL, ENOUGH = 400, 600
"""Millicores of the queue. A stage's head asks for 100, and each of two workers for the 200 of the container in which KubeRay
lets it wait for the head: two pods would find room in the first."""
CASES = {
    "Volcano": (volcano, volcano_queue, "volcano", "volcano.sh/queue-name", "per-stage"),
    "KAI": (lambda plane: kai(plane, ""), kai_queue, KAI, "kai.scheduler/queue", "shared"),
    "KAI that KubeRay knows": (lambda plane: kai(plane, KAI), kai_queue, KAI, "kai.scheduler/queue", "per-stage"),
}


def ray_pods(release: Release) -> list[dict[str, Any]]:
    """Those of the RayCluster of stage 1."""
    pods: list[dict[str, Any]] = release.get("pods", "-l", "ray.io/is-ray-node=yes")["items"]
    return pods


@pytest.mark.parametrize("case", CASES)
def test_a_scheduler_of_gangs_runs_a_recipe(release: Release, case: str) -> None:
    install: Callable[[ControlPlane], AbstractContextManager[None]]
    install, queue, scheduler, label, mode = CASES[case]
    plane, name = release.platform, release.namespace
    with install(plane):
        queue(plane, name, TOO_SMALL)
        release.install(
            RECIPE,
            pods={**PODS, "schedulerName": scheduler},
            grpo={"workersPerPod": 1, "cluster": mode},
            queueLabels={label: name},
            deadlines={"pendingSeconds": 900},
        )
        wait_for("the pods of stage 1", lambda: len(ray_pods(release)) == 3, 300)
        reason = wait_for(
            "why it waits", lambda: "no node can take pod" in reported(release, "demo") and reported(release, "demo"), 60
        )
        print(f"{case}: {reason}")
        waiting = ray_pods(release)
        assert [one["spec"]["schedulerName"] for one in waiting] == [scheduler] * 3
        assert not [one["spec"]["nodeName"] for one in waiting if "nodeName" in one["spec"]], "all together or none"

        queue(plane, name, ENOUGH)
        release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")
    ends = {one["name"]: [attempt["exitCode"] for attempt in one["attempts"]] for one in release.status("demo")["phases"]}
    assert ends == {"coldstart": [0], "sft": [0], "stage-1": [0], "evaluate": [0]}
