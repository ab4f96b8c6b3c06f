"""Pods that a node refuses or evicts: the run says so while it waits, and an attempt says so when it has ended by that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.look.hindrance import ended_by_node
from ptst_operator.world import Hindrance
from site_of_a_run import Site, condition, without_coldstart
from test_operators_waiting import event, found, pod, unscheduled, waits

GPUS = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected"
REFUSED = Hindrance("NodeRefuses", f"a node has refused or evicted a pod: UnexpectedAdmissionError on gpu-1: {GPUS}")
LATER, LATEST = "1970-01-12T13:50:00Z", "1970-01-12T13:50:05Z"


def refused(name: str = "run-sft-0-p", created: str = "", **changes: Any) -> dict[str, Any]:
    words = {"reason": "UnexpectedAdmissionError", "message": f"Pod was rejected: {GPUS}"}
    return pod(name, created, **{"phase": "Failed", **words, **changes})


def told(reason: str, message: str, at: str = LATER, kind: str = "Pod") -> dict[str, Any]:
    return {**event("run-sft-0-p", reason, message, kind=kind, at=at), "source": {"host": "gpu-1"}}


def test_a_pod_that_its_node_refuses_says_why() -> None:
    assert found([refused()], []) == REFUSED
    assert found([refused(message="")], []) == Hindrance(
        "NodeRefuses", "a node has refused or evicted a pod: UnexpectedAdmissionError on gpu-1"
    )
    newer = refused("run-sft-0-q", LATER, reason="Evicted", message="The node was low on memory.")
    evicted = "a node has refused or evicted a pod: Evicted on gpu-1: The node was low on memory."
    assert found([refused(), newer], []) == Hindrance("NodeRefuses", evicted)
    failed = {key: value for key, value in refused()["status"].items() if key != "reason"}
    assert found([{**refused(), "status": failed}], []) is None, "its process has failed, not its node"


@pytest.mark.parametrize(
    "reason",
    [
        *("UnexpectedAdmissionError", "TopologyAffinityError", "NodeAffinity", "NodeShutdown", "Evicted", "Preempting"),
        *("OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfnvidia.com/gpu"),
    ],
)
def test_an_event_says_it_of_a_pod_that_is_gone(reason: str) -> None:
    said = Hindrance("NodeRefuses", f"a node has refused or evicted a pod: {reason} on gpu-1: no room")
    older = told("Evicted", "older", at="1970-01-12T13:49:00Z")
    assert found([], [older, told(reason, "no room")]) == said
    assert found([pod("run-sft-0-q", LATEST)], [told(reason, "no room")]) == said, "no node has taken the next one yet"
    assert found([], [told(reason, "no room", kind="ReplicaSet")]) != said


def test_the_pod_and_its_event_are_told_in_the_same_words() -> None:
    """Or the status would be written again each time that KubeRay makes another pod."""
    assert found([], [told("UnexpectedAdmissionError", GPUS)]) == found([refused()], []) == REFUSED


def test_a_refusal_is_over_when_a_node_has_taken_the_next_pod() -> None:
    taken = pod("run-sft-0-q", LATEST, **waits("ContainerCreating"))
    assert found([taken], [told("Evicted", "no room")]) is None
    earlier = pod("run-sft-0-q", "1970-01-12T13:49:00Z", **waits("ContainerCreating"))
    assert found([earlier], [told("Evicted", "no room")]) is not None


def test_what_keeps_the_next_pod_back_counts_first() -> None:
    next_pod = pod("run-sft-0-q", LATEST, **unscheduled("Unschedulable", "0/3 nodes are available"))
    for pods, events in (([refused(), next_pod], []), ([next_pod], [told("Evicted", "no room")])):
        seen = found(pods, events)
        assert seen is not None and seen.reason == "Unschedulable"


def test_the_words_of_a_node_cannot_control_a_terminal() -> None:
    for seen in (found([refused(reason="\x1b[2J")], []), found([], [told("OutOf\x1b[2J", "x")])):
        assert seen is not None and seen.message.isprintable()


def test_only_pods_that_have_ended_by_their_node_say_so_at_the_end() -> None:
    assert ended_by_node([pod("p"), refused()]) == REFUSED
    assert ended_by_node([pod("p"), pod("q", phase="Failed"), {"metadata": {"name": "r"}}]) is None


def test_a_ray_cluster_whose_pods_are_refused_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(3)
    seen = event("run-ray-0-head-abcde", "UnexpectedAdmissionError", GPUS, kind="Pod")
    site.cluster.warnings = [{**seen, "source": {"host": "gpu-1"}}]
    reported = condition(site.look(), "Progressing")
    assert (reported.reason, reported.message) == ("NodeRefuses", f"stage-1 waits for RayCluster run-ray-0: {REFUSED.message}")


def test_an_attempt_that_ended_by_a_node_says_so_in_the_run_that_failed(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), retry={"maxAttempts": 1})
    site.look(2)
    site.start_child()
    site.look()
    site.end_child(1)
    site.cluster.objects["pods of", "run-sft-0"]["items"] = [refused()]
    status = site.look(2)
    (attempt,) = status.of("sft").attempts
    assert attempt.exit_code is None and attempt.reason == f"BackoffLimitExceeded: it failed; {REFUSED.message}"
    assert REFUSED.message in condition(status, "Failed").message
