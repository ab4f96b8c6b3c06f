"""What may happen to a run on a real node, with the run still finishing and the same steps trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from release import ONLY_STAGES, TRAINED, Release, at, train_alone

pytestmark = pytest.mark.timeout(1200)

SHORT = {  # its workers are there in half the time without vLLM, which test_cluster_run has
    **ONLY_STAGES,
    "checkpoint": {"every": 4},
    "stages": [{**ONLY_STAGES["stages"][0], "steps": 40}],
    "rollout": {**ONLY_STAGES["rollout"], "engine": "hf"},
}


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    """An installed run of one stage."""
    made = Release(platform, namespace)
    # Long, to see that no pod uses it up.
    made.install(SHORT, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 600})
    yield made
    made.uninstall()


def test_a_lost_worker_a_lost_operator_and_a_suspension(release: Release, tmp_path: Path) -> None:
    release.wait("demo", "step 5", at(5))
    (worker, _) = release.pods("visionr1.io/role=worker")
    release.kubectl("delete", "pod", worker, "--grace-period=0", "--force")

    release.wait("demo", "another attempt", lambda status: len(status["phases"][0]["attempts"]) == 2)
    release.kubectl("delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=false")
    release.wait("demo", "its third step", lambda status: steps_of(release, status["phases"][0]["attempts"][1]) >= 3)
    suspend(release, True)
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    wait_for("no pod holds anything once the driver has committed", lambda: not release.pods("visionr1.io/run=demo"), 60)
    stopped_at = release.steps("demo")[-1]["step"]
    suspend(release, False)
    wait_for("workers that wait for their head", lambda: waiting_workers(release) == 2, 60)
    suspend(release, True)
    wait_for("a worker that waits holds nothing either", lambda: not release.pods("visionr1.io/run=demo"), 60)
    suspend(release, False)
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")

    lost, suspended, last = release.status("demo")["phases"][0]["attempts"]
    assert lost["exitCode"] == 1, "the driver failed with its worker"
    assert suspended["fromStep"] >= 4, "and the next went on from a checkpoint, on a new worker"
    assert suspended["stopping"]["reason"] == "Suspended"
    assert last["fromStep"] == stopped_at >= suspended["fromStep"] + 3, "it stopped after a checkpoint of its last step"
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in train_alone(SHORT, tmp_path)]


def suspend(release: Release, wanted: bool) -> None:
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", json.dumps({"spec": {"suspend": wanted}}))


def waiting_workers(release: Release) -> int:
    """How many worker pods wait for their head in KubeRay's init container, whose shell does not handle SIGTERM."""
    workers = release.get("pods", "-l", "visionr1.io/role=worker")["items"]
    containers = [one for pod in workers for one in pod["status"].get("initContainerStatuses", [])]
    return sum(one["name"] == "wait-gcs-ready" and "running" in one["state"] for one in containers)


def steps_of(release: Release, attempt: dict[str, Any]) -> int:
    """How many steps were logged since an attempt began."""
    begun = datetime.fromisoformat(attempt["started"]).timestamp()
    return sum(one["time"] > begun for one in release.steps("demo"))
