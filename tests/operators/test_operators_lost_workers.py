"""A RayCluster that has lost a pod: no attempt begins on it, one that runs goes on, and the run says why no other pod comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from schedules import SPEC
from site_of_a_run import Site, at_step_2, condition, without_coldstart


def lose_a_worker(site: Site) -> None:
    """Its node is gone for good, and no other can take the pod that KubeRay makes in its place."""
    site.cluster.workers.node_goes("run-ray-0")
    site.cluster.workers.scale(site.cluster.ray_clusters())
    site.cluster.waiting_pods = [
        {
            "metadata": {"name": "w", "labels": {"ray.io/cluster": "run-ray-0"}},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
        }
    ]


def failed_without_a_worker(folder: Path) -> Site:
    """A stage that has lost a worker, and whose attempt has ended by that."""
    site = at_step_2(folder)
    lose_a_worker(site)
    site.end_child(1)
    site.look(2)
    return site


def test_an_attempt_waits_for_a_worker_that_was_lost_as_for_a_new_cluster(tmp_path: Path) -> None:
    """KubeRay still says that the RayCluster is ready. A driver would wait half an hour for the worker, and fail."""
    site = failed_without_a_worker(tmp_path)
    site.now += 20
    status = site.look(3)
    assert condition(status, "Progressing").reason == "Unschedulable"
    assert condition(status, "Progressing").message == (
        "stage-1 waits for RayCluster run-ray-0: no node can take pod w: 0/3 nodes are available"
    )
    assert site.cluster.made[1:] == [("RayJob", "run-stage-1-0")]
    site.cluster.waiting_pods.clear()
    site.cluster.ready()
    status = site.look(2)
    assert site.cluster.made[1:] == [("RayJob", "run-stage-1-0"), ("RayJob", "run-stage-1-1")], "on the same RayCluster"
    assert status.cluster is not None and status.cluster.pending_since is None


def test_a_worker_that_stays_away_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    site = failed_without_a_worker(tmp_path)
    site.now += 300
    site.look(3)
    site.cluster.collect()
    site.cluster.waiting_pods.clear()
    status = site.look()
    assert [one.reason for one in status.of("stage-1").attempts] == [
        "AppFailed: Job entrypoint command failed with exit code 1",
        "RayCluster run-ray-0 was not ready within deadlines.pendingSeconds (300 s)",
    ]


def test_a_stage_that_has_lost_a_worker_goes_on_and_says_why_none_comes(tmp_path: Path) -> None:
    """What lives on without it, or ends, is the driver's to say."""
    site = at_step_2(tmp_path)
    lose_a_worker(site)
    site.now += 1000
    status = site.look(3)
    assert status.phase == "Running" and condition(status, "Progressing").message == (
        "stage-1 runs as RayJob run-stage-1-0, but not all of its pods do: no node can take pod w: 0/3 nodes are available"
    )
    site.cluster.waiting_pods.clear()
    site.cluster.ready()
    assert condition(site.look(), "Progressing").message == "stage-1 runs as RayJob run-stage-1-0"


TEACHER: dict[str, Any] = {"base_url": None, "model": "demo", "workers": {}}
COLDSTART = {"problems": {"path": "demo://digits/train"}, "describer": TEACHER}
OWN_CLUSTERS: list[tuple[str, dict[str, Any]]] = [
    ("stage-1", {**without_coldstart(), "grpo": {"workersPerPod": 2, "cluster": "per-stage"}}),
    ("coldstart", {"recipe": {**SPEC["recipe"], "coldstart": COLDSTART}}),
]


@pytest.mark.parametrize(("phase", "changes"), OWN_CLUSTERS)
def test_a_rayjob_whose_own_cluster_has_lost_its_head_says_why_none_comes(
    phase: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    site = Site(tmp_path, **changes)
    if phase != "coldstart":
        site.commit("sft", 3, final=True)
    site.look(3)
    site.start_child()
    name = f"run-{phase}-0"
    job = site.cluster.objects["RayJob", name]
    job["status"] = {**job["status"], "rayClusterName": f"{name}-abcde"}
    made: dict[str, Any] = {"metadata": {"name": f"{name}-abcde", "uid": "own"}, "spec": {}, "status": {"state": "ready"}}
    site.cluster.objects["RayCluster", f"{name}-abcde"] = made
    waits = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
    labels = {"visionr1.io/attempt": name}
    site.cluster.waiting_pods = [{"metadata": {"name": "h", "labels": labels}, "status": {"conditions": waits}}]
    assert condition(site.look(2), "Progressing").reason == "Running", "KubeRay counts it as ready"
    made["status"]["conditions"] = [{"type": "HeadPodReady", "status": "False", "reason": "HeadPodNotFound"}]
    status = site.look()
    assert status.phase == "Running" and condition(status, "Progressing").message == (
        f"{phase} runs as RayJob {name}, but not all of its pods do: no node can take pod h: 0/3 nodes are available"
    )
    made["spec"]["suspend"] = True
    assert condition(site.look(), "Progressing").reason == "Running", "a queue takes its pods back"
