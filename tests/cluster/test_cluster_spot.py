"""Spot machines, on the real node: pods are evicted in the ways of clusters, and a stage begins with the workers that there are.

A worker needs a slot, of which the node has as many as the test says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from control_plane import NODE, ControlPlane, wait_for
from release import ONLY_STAGES, PODS, RECIPE, TRAINED, Release, at, train_alone

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SLOT = "visionr1.test/slot"
WORKERS = {"resources": {"limits": {SLOT: "1"}}}
STEPS = 40
Slots = Callable[[int], None]


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    yield made
    made.uninstall()


@pytest.fixture
def slots(platform: ControlPlane) -> Iterator[Slots]:
    """Gives the node so many slots."""

    def give(count: int) -> None:
        change = [{"op": "add", "path": f"/status/capacity/{SLOT.replace('/', '~1')}", "value": str(count)}]
        platform.kubectl("patch", "node", NODE, "--subresource=status", "--type=json", "-p", json.dumps(change))
        wait_for("slots", lambda: platform.get("node", NODE)["status"]["allocatable"].get(SLOT) == str(count), 60)

    yield give
    platform.kubectl("taint", "node", NODE, "spot:NoExecute-", check=False)
    give(0)


def trained(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: one[key] for key in TRAINED} for one in steps]


def uids(release: Release, role: str) -> set[str]:
    return {one["metadata"]["uid"] for one in release.get("pods", "-l", f"visionr1.io/role={role}")["items"]}


def taint_the_node(release: Release) -> None:
    """Everything leaves it, the head and both operators, too; what comes instead may come back."""
    before = uids(release, "head")
    release.platform.kubectl("taint", "node", NODE, "spot=taken:NoExecute")
    wait_for("the head has left", lambda: not before & uids(release, "head"), 90)
    release.platform.kubectl("taint", "node", NODE, "spot:NoExecute-")


def evict_a_worker(release: Release) -> None:
    """By the Eviction API. First a budget of the user's refuses it, which must change nothing."""
    worker, namespace = release.pods("visionr1.io/role=worker")[0], release.namespace
    spec = {"minAvailable": 3, "selector": {"matchLabels": {"visionr1.io/run": "demo"}}}
    meta = {"name": "demo", "namespace": namespace}
    release.platform.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec})
    wait_for("the budget counts", lambda: release.get("pdb", "demo").get("status", {}).get("currentHealthy") == 3, 30)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": worker, "namespace": namespace}}
    address = f"/api/v1/namespaces/{namespace}/pods/{worker}/eviction"

    def evict() -> str:
        return release.kubectl("create", "--raw", address, "-f", "-", stdin=json.dumps(eviction), check=False)

    assert "disruption budget" in evict()
    release.kubectl("delete", "pdb", "demo")
    before = uids(release, "worker")
    assert "Success" in evict()
    wait_for("it has left", lambda: before - uids(release, "worker"), 60)


def preempt_a_worker(release: Release) -> None:
    """A pod of a higher priority needs a slot, and gives it back."""
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}, "value": 1000}
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "x", "image": PODS["image"], "command": ["sleep", "600"], "securityContext": security, **WORKERS}
    user = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"priorityClassName": "urgent", "terminationGracePeriodSeconds": 1, "securityContext": user, "containers": [container]}
    meta = {"name": "urgent", "namespace": release.namespace}
    before = uids(release, "worker")
    release.platform.apply(priority, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    wait_for("it runs", lambda: release.get("pod", "urgent")["status"]["phase"] == "Running", 120)
    assert before - uids(release, "worker"), "in a worker's place"
    release.kubectl("delete", "pod", "urgent")


@pytest.mark.parametrize("take", [taint_the_node, evict_a_worker, preempt_a_worker], ids=lambda take: take.__name__)
def test_pods_that_are_taken_cost_time_and_no_bit(
    take: Callable[[Release], None], release: Release, slots: Slots, undisturbed: list[dict[str, Any]]
) -> None:
    slots(2)
    recipe = {**ONLY_STAGES, "stages": ONLY_STAGES["stages"][:1]}
    # Less than the rest of the stage takes: a worker that is asked to leave works on for so long.
    deadlines = {"stopSeconds": 10}
    release.install(recipe, grpo={"workersPerPod": 1, "workers": WORKERS}, retry={"firstWaitSeconds": 1}, deadlines=deadlines)
    release.wait("demo", "step 5", at(5))
    take(release)
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 600)
    pauses = [one["pause_seconds"] for one in release.steps("demo") if "pause_seconds" in one]
    ends = [one.get("reason", "")[:80] for one in release.status("demo")["phases"][0]["attempts"]]
    print(f"\n{json.dumps({'taken': take.__name__, 'attempts': ends, 'pause_seconds': pauses})}", flush=True)
    assert pauses and min(pauses) > 0, "it was felt"
    assert trained(release.steps("demo")) == trained(undisturbed)[:STEPS]


def test_a_stage_begins_with_one_worker_and_the_next_with_both(release: Release, slots: Slots, tmp_path: Path) -> None:
    slots(1)
    grpo = {"workersPerPod": 1, "minWorkers": 1, "workers": WORKERS}
    release.install(ONLY_STAGES, grpo=grpo, deadlines={"workersSeconds": 60, "stopSeconds": 60})
    release.wait("demo", "step 5", at(5))
    assert "with 1 of 2 workers" in release.kubectl("get", "ptst", "demo", "-o", "wide")
    slots(2)
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded", 600)
    status, steps = release.status("demo"), release.steps("demo")
    assert [[one["workers"] for one in phase["attempts"]] for phase in status["phases"]] == [[1], [2]]
    assert status["clustersBegun"] == 1, "the RayCluster stayed, and so did the first worker's pod"
    assert [one["workers"] for one in steps] == [1] * STEPS + [2] * STEPS
    alone = {**ONLY_STAGES, "stages": ONLY_STAGES["stages"][:1], "rollout": {**RECIPE["rollout"], "workers": 1}}
    assert trained(steps[:STEPS]) == trained(train_alone(alone, tmp_path)), "as a run of one worker from the start"
