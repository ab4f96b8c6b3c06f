"""What the API server refuses or does not tell: it is in the conditions, and keeps nobody from stopping a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.api import ApiError, NameTaken
from site_of_a_run import Site, at_step_2, condition, without_coldstart

from visionr1.errors import EXIT_BAD_INPUT


def tried(site: Site, error: type[Exception], times: int = 1, seconds: float = 0.0) -> Any:
    """Progressing after looks that fail; each next one is `seconds` later."""
    for _ in range(times):
        with pytest.raises(error):
            site.look()
        site.now += seconds
    return condition(site.status, "Progressing")


def test_a_deletion_that_is_refused_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = at_step_2(tmp_path)

    def refuse(kind: str, name: str, uid: str) -> None:
        raise ApiError(403, 'admission webhook "protect.example" denied the request')

    monkeypatch.setattr(site.cluster, "delete", refuse)
    site.cluster.change_spec(suspend=True)
    told = tried(site, ApiError, times=3, seconds=100)
    assert told.reason == "Stopping"
    assert 'RayJob run-stage-1-0 cannot be deleted: admission webhook "protect.example" denied the request' in told.message
    monkeypatch.undo()
    assert "denied" not in condition(site.look(2), "Progressing").message


def test_a_rayjob_that_nobody_finalizes_costs_its_cluster_and_is_told(tmp_path: Path) -> None:
    site = at_step_2(tmp_path)
    site.cluster.change_spec(suspend=True)
    site.look(3)
    assert being_deleted(site) == {"RayJob"}
    site.now += site.cluster.run["spec"]["deadlines"]["stopSeconds"]
    told = condition(site.look(2), "Progressing").message
    assert "RayJob run-stage-1-0 is still being deleted: see whether its controller runs, and its finalizers" in told
    assert being_deleted(site) == {"RayJob", "RayCluster"}


def being_deleted(site: Site) -> set[str]:
    return {kind for (kind, _), one in site.cluster.objects.items() if "deletionTimestamp" in one["metadata"]}


def test_objects_that_cannot_be_read_are_told_after_some_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = at_step_2(tmp_path)
    read = site.cluster.get

    def unreadable(kind: str, name: str) -> Any:
        if kind == "RayCluster":
            raise ApiError(500, "conversion webhook for ray.io/v1 failed: connection refused")
        return read(kind, name)

    monkeypatch.setattr(site.cluster, "get", unreadable)
    assert tried(site, ApiError, seconds=5).reason == "Running", "a moment is not worth a word"
    told = tried(site, ApiError, times=2, seconds=5)
    assert (told.status, told.reason) == ("True", "ClusterUnreadable")
    assert told.message == "cannot read what belongs to the run: conversion webhook for ray.io/v1 failed: connection refused"
    assert condition(site.status, "Reconciling").status == "True"
    monkeypatch.undo()
    assert condition(site.look(), "Progressing").reason == "Running"


def test_a_policy_that_cannot_be_made_keeps_no_run_from_stopping(tmp_path: Path) -> None:
    site = at_step_2(tmp_path)
    theirs = {"kind": "NetworkPolicy", "metadata": {"name": "run-pods", "uid": "theirs", "ownerReferences": []}, "spec": {}}
    site.cluster.objects["NetworkPolicy", "run-pods"] = theirs
    site.replace_operator()
    site.operator.isolates = True
    site.cluster.change_spec(suspend=True)
    told = tried(site, NameTaken, times=4, seconds=100)
    assert "NetworkPolicy run-pods" in told.message
    for _ in range(2):  # the RayJob, then the RayCluster
        site.cluster.collect()
        tried(site, NameTaken, times=3)
    assert site.status.phase == "Suspended" and not site.cluster.processes


def test_no_pod_is_made_before_its_policy(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    theirs = {"kind": "NetworkPolicy", "metadata": {"name": "run-pods", "uid": "theirs", "ownerReferences": []}, "spec": {}}
    site.cluster.objects["NetworkPolicy", "run-pods"] = theirs
    site.operator.isolates = True
    told = tried(site, NameTaken, times=3)
    assert "NetworkPolicy run-pods" in told.message and site.cluster.made == []


@pytest.mark.parametrize(("made", "phase"), [("2001-01-01T00:00:00Z", "Pending"), ("2031-01-01T00:00:00Z", "Failed")])
def test_a_pod_of_an_earlier_run_of_the_same_name_says_nothing_about_this_one(made: str, phase: str, tmp_path: Path) -> None:
    """With `--cascade=orphan`, pods outlive the run that made them, and may have ended with any code."""
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    site.cluster.processes.clear()
    terminated = {"terminated": {"exitCode": EXIT_BAD_INPUT}}
    pod = {
        "metadata": {"name": "run-sft-0-worker-0", "creationTimestamp": made, "ownerReferences": [{"uid": "earlier"}]},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "pytorch", "state": terminated}]},
    }
    site.cluster.objects["pods of", "run-sft-0"] = {"metadata": {}, "items": [pod]}
    for _, child in site.cluster.children():
        child["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
        child["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": ""}]}
    assert site.look().phase == phase
