"""Every row of how the statuses of children are read, and the driver's own numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ptst_operator.children import job, pytorchjob, raycluster, rayjob, trainjob
from ptst_operator.look.cluster import read_pods
from ptst_operator.look.driver import read_metrics
from ptst_operator.look.scale import StageScale
from ptst_operator.status import AttemptStatus

OWNED = {"name": "x", "uid": "u", "ownerReferences": [{"controller": True, "uid": "run-uid"}]}


def condition(kind: str, status: str = "True", reason: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], "Pending"),
        ([condition("Created")], "Pending"),
        ([condition("Created"), condition("Running")], "Running"),
        ([condition("Created"), condition("Restarting")], "Pending"),
        ([condition("Created"), condition("Suspended")], "Pending"),
        # Resumed: the last of the list is Suspended, but it does not hold.
        ([condition("Created"), condition("Running"), condition("Suspended", "False", "PyTorchJobResumed")], "Running"),
        ([condition("Created"), condition("Suspended", "False", "PyTorchJobResumed")], "Pending"),
        ([condition("Running", "False"), condition("Succeeded")], "Succeeded"),
        ([condition("Running", "False"), condition("Failed")], "Failed"),
        # Both may hold, in any order: it has failed.
        ([condition("Succeeded"), condition("Failed")], "Failed"),
    ],
)
def test_a_pytorchjob_is_read_by_the_conditions_that_hold(conditions: list[dict[str, str]], expected: str) -> None:
    assert pytorchjob.read({"metadata": OWNED, "status": {"conditions": conditions}}).phase == expected


@pytest.mark.parametrize(
    ("status", "suspend", "expected"),
    [
        ({}, False, "Pending"),
        ({"jobsStatus": [{"name": "node", "active": 1, "ready": 0}]}, False, "Pending"),
        ({"jobsStatus": [{"name": "node", "active": 1, "ready": 1}]}, False, "Running"),
        # Suspended while it ran: the counts lag behind.
        ({"jobsStatus": [{"name": "node", "ready": 1}], "conditions": [condition("Suspended")]}, True, "Pending"),
        ({"conditions": [condition("Suspended")]}, True, "Pending"),
        (
            {"jobsStatus": [{"name": "node", "ready": 1}], "conditions": [condition("Suspended", "False", "Resumed")]},
            False,
            "Running",
        ),
        ({"jobsStatus": [{"name": "node", "succeeded": 1}], "conditions": [condition("Complete")]}, False, "Succeeded"),
        (
            {"jobsStatus": [{"name": "node", "failed": 1}], "conditions": [condition("Failed", reason="FailedJobs")]},
            False,
            "Failed",
        ),
        ({"conditions": [condition("Failed", "False"), condition("Complete")]}, False, "Succeeded"),
        ({"conditions": [condition("Complete"), condition("Failed")]}, False, "Failed"),
    ],
)
def test_a_trainjob_runs_while_its_job_is_ready(status: dict[str, Any], suspend: bool, expected: str) -> None:
    child = trainjob.read({"metadata": OWNED, "spec": {"suspend": suspend}, "status": status})
    assert child.phase == expected


@pytest.mark.parametrize(
    ("deployment", "ray_job", "expected", "quiet"),
    [
        ("", "", "Pending", True),
        ("Initializing", "", "Pending", True),
        ("Waiting", "PENDING", "Pending", True),
        ("Suspended", "", "Pending", True),
        ("Retrying", "FAILED", "Pending", True),
        ("Running", "PENDING", "Running", True),
        ("Running", "RUNNING", "Running", True),
        ("Complete", "SUCCEEDED", "Succeeded", True),
        ("Complete", "STOPPED", "Failed", True),
        ("Failed", "FAILED", "Failed", True),
        ("Failed", "", "Failed", True),
        # KubeRay has given up, the driver has not: it may write checkpoints for hours.
        ("Failed", "RUNNING", "Failed", False),
        ("Failed", "PENDING", "Failed", False),
        ("ValidationFailed", "", "Failed", True),
        # KubeRay refuses a job that it has submitted, as when a queue suspends it. It writes over the first word only.
        ("ValidationFailed", "RUNNING", "Failed", False),
        ("ValidationFailed", "FAILED", "Failed", True),
    ],
)
def test_a_rayjob_is_read_by_both_of_its_words(deployment: str, ray_job: str, expected: str, quiet: bool) -> None:
    child = rayjob.read({"metadata": OWNED, "status": {"jobDeploymentStatus": deployment, "jobStatus": ray_job}})
    assert (child.phase, child.quiet) == (expected, quiet)


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"state": "ready"}, True),
        ({"state": "ready", "desiredWorkerReplicas": 2, "readyWorkerReplicas": 2}, True),
        ({"state": "ready", "desiredWorkerReplicas": 2, "readyWorkerReplicas": 1, "availableWorkerReplicas": 2}, False),
        ({"state": "ready", "desiredWorkerReplicas": 2}, False),
        ({"desiredWorkerReplicas": 2, "readyWorkerReplicas": 2}, False),
        ({"state": "suspended", "desiredWorkerReplicas": 2, "readyWorkerReplicas": 2}, False),
        ({"state": "ready", "conditions": [condition("HeadPodReady", reason="HeadPodRunningAndReady")]}, True),
        ({"state": "ready", "conditions": [condition("HeadPodReady", "False", "HeadPodNotFound")]}, False),
        ({"state": "ready", "conditions": [condition("HeadPodReady", "Unknown", "Unknown")]}, False),
    ],
)
def test_a_ray_cluster_is_ready_as_long_as_no_pod_is_missing(status: dict[str, Any], ready: bool) -> None:
    """KubeRay never takes back that `state` is ready, and writes no number that is 0."""
    assert raycluster.read({"metadata": OWNED, "status": status}).ready == ready


@pytest.mark.parametrize(("written", "name"), [("x-abcde", "x-abcde"), ("../secrets/x", ""), ("..", ""), ("", "")])
def test_the_cluster_that_a_rayjob_names_is_no_path(written: str, name: str) -> None:
    assert rayjob.read({"metadata": OWNED, "status": {"rayClusterName": written}}).ray_cluster == name


@pytest.mark.parametrize("deployment", ["Failed", "ValidationFailed"])
def test_a_rayjob_that_may_have_been_submitted_may_have_a_driver(deployment: str) -> None:
    """Over HTTP, KubeRay submits before it writes jobStatus."""
    status = {"jobDeploymentStatus": deployment, "dashboardURL": "run-ray-0-head-svc.default.svc.cluster.local:8265"}
    assert not rayjob.read({"metadata": OWNED, "spec": {"clusterSelector": {}}, "status": status}).quiet


def test_a_rayjob_that_kuberay_refuses_later_keeps_its_own_cluster() -> None:
    status = {"jobDeploymentStatus": "ValidationFailed", "jobStatus": "FAILED", "rayClusterName": "x-abcde"}
    shared = {"clusterSelector": {"ray.io/cluster": "x-abcde"}}
    assert not rayjob.read({"metadata": OWNED, "spec": {"rayClusterSpec": {}}, "status": status}).quiet
    assert rayjob.read({"metadata": OWNED, "spec": shared, "status": status}).quiet


def test_the_driver_s_exit_code_is_read_from_ray_s_own_words_only() -> None:
    status = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}
    message = "Job entrypoint command failed with exit code 64, last available logs (truncated to 20,000 chars):\nSECRET_KEY=k\n"
    assert rayjob.read({"metadata": OWNED, "status": {**status, "message": message}}).exit_code == 64
    assert rayjob.read({"metadata": OWNED, "status": {**status, "message": message}}).message == (
        "Job entrypoint command failed with exit code 64"
    ), "the log of the driver is no reason"
    forged = "Something else.\nJob entrypoint command failed with exit code 64"
    assert rayjob.read({"metadata": OWNED, "status": {**status, "message": forged}}).exit_code is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, "Pending"),
        ({"ready": 1}, "Running"),
        ({"active": 1, "ready": 0}, "Pending"),
        ({"conditions": [condition("FailureTarget")], "ready": 1}, "Running"),
        ({"conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}, "Succeeded"),
        ({"conditions": [condition("FailureTarget"), condition("Failed", reason="BackoffLimitExceeded")]}, "Failed"),
    ],
)
def test_a_job_is_over_once_its_pods_are(status: dict[str, Any], expected: str) -> None:
    assert job.read({"metadata": OWNED, "spec": {}, "status": status}).phase == expected


def test_a_rank_that_found_bad_data_decides_whatever_the_others_ended_with() -> None:
    def pod(code: int, name: str = "pytorch") -> dict[str, Any]:
        containers = [{"name": name, "state": {"terminated": {"exitCode": code}}}]
        return {"metadata": {"name": "a"}, "status": {"phase": "Failed", "containerStatuses": containers}}

    assert read_pods([pod(1), pod(64)]) == ((), 64)
    assert read_pods([pod(0), pod(137)]) == ((), 137)
    assert read_pods([pod(0, "node"), pod(64, "node")]) == ((), 64)
    assert read_pods([pod(64, "istio-proxy")]) == ((), None), "a side-car's code is not the phase's"
    assert read_pods([]) == ((), None)


def test_a_pod_that_may_run_is_named_with_its_node() -> None:
    placed = {"metadata": {"name": "a"}, "spec": {"nodeName": "gpu-7"}, "status": {"phase": "Running"}}
    assert read_pods([placed, {"metadata": {"name": "b"}}]) == (("pod a on node gpu-7", "pod b"), None)
    assert read_pods([{**placed, "status": {"phase": "Failed"}}]) == ((), None)


def test_the_driver_s_numbers_are_read_and_nothing_else() -> None:
    text = """# TYPE visionr1_step gauge
