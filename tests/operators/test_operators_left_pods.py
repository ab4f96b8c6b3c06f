"""Pods that may still run keep the next attempt from starting: the status names them, and says how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Process, ended_status
from schedules import SPEC
from site_of_a_run import Site, at_step_2, condition, without_coldstart

NODE = "if a node is gone for good, delete it (kubectl delete node NODE)"
BY_HAND = f"if one stays, delete it (kubectl -n default delete pod NAME); {NODE}"
PER_STAGE = {"grpo": {"workersPerPod": 2, "cluster": "per-stage"}}


def pod(name: str, node: str = "", **labels: str) -> dict[str, Any]:
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"phase": "Running"}}


def said(site: Site) -> tuple[str, str, str]:
    status = site.look()
    reported = condition(status, "Progressing")
    return status.phase, reported.reason, reported.message


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_that_is_over_waits_for_a_pod_on_a_node_that_is_cut_off(code: int, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    ((kind, child),) = site.cluster.children()
    child["status"] = ended_status(kind, code)
    assert said(site) == (
        "Stopping",
        "WaitsForPods",
        f"sft: PyTorchJob run-sft-0 is over, but pod run-sft-0 may still run; {NODE}",
    )
    site.now += 3000
    site.look()
    assert said(site)[2].endswith(f"; {NODE}"), "also while it is being ended"


def test_at_most_three_pods_are_named_with_their_nodes(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.cluster.waiting_pods = [pod(f"p{number}", "gpu-7", **{"visionr1.io/run": "run"}) for number in range(5)]
    assert said(site)[2] == (
        f"sft waits: pod p0 on node gpu-7, pod p1 on node gpu-7, pod p2 on node gpu-7 and more may still run; {BY_HAND}"
    )


@pytest.mark.parametrize("phase", ["sft", "stage-1"])
def test_pods_of_an_earlier_attempt_keep_the_next_phase_from_starting(phase: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    if phase == "stage-1":
        site.commit("sft", 3, final=True)
    site.cluster.processes.append(Process(phase, "old", "old", None))
    assert said(site) == ("Pending", "WaitsForPods", f"{phase} waits: pod old may still run; {BY_HAND}")


def test_pods_that_have_outlived_their_ray_cluster_are_named(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(3)
    del site.cluster.objects["RayCluster", "run-ray-0"]
    site.cluster.waiting_pods = [pod("run-ray-0-head", **{"ray.io/cluster": "run-ray-0"})]
    site.look()
    assert said(site) == (
        *("Pending", "WaitsForCluster"),
        f"stage-1 waits for the RayCluster to be deleted; pod run-ray-0-head may still run; {BY_HAND}",
    )
    site.cluster.waiting_pods.clear()
    site.look(2)
    assert ("RayCluster", "run-ray-1") in site.cluster.made


def test_pods_that_have_their_time_to_commit_are_named_only_after_it(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    site.cluster.change_spec(suspend=True)
    site.look()
    assert said(site)[2] == "sft commits a checkpoint and ends"
    site.now += SPEC["deadlines"]["stopSeconds"]
    assert said(site)[2] == f"sft commits a checkpoint and ends; pod run-sft-0 may still run; {NODE}"


def orphaned(folder: Path, made_for: str) -> Site:
    """A stage whose RayJob was deleted with --cascade=orphan: its RayCluster and the pods live on."""
    site = at_step_2(folder, **PER_STAGE)
    del site.cluster.objects["RayJob", "run-stage-1-0"]
    site.cluster.processes.clear()
    template = {"metadata": {"labels": {"visionr1.io/attempt": made_for}}}
    made = {"metadata": {"name": "run-stage-1-0-x7", "uid": "rc"}, "spec": {"headGroupSpec": {"template": template}}}
    site.cluster.objects["RayCluster", "run-stage-1-0-x7"] = made
    labels = {"ray.io/cluster": "run-stage-1-0-x7", "visionr1.io/attempt": "run-stage-1-0"}
    site.cluster.waiting_pods = [pod("run-stage-1-0-x7-head", **labels)]
    return site


def test_a_ray_cluster_that_has_outlived_its_rayjob_is_deleted(tmp_path: Path) -> None:
    site = orphaned(tmp_path, "run-stage-1-0")
    site.look(2)
    site.cluster.collect()
    site.cluster.waiting_pods.clear()
    assert not site.cluster.objects
    assert site.look().of("stage-1").attempts[0].ended is not None


def test_a_pod_cannot_choose_which_ray_cluster_is_deleted(tmp_path: Path) -> None:
    site = orphaned(tmp_path, "another-stage-1-0")
    phase, reason, message = [said(site) for _ in range(3)][-1]
    assert (phase, reason) == ("Stopping", "ChildLost")
    assert message.endswith(f"RayJob run-stage-1-0 is gone; pod run-stage-1-0-x7-head may still run; {BY_HAND}")
    assert "deletionTimestamp" not in site.cluster.objects["RayCluster", "run-stage-1-0-x7"]["metadata"]
