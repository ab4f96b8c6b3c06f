"""Which of several signs says why pods do not run, of what time, and that a reason stays as long as the wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.look.hindrance import find_hindrance
from ptst_operator.world import Hindrance
from site_of_a_run import Site, condition, without_coldstart
from test_operators_waiting import event, found, pod, unscheduled, waits

LATER = "1970-01-12T13:50:00Z"
NO_NODE = Hindrance("Unschedulable", "no node can take pod p: 64 Insufficient nvidia.com/gpu.")
CRASH = {
    "name": "ray",
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}},
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
}


def not_ready(name: str, **status: Any) -> dict[str, Any]:
    return pod(name, phase="Running", conditions=[{"type": "Ready", "status": "False"}], **status)


def without_node(name: str, **spec: Any) -> dict[str, Any]:
    return {**pod(name), "spec": spec}


@pytest.mark.parametrize("phase", ["Running", "Unknown"])
def test_a_container_that_ends_again_and_again_is_said_with_its_exit_code(phase: str) -> None:
    """Pods of Ray restart their containers, so they run by their phase."""
    crashing = pod("p", phase=phase, containerStatuses=[CRASH])
    said = "a container of pod p ends again and again: its last exit code is 137 (OOMKilled)"
    assert found([crashing], []) == Hindrance("ContainerFails", said)
    gone = {**crashing, "metadata": {**crashing["metadata"], "deletionTimestamp": "now"}}
    assert found([gone], []) is None
    ready = {**crashing["status"], "conditions": [{"type": "Ready", "status": "True"}]}
    assert found([{**crashing, "status": ready}], []) is None


@pytest.mark.parametrize("cluster", ["shared", "per-stage"])
def test_a_crash_loop_of_ray_is_said_of_the_run(cluster: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), grpo={"workersPerPod": 2, "cluster": cluster})
    site.commit("sft", 3, final=True)
    site.look(3)
    labels = {"ray.io/cluster": "run-ray-0"} if cluster == "shared" else {"visionr1.io/attempt": "run-stage-1-0"}
    site.cluster.waiting_pods = [{**not_ready("head", containerStatuses=[CRASH]), "metadata": {"name": "head", "labels": labels}}]
    reported = condition(site.look(), "Progressing")
    assert reported.reason == "ContainerFails"
    assert reported.message.endswith("a container of pod head ends again and again: its last exit code is 137 (OOMKilled)")


def test_what_a_pod_shows_counts_before_what_owners_report() -> None:
    unplaced = pod("p", **unscheduled("Unschedulable", "64 Insufficient nvidia.com/gpu."))
    refused = event("run-sft-0", "FailedCreate", "no", at=LATER)
    assert found([unplaced], [refused]) == NO_NODE
    assert found([unplaced], [], reported="no") == NO_NODE


@pytest.mark.parametrize(
    ("weak", "events", "said"),
    [
        (
            not_ready("run-sft-0-p"),
            [event("run-sft-0-p", "Unhealthy", "Readiness probe failed: 503", kind="Pod")],
            Hindrance("NotReady", "pod run-sft-0-p runs but does not get ready: Readiness probe failed: 503"),
        ),
        (
            pod("p", **unscheduled("SchedulingGated", "")),
            [],
            Hindrance("SchedulingGated", "pod p waits until its scheduling gates are removed"),
        ),
        (
            without_node("p", schedulerName="volcanoo"),
            [],
            Hindrance("Unschedulable", "no scheduler has looked at pod p: its schedulerName is volcanoo"),
        ),
    ],
)
def test_a_weak_sign_counts_only_without_a_strong_one(
    weak: dict[str, Any], events: list[dict[str, Any]], said: Hindrance
) -> None:
    assert found([weak], events) == said
    refused = event("run-sft-0", "FailedCreate", "no", at=LATER)
    assert found([weak], [*events, refused]) == Hindrance("PodsRefused", "its pods cannot be made: no")
    assert found([weak, pod("p", **unscheduled("Unschedulable", "64 Insufficient nvidia.com/gpu."))], events) == NO_NODE


@pytest.mark.parametrize("newest", [0, 1])
def test_probes_that_report_in_turn_are_one_reason(newest: int) -> None:
    words = ("Liveness probe failed: no answer", "Readiness probe failed: 503")
    times = [LATER if number == newest else "1970-01-12T13:49:55Z" for number in range(2)]
    reported = [event("run-sft-0-p", "Unhealthy", said, kind="Pod", at=at) for said, at in zip(words, times, strict=True)]
    said = "pod run-sft-0-p runs but does not get ready: Liveness probe failed: no answer"
    assert found([not_ready("run-sft-0-p")], reported) == Hindrance("NotReady", said)


def test_a_pod_that_has_a_node_or_is_ready_shows_nothing() -> None:
    assert found([pod("p", **waits("ContainerCreating"))], []) is None
    ready = pod("run-sft-0-p", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert found([ready], [event("run-sft-0-p", "Unhealthy", "503", kind="Pod")]) is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Service", "FailedToUpdateEndpointSlices"),
        ("Endpoints", "FailedToCreateEndpoint"),
        ("EndpointSlice", "Any"),
        ("RayCluster", "FailedToUpdateRayCluster"),
    ],
)
def test_events_about_other_things_than_pods_are_no_reason(kind: str, reason: str) -> None:
    assert found([], [event("run-sft-0-head-svc", reason, "the object has been modified", kind=kind)]) is None


@pytest.mark.parametrize("group", ["run-sft-0", "ray-run-sft-0-pg"])
def test_a_gang_that_volcano_cannot_place_is_said(group: str) -> None:
    seen = event(group, "Unschedulable", "2/2 tasks in gang unschedulable", kind="PodGroup")
    names = ("run-sft-0", "ray-run-sft-0-pg")
    said = "the scheduler cannot place its pods together: 2/2 tasks in gang unschedulable"
    assert find_hindrance(names, "", "", [], [seen]) == Hindrance("Unschedulable", said)


def queued_site(folder: Path) -> Site:
    """SFT waits in a queue. Kueue's clock is 2 s behind the API server's, and that is half a minute behind the operator's."""
    site = Site(folder, **without_coldstart())
    site.look(2)
    ((kind, child),) = site.cluster.queueable()
    child["metadata"]["creationTimestamp"] = "1970-01-12T13:46:10Z"
    site.cluster.take_back(kind, child)
    words = "8 more needed"
    site.cluster.warnings = [
        event("pytorchjob-run-sft-0-1a2b3", "Pending", words, kind="Workload", at="1970-01-12T13:46:08Z"),
        event("pytorchjob-run-sft-0-0f0f0", "Pending", "of the run before", kind="Workload", at="1970-01-12T13:45:30Z"),
    ]
    return site


def test_clocks_that_differ_by_seconds_lose_no_event(tmp_path: Path) -> None:
    site = queued_site(tmp_path)
    assert condition(site.look(), "Progressing").message.endswith("its queue has no room for it: 8 more needed")
    site.cluster.warnings.pop(0)
    site.replace_operator()
    site.cluster.run["status"]["conditions"] = []
    assert condition(site.look(), "Progressing").message.endswith("until its queue lets it in"), "that event is of another child"


def test_the_reason_of_a_queue_stays_when_its_event_is_forgotten(tmp_path: Path) -> None:
    site = queued_site(tmp_path)
    message = condition(site.look(), "Progressing").message
    site.cluster.warnings.clear()
    assert condition(site.look(2), "Progressing").message == message
    ((kind, child),) = site.cluster.queueable()
    site.cluster.let_in(kind, child)
    assert condition(site.look(), "Progressing").reason == "WaitsForChild"