visionr1_step{run="r",stage="1",role="driver"} 7.0
visionr1_reward_mean{run="r",stage="1",role="driver"} 0.5
visionr1_completion_tokens_mean{run="r",stage="1",role="driver"} 100.0
visionr1_kl_mean{run="r",stage="1",role="driver"} NaN
visionr1_step_seconds{run="r",stage="1",role="driver",phase="rollout"} 6.0
visionr1_step_seconds{run="r",stage="1",role="driver",phase="update"} 4.0
other_reward_mean 1.0
"""
    stage = StageScale(first_step=0, last_step=100, completions=32, workers=8)
    seen = read_metrics(text, stage)
    assert (seen.step, seen.reward, seen.length, seen.kl, seen.truncated) == (7, 0.5, 100.0, None, None)
    assert seen.tokens_per_second == 100.0 * 32 / 10.0 / 8
    with pytest.raises(ValueError):
        read_metrics("<html>{not metrics}</html> x y", stage)


@pytest.mark.parametrize("sign", ["a", "\x1b", "\U000e0001", "\n", " a"])
def test_the_longest_words_of_a_job_fit_into_the_status(sign: str) -> None:
    """A sign that is written out is ten times as long. A status that is too long could never be written."""
    status = {"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING", "reason": sign * 5000, "message": sign * 5000}
    seen = rayjob.read({"metadata": OWNED, "spec": {}, "status": status})
    assert (len(seen.message), len(seen.reason)) <= (300, 100)
    attempt = AttemptStatus(number=0, kind="RayJob", name="x", started=datetime.fromtimestamp(0, UTC))
    attempt.to_be_ended("ChildUnclear", f"{seen.reason}: {seen.message}; its driver may still run", None, 0.0)


def test_a_job_s_words_cannot_control_a_terminal() -> None:
    """Who may write a RayJob's status chooses what people then read in theirs."""
    status = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "\x1b[2J", "message": "a\x1b]0;x\x07\u202eb"}
    seen = rayjob.read({"metadata": OWNED, "status": status})
    assert seen.message.isprintable() and seen.reason.isprintable()
    assert seen.message == r"a\x1b]0;x\x07\u202eb"
