"""Attempts whose work is over and whose pods are not: a process that hangs at its end, a container that nobody has asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.look.cluster import read_kept_pods
from site_of_a_run import Site, at_step_2, condition, without_coldstart

LIMITS = {"deadlines": {"stopSeconds": 60}}
LABEL = "training.kubeflow.org/job-name"


def deleted(site: Site, kind: str) -> bool:
    return any("deletionTimestamp" in one["metadata"] for (name, _), one in site.cluster.objects.items() if name == kind)


@pytest.mark.parametrize("mode", ["shared", "per-stage"])
def test_a_driver_that_hangs_after_its_last_commit_is_ended(mode: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), **LIMITS, grpo={"workersPerPod": 2, "cluster": mode})
    site.begin_stage_1()
    site.look()
    site.commit("stage-1", 4, final=True)
    site.look()
    site.replace_operator()
    site.now += 50
    assert site.look().phase == "Running" and not deleted(site, "RayJob"), "it has time to end"
    site.now += 10
    status = site.look()
    progress = condition(status, "Progressing")
    assert (status.phase, progress.reason) == ("Stopping", "DidNotEnd") and deleted(site, "RayJob")
    assert "stage-1 is done, but RayJob run-stage-1-0 did not end within deadlines.stopSeconds (60 s)" in progress.message
    site.look(5)
    assert site.status.of("stage-2").attempts == [] and len(site.cluster.processes) == 1, "the next stage waits for its pods"
    for _ in range(4):
        site.cluster.collect()
        site.cluster.ready()
        site.look(3)
    site.start_child()
    (attempt,) = site.status.of("stage-1").attempts
    assert attempt.exit_code == 3 and attempt.ended is not None and not site.cluster.asked_to_stop
    assert [process.phase for process in site.cluster.processes] == ["stage-2"]
    assert not [event for event in site.cluster.events if event.kind == "Warning"], "it has not failed"


def test_attempt_seconds_do_not_count_once_the_work_is_done(tmp_path: Path) -> None:
    site = at_step_2(tmp_path, deadlines={"stopSeconds": 60, "attemptSeconds": 100})
    site.now += 80
    site.commit("stage-1", 4, final=True)
    site.look()
    site.now += 30
    assert site.look().phase == "Running"
    site.now += 30
    assert condition(site.look(), "Progressing").reason == "DidNotEnd"


def pod(name: str, exit_code: int | None, proxy: str = "running") -> dict[str, Any]:
    """An SFT pod with a proxy beside it."""
    own = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
    statuses = [{"name": "pytorch", "state": own}, {"name": "mesh-proxy", "state": {proxy: {}}}]
    labels = {LABEL: "run-sft-0", "visionr1.io/run": "run"}
    status = {"phase": "Running", "conditions": [], "containerStatuses": statuses}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "n"}, "status": status}


def sft_with(folder: Path, *pods: dict[str, Any]) -> Site:
    """SFT whose pods are these; its job says that it runs."""
    site = Site(folder, **without_coldstart(), **LIMITS)
    site.look(2)
    site.start_child()
    site.look(2)
    site.cluster.processes.clear()
    site.cluster.waiting_pods = list(pods)
    return site


def end_of(site: Site) -> Any:
    """The first attempt at SFT, once its job and its pods are gone."""
    assert deleted(site, "PyTorchJob")
    site.look()
    assert site.status.of("sft").attempts[-1].ended is None, "its pods are still there"
    site.cluster.waiting_pods = []
    site.cluster.collect()
    return site.look().of("sft").attempts[0]


def test_a_sidecar_does_not_keep_a_phase_that_is_done(tmp_path: Path) -> None:
    site = sft_with(tmp_path, pod("a", 0), pod("b", 0))
    site.commit("sft", 3, final=True)
    assert site.look(2).phase == "Running"
    site.now += 60
    assert condition(site.look(), "Progressing").reason == "DidNotEnd"
    assert end_of(site).exit_code == 3


@pytest.mark.parametrize("code", [1, 3, 4, 64])
def test_a_sidecar_does_not_hide_that_a_phase_has_failed(code: int, tmp_path: Path) -> None:
    site = sft_with(tmp_path, pod("a", 0), pod("b", code))
    progress = condition(site.look(), "Progressing")
    assert progress.reason == "DidNotEnd"
    assert f"exit code {code}, but its pods run on with container mesh-proxy of pod a on node n" in progress.message
    assert end_of(site).exit_code == code
    site.look(2)
    assert site.status.phase == ("Failed" if code == 64 else "Pending")


def test_pods_of_which_a_container_of_the_phase_may_run_are_left_alone(tmp_path: Path) -> None:
    site = sft_with(tmp_path, pod("a", None), pod("b", 1))
    site.now += 1000
    assert site.look(3).phase == "Running" and not deleted(site, "PyTorchJob")
    starting = {"metadata": {"name": "c"}, "status": {"phase": "Pending"}}
    assert read_kept_pods([pod("b", 1), starting]) == ()
    assert read_kept_pods([pod("b", 1, "terminated")]) == (), "its job will say so"
    assert read_kept_pods([]) == ()
