"""The worker pods of RayClusters in memory, as KubeRay makes and deletes them, and what must hold of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ptst_operator.status import AttemptStatus, Status

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

RayClusters = list[tuple[str, dict[str, Any]]]
"""Names and manifests."""


@dataclass
class FakeWorkers:
    """`pods` has the worker pods of each RayCluster, with whether they are ready; `begun` the attempts that were checked."""

    pods: dict[str, dict[str, bool]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def scale(self, clusters: RayClusters) -> None:
        """KubeRay makes and deletes pods: those that it is told to, then any."""
        for name, one in clusters:
            (group,) = one["spec"]["workerGroupSpecs"]
            there = self.pods.setdefault(name, {})
            for gone in group.get("scaleStrategy", {}).get("workersToDelete", []):
                there.pop(gone, None)
            while len(there) > group["replicas"]:
                there.pop(next(iter(there)))
            while len(there) < group["replicas"]:
                there[f"{name}-workers-{next(self._numbers)}"] = False
            status = one.setdefault("status", {})
            status |= {"desiredWorkerReplicas": group["replicas"], "readyWorkerReplicas": sum(there.values())}
            if there and all(there.values()):
                status["state"] = "ready"  # which stays when a pod is lost

    def come(self, clusters: RayClusters, most: int | None = None) -> None:
        """There are nodes for all pods of each RayCluster, or for so many."""
        self.scale(clusters)
        for name, _ in clusters:
            for pod in list(self.pods[name])[:most]:
                self.pods[name][pod] = True
        self.scale(clusters)

    def node_comes(self, name: str) -> None:
        """There is a node for one more pod of this RayCluster."""
        waiting = [pod for pod, ready in self.pods.get(name, {}).items() if not ready]
        if waiting:
            self.pods[name][waiting[0]] = True

    def node_goes(self, name: str) -> None:
        """The node of a pod vanishes, and the pod with it."""
        there = self.pods.get(name, {})
        if there:
            there.pop(next(iter(there)))

    def listed(self, name: str) -> list[dict[str, Any]]:
        """The pods of a RayCluster as the API server shows them."""
        return [_pod(pod, ready) for pod, ready in self.pods.get(name, {}).items()]


def _pod(name: str, ready: bool) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": "Running" if ready else "Pending", "conditions": conditions}
    labels = {"ray.io/node-type": "worker"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "gpu-1"}, "status": status}


def check_workers(cluster: FakeCluster, status: Status) -> bool:
    """A driver knows how many workers it has, the status says so, and nobody takes them away. Gives whether they are fewer."""
    live = status.live()
    if live is not None:
        _check_all_are_there(cluster, status, live[1])
    job = cluster.objects.get(("RayJob", live[1].name)) if live else None
    if live is None or job is None or live[1].workers is None:
        return False
    words = job["spec"]["entrypoint"].split()
    workers = cluster.decided[words[words.index("--recipe-sha256") + 1]].rollout.workers
    assert workers == live[1].workers and workers in (4, 8), f"{live[1].name} has {live[1].workers}, its driver {workers}"
    made = None if status.cluster is None else cluster.objects.get(("RayCluster", status.cluster.name))
    if made is not None and live[1].stopping is None:
        (group,) = made["spec"]["workerGroupSpecs"]
        assert group["replicas"] * 2 == workers, f"{live[1].name} trains with {workers}, KubeRay keeps {group['replicas']} pods"
    return status.cluster is not None and status.cluster.reduced_for == live[1].name


def _check_all_are_there(cluster: FakeCluster, status: Status, attempt: AttemptStatus) -> None:
    """No driver begins to wait for a worker that KubeRay has counted out. Asked once, when an attempt has just begun."""
    begins = attempt.on_shared_cluster and attempt.stopping is None and attempt.name not in cluster.workers.begun
    cluster.workers.begun.add(attempt.name)
    if begins and status.cluster is not None:
        seen = cluster.objects["RayCluster", status.cluster.name]["status"]
        short = seen["readyWorkerReplicas"] < seen["desiredWorkerReplicas"]
        assert not short, f"{attempt.name} begins without all workers: {seen}"
