"""What may happen to a run on a real node, with the run still finishing and the same steps trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import ControlPlane, wait_for
from release import NAME, ONLY_STAGES, TRAINED, Release, at, train_alone

pytestmark = pytest.mark.timeout(1200)

STEPS = (14, 30)
SHORT = {**ONLY_STAGES, "checkpoint": {"every": 4}}
SHORT["stages"] = [{**stage, "steps": n} for stage, n in zip(ONLY_STAGES["stages"], STEPS, strict=True)]


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    """An installed run of two stages."""
    made = Release(platform, namespace)
    made.install(SHORT, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60})
    yield made
    made.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not made.get("ptst,rayclusters,rayjobs,pods")["items"], 120)


def test_a_lost_worker_a_lost_operator_and_a_suspension(release: Release, tmp_path: Path) -> None:
    release.wait("demo", "step 5", at(5))
    (worker, _) = release.pods("visionr1.io/role=worker")
    release.kubectl("delete", "pod", worker, "--grace-period=0", "--force")

    release.wait("demo", "stage 2", lambda status: status.get("stage") == "stage-2")
    release.kubectl("delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=false")

    release.wait("demo", "step 19", at(19))
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("demo", "suspended", lambda status: status.get("phase") == "Suspended")
    wait_for("no pod", lambda: not release.pods("visionr1.io/run=demo"), 120)
    stopped_at = release.steps("demo")[-1]["step"]
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")

    phases = {one["name"]: one for one in release.status("demo")["phases"]}
    assert [one["exitCode"] for one in phases["stage-1"]["attempts"]] == [1, 0], "the driver failed with its worker"
    assert phases["stage-1"]["attempts"][1]["fromStep"] >= 4, "and the next went on from a checkpoint, on a new worker"
    ends = [(attempt["reason"], attempt.get("exitCode")) for attempt in phases["stage-2"]["attempts"]]
    assert len(ends) == 2 and phases["stage-2"]["attempts"][0]["stopping"]["reason"] == "Suspended"
    assert phases["stage-2"]["attempts"][1]["fromStep"] == stopped_at >= 19, "it stopped after a checkpoint of its last step"
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in train_alone(SHORT, tmp_path)]
