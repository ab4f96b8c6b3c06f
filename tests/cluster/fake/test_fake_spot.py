"""Spot machines: nodes come late, and are taken away in every way that clusters have. The run continues with what there is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_plane import fake_node, wait_for

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, ended

pytestmark = pytest.mark.timeout(900)

STAGE = {"max_completion_tokens": 8, "group_size": 2, "steps": 60}
WHOLE_NODE = {"resources": {"limits": {"nvidia.com/gpu": "8"}}}
"""A worker's pod takes all GPUs of its fake node."""
Nodes = Callable[..., str]


@pytest.fixture
def nodes(controllers: Controllers) -> Iterator[Nodes]:
    """kubectl for nodes; afterwards all are there, empty and free to use."""
    yield controllers.plane.kubectl
    for name in (f"fake-{number}" for number in range(4)):
        controllers.plane.kubectl("delete", "node", name, "--ignore-not-found")
        controllers.plane.apply(fake_node(name))


def recipe_of(release: FakeRelease, workers: int, *stages: dict[str, Any]) -> dict[str, Any]:
    """Only stages. All nodes have the GPUs of one worker."""
    sizes = {"algorithm": {"prompts_per_step": 12}, "rollout": {"workers": workers}, "stages": list(stages)}
    return {**release.spec("run")["recipe"], "coldstart": None, "sft": None, **sizes}


def node_of_a_worker(release: FakeRelease) -> str:
    """One without the head."""
    (head,) = release.get("pods", "-l", "visionr1.io/role=head")["items"]
    workers = release.get("pods", "-l", "visionr1.io/role=worker")["items"]
    return next(str(one["spec"]["nodeName"]) for one in workers if one["spec"]["nodeName"] != head["spec"]["nodeName"])


def taint(release: FakeRelease, nodes: Nodes, node: str) -> None:
    """As clouds do some time before they take a machine."""
    nodes("taint", "node", node, "spot=taken:NoExecute")


def drain(release: FakeRelease, nodes: Nodes, node: str) -> None:
    """By the Eviction API, as an autoscaler or a person does."""
    nodes("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=visionr1.io/run")


def delete(release: FakeRelease, nodes: Nodes, node: str) -> None:
    nodes("delete", "node", node)


def preempt(release: FakeRelease, nodes: Nodes, node: str) -> None:
    """A pod of a higher priority needs its GPUs, and stays."""
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}, "value": 1000}
    container = {
        "name": "x",
        "image": "x",
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "priorityClassName": "urgent",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [container],
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    meta = {"name": "urgent", "namespace": release.namespace}
    release.platform.apply(priority, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    wait_for("it runs", lambda: release.get("pod", "urgent")["status"]["phase"] == "Running", 60)


@pytest.mark.soak
@pytest.mark.parametrize("take", [taint, drain, delete, preempt], ids=lambda take: take.__name__)
def test_a_worker_s_node_is_taken(
    take: Callable[..., None], controllers: Controllers, release: FakeRelease, nodes: Nodes
) -> None:
    release.install_fake({"recipe": recipe_of(release, 3, STAGE), "grpo": {"workersPerPod": 1, "workers": WHOLE_NODE}})
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    begun = time.monotonic()
    take(release, nodes, node_of_a_worker(release))
    (stage, *_) = ended(release, ["run"], 300)["run"]["phases"]
    print(json.dumps({"seconds": round(time.monotonic() - begun), "attempts": stage["attempts"]}))
    lost, last = stage["attempts"]
    assert (lost["exitCode"], last["exitCode"]) == (1, 0) and last["fromStep"] >= 2
    assert [one["step"] for one in release.steps("run")] == list(range(1, 61))
    assert controllers.reported(release.namespace, "overlap") == []


@pytest.mark.soak
def test_a_budget_keeps_the_pods_of_a_stage_from_a_drain(controllers: Controllers, release: FakeRelease, nodes: Nodes) -> None:
    """A PodDisruptionBudget of the user's; it counts all pods of the run's RayCluster."""
    spec = {"minAvailable": 4, "selector": {"matchLabels": {"visionr1.io/run": "run"}}}
    meta = {"name": "run", "namespace": release.namespace}
    release.platform.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec})
    release.install_fake({"recipe": recipe_of(release, 3, STAGE), "grpo": {"workersPerPod": 1, "workers": WHOLE_NODE}})
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    refused = nodes(
        *("drain", node_of_a_worker(release), "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=3s"),
        "--pod-selector=visionr1.io/run",
        check=False,
    )
    assert "Cannot evict pod as it would violate the pod's disruption budget" in refused
    (stage, *_) = ended(release, ["run"], 120)["run"]["phases"]
    assert stage["attemptsBegun"] == 1
    assert [one["step"] for one in release.steps("run")] == list(range(1, 61))


def test_a_stage_begins_with_the_workers_that_there_are(controllers: Controllers, release: FakeRelease, nodes: Nodes) -> None:
    """Three of four, when twelve prompts can be shared out by three; the next stage finds all."""
    nodes("cordon", "fake-3")
    release.install_fake(
        {
            "recipe": recipe_of(release, 4, STAGE, STAGE),
            "grpo": {"workersPerPod": 1, "minWorkers": 2, "workers": WHOLE_NODE},
            "deadlines": {"stopSeconds": 20, "workersSeconds": 8},
        }
    )
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    (cluster,) = release.get("rayclusters")["items"]
    assert cluster["spec"]["workerGroupSpecs"][0]["replicas"] == 3
    assert "stage-1 runs as RayJob run-stage-1-0 with 3 of 4 workers" in release.kubectl("get", "ptst", "run", "-o", "wide")
    nodes("uncordon", "fake-3")
    status = ended(release, ["run"], 120)["run"]
    first, second = [one for one in status["phases"] if one["name"].startswith("stage-")]
    assert [attempt["workers"] for attempt in (*first["attempts"], *second["attempts"])] == [3, 4]
    assert status["clustersBegun"] == 1, "the RayCluster and the pods that were ready stayed"
    assert [(one["step"], one["workers"]) for one in release.steps("run")] == [
        (step, 3 if step <= 60 else 4) for step in range(1, 121)
    ]
    assert "run-stage-1-0 begins with 3 of 4 workers" in release.kubectl("get", "events")


@pytest.mark.soak
def test_a_node_that_stays_away_costs_workers_and_not_the_run(
    controllers: Controllers, release: FakeRelease, nodes: Nodes
) -> None:
    """Its RayCluster was whole before, so KubeRay goes on to call it ready."""
    release.install_fake(
        {
            "recipe": recipe_of(release, 4, STAGE),
            "grpo": {"workersPerPod": 1, "minWorkers": 2, "workers": WHOLE_NODE},
            "deadlines": {"stopSeconds": 20, "workersSeconds": 8},
        }
    )
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    taint(release, nodes, node_of_a_worker(release))
    (stage, *_) = ended(release, ["run"], 300)["run"]["phases"]
    assert [attempt["workers"] for attempt in stage["attempts"]] == [4, 3]
    steps = release.steps("run")
    assert [one["step"] for one in steps] == list(range(1, 61)) and {one["workers"] for one in steps} == {3, 4}
