"""Somebody else's object has the name of a run's child or RayCluster: it is left alone, the run says so and can still end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.status import Status
from site_of_a_run import Site, at_step_2, condition, without_coldstart

WORDS = "exists and is not of this run; delete it, or give the run another name"
RAY = f"RayCluster run-ray-0 {WORDS}"
OWNERS: list[list[dict[str, Any]]] = [[], [{"controller": True, "uid": "another-run"}]]
READY = {"state": "ready", "head": {"podIP": "10.0.0.1"}}


def strange(site: Site, kind: str, name: str, owners: list[dict[str, Any]], **parts: Any) -> None:
    meta = {"name": name, "uid": "strange", "ownerReferences": owners}
    site.cluster.objects[kind, name] = {"kind": kind, "metadata": meta, "spec": {}, **parts}


def said(status: Status) -> tuple[str, str, str]:
    reported = condition(status, "Progressing")
    return status.phase, reported.reason, reported.message


def waiting_for_ray(folder: Path, **changes: Any) -> Site:
    site = Site(folder, **without_coldstart(rollout={"workers": 8}), **changes)
    site.commit("sft", 3, final=True)
    strange(site, "RayCluster", "run-ray-0", [], status=READY)
    site.look(3)
    return site


@pytest.mark.parametrize("owners", OWNERS)
@pytest.mark.parametrize("state", ["Created", "Running", "Succeeded", "Suspended"])
def test_a_child_of_somebody_else_is_named(state: str, owners: list[dict[str, Any]], tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    strange(site, "PyTorchJob", "run-sft-0", owners, status={"conditions": [{"type": state, "status": "True"}]})
    assert said(site.look(3)) == ("Pending", "NameTaken", f"PyTorchJob run-sft-0 {WORDS}")
    del site.cluster.objects["PyTorchJob", "run-sft-0"]
    site.look(2)
    assert site.cluster.made == [("PyTorchJob", "run-sft-0")]


def test_a_child_of_somebody_else_that_is_being_deleted_is_waited_for(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    strange(site, "PyTorchJob", "run-sft-0", [])
    site.cluster.objects["PyTorchJob", "run-sft-0"]["metadata"]["deletionTimestamp"] = "now"
    assert said(site.look(3))[1] == "WaitsForChild"


@pytest.mark.parametrize("grpo", [{"workersPerPod": 2}, {"workersPerPod": 2, "minWorkers": 4}])
def test_a_ray_cluster_of_somebody_else_is_named_and_not_changed(grpo: dict[str, Any], tmp_path: Path) -> None:
    site = waiting_for_ray(tmp_path, grpo=grpo)
    assert said(site.status) == ("Pending", "NameTaken", RAY)
    assert not site.cluster.made


def test_a_run_that_cannot_have_the_name_gives_up_and_tries_the_next_one(tmp_path: Path) -> None:
    site = waiting_for_ray(tmp_path)
    site.now += 300
    (attempt,) = site.look(3).of("stage-1").attempts
    assert attempt.ended is not None and attempt.exit_code is None
    site.now += 20
    site.look(3)
    assert site.cluster.made == [("RayCluster", "run-ray-1")]


def test_a_run_whose_name_is_taken_can_be_suspended(tmp_path: Path) -> None:
    site = waiting_for_ray(tmp_path)
    site.cluster.change_spec(suspend=True)
    status = site.look(3)
    assert (status.phase, status.cluster) == ("Suspended", None)
    assert "deletionTimestamp" not in site.cluster.objects["RayCluster", "run-ray-0"]["metadata"]


def test_a_ray_cluster_that_was_replaced_by_somebody_else_s_is_lost(tmp_path: Path) -> None:
    site = at_step_2(tmp_path)
    strange(site, "RayCluster", "run-ray-0", [], status=READY)
    phase, reason, message = said(site.look(2))
    assert (phase, reason) == ("Stopping", "ClusterLost") and message.endswith(f"the RayCluster is gone; {RAY}")
    site.cluster.collect()
    site.look()
    site.cluster.processes.clear()
    del site.cluster.objects["RayCluster", "run-ray-0"]
    assert site.look().of("stage-1").attempts[0].ended is not None


@pytest.mark.parametrize("state", ["Running", "Complete"])
def test_pods_of_a_child_that_was_replaced_by_somebody_else_s_are_waited_for(state: str, tmp_path: Path) -> None:
    """Deleted with --cascade=orphan, and made again from a backup, which keeps no owner."""
    site = at_step_2(tmp_path, grpo={"workersPerPod": 2, "cluster": "per-stage"})
    strange(site, "RayJob", "run-stage-1-0", [], status={"jobDeploymentStatus": state, "jobStatus": "RUNNING"})
    phase, reason, message = said(site.look(3))
    assert (phase, reason) == ("Stopping", "ChildLost")
    assert f"; RayJob run-stage-1-0 {WORDS}; pod run-stage-1-0 may still run; " in message
    site.cluster.processes.clear()
    site.look(3)
    assert site.cluster.made[-1] == ("RayJob", "run-stage-1-1")
