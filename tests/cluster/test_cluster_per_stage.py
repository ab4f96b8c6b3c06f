"""A run with a RayCluster for each attempt: the GPUs are given back between stages, the steps are the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from release import ONLY_STAGES, TRAINED, Release, at

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    grpo = {"workersPerPod": 1, "cluster": "per-stage"}
    made.install(ONLY_STAGES, grpo=grpo, retry={"firstWaitSeconds": 1}, deadlines={"stopSeconds": 60})
    yield made
    made.uninstall()


def nothing_of_ray(release: Release) -> bool:
    """Neither RayClusters nor pods of attempts."""
    return not release.get("rayclusters")["items"] and not release.pods("visionr1.io/attempt")


def test_each_attempt_has_a_cluster_of_its_own_that_is_stopped_after_a_checkpoint_and_may_lose_a_worker(
    release: Release, undisturbed: list[dict[str, Any]]
) -> None:
    clusters: dict[str, str] = {}
    attempts: set[str] = set()

    def looked(status: dict[str, Any]) -> bool:
        pods = [one["metadata"]["labels"] for one in release.get("pods", "-l", "visionr1.io/attempt")["items"]]
        alive = {one["visionr1.io/attempt"] for one in pods}
        assert len(alive) <= 1, f"pods of two attempts: {alive}"
        attempts.update(alive)
        for one in release.get("rayclusters")["items"]:
            clusters[one["metadata"]["name"]] = one["metadata"]["labels"]["ray.io/originated-from-cr-name"]
        return True

    release.wait("demo", "step 5", lambda status: looked(status) and at(5)(status))
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":true}}')
    release.wait("demo", "suspended", lambda status: looked(status) and status.get("phase") == "Suspended")
    wait_for("the GPUs are given back", lambda: nothing_of_ray(release), 60)
    stopped_at = release.steps("demo")[-1]["step"]
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"suspend":false}}')

    release.wait("demo", "step 43", lambda status: looked(status) and at(43)(status))
    (worker, _) = release.pods("visionr1.io/role=worker")
    release.kubectl("delete", "pod", worker, "--grace-period=0", "--force")
    release.wait("demo", "the end", lambda status: looked(status) and status.get("phase") == "Succeeded")

    jobs = ["demo-stage-1-0", "demo-stage-1-1", "demo-stage-2-0", "demo-stage-2-1"]
    assert sorted(attempts) == jobs and sorted(clusters.values()) == jobs, "a cluster each"
    wait_for("the GPUs are given back", lambda: nothing_of_ray(release), 60)
    phases = {one["name"]: one for one in release.status("demo")["phases"]}
    ends = {name: [attempt["exitCode"] for attempt in one["attempts"]] for name, one in phases.items()}
    assert ends == {"stage-1": [3, 0], "stage-2": [1, 0]}, "the driver failed with its worker"
    assert phases["stage-1"]["attempts"][1]["fromStep"] == stopped_at >= 5, "it stopped after a checkpoint of its last step"
    assert phases["stage-2"]["attempts"][1]["fromStep"] >= 42, "and the next went on from a checkpoint"
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed]
