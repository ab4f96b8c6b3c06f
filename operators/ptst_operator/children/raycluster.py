"""The RayCluster of the stages, which one cluster has through all stages or each attempt by itself, and the cold start's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ptst_operator.children.kind import ApiResource
from ptst_operator.children.pods import metadata, metrics_ports, template
from ptst_operator.names import ATTEMPT_LABEL, Manifest
from ptst_operator.run import ResolvedRun
from ptst_operator.sizes import Role, ray_parameters
from visionr1.recipe.phases import COLDSTART_PHASE

RESOURCE: Final = ApiResource("RayCluster", "ray.io/v1", "rayclusters")
RAY_VERSION: Final = "2.60.0"
CONTAINER: Final = "ray"
POD_LABEL: Final = "ray.io/cluster"
"""KubeRay gives it to a cluster's pods, with the cluster's name as its value."""
_NODE_TYPE: Final = "ray.io/node-type"
"""KubeRay gives it to them, too: head or worker."""
_ENV: Final = {"RAY_USAGE_STATS_ENABLED": "0"}
_PORTS: Final = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
"""KubeRay adds these only to a pod without any ports. The head's Service is made from them."""

_HEALTH: Final = {
    # The address that KubeRay 1.6 uses with Ray 2.53 or newer. It checks the raylet and, on the head, the GCS. It needs no token.
    "httpGet": {"path": "/api/healthz", "port": 52365},
    "timeoutSeconds": 5,
    "periodSeconds": 5,
    # Otherwise the kubelet would wait for the pod's grace period, but this pod cannot commit a checkpoint any more.
    "terminationGracePeriodSeconds": 10,
}
_PROBES: Final = {
    # KubeRay's own livenessProbe waits ten minutes before it ends a node without a raylet. Only a start may take that long.
    "startupProbe": {**_HEALTH, "failureThreshold": 120},
    "livenessProbe": {**_HEALTH, "failureThreshold": 12},
}


_WITHOUT_COMMIT: Final = 30
"""Grace period of a pod that has nothing to commit."""
_AFTER_DRIVER: Final = 30
"""Seconds that the head has to stop Ray when the driver's time is over."""


@dataclass(frozen=True)
class _Group:
    """Worker pods of one kind.

    Attributes:
        served: actors of a pod that serve metrics.
        commits: whether it has a part in the driver's commit. If not, the driver goes on when it ends.
    """

    name: str
    role: Role
    pods: int
    served: int
    commits: bool


@dataclass(frozen=True)
class RayClusterState:
    """The state of a RayCluster.

    Attributes:
        ready: whether all of its pods are, by KubeRay's count.
        head: address of its head pod.
        queued: whether its queue has not let it in yet, or takes it back.
        empty: whether it is suspended and all of its pods have ended.
        reported: what KubeRay reports of pods that it could not make.
        pods: number of worker pods that it asks for.
        created: when it was made, by the API server's clock, in RFC 3339.
    """

    uid: str
    run_uid: str
    ready: bool
    head: str | None = None
    deleting: bool = False
    queued: bool = False
    empty: bool = False
    reported: str = ""
    pods: int = 0
    created: str = ""


@dataclass(frozen=True)
class WorkerPod:
    """A worker pod of a RayCluster. `ready`: Ray's node in it can be used, and it is not being deleted."""

    name: str
    ready: bool


@dataclass(frozen=True)
class Orphan:
    """A RayCluster whose RayJob was deleted without it (`--cascade=orphan`). It keeps its pods and their GPUs."""

    name: str
    uid: str


def build(run: ResolvedRun, name: str) -> Manifest:
    """The cluster that stays through the stages."""
    return {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata(run, name, "grpo", "cluster"),
        "spec": cluster_spec(run),
    }


def scaled(manifest: Manifest, pods: int, there: Sequence[WorkerPod]) -> Manifest:
    """The cluster with another number of worker pods. Ready ones stay.

    KubeRay deletes the pods that `workersToDelete` names. Without it, KubeRay deletes any of them, also ready ones.
    """
    (group,) = manifest["spec"]["workerGroupSpecs"]
    surplus = [pod.name for pod in sorted(there, key=lambda pod: (not pod.ready, pod.name))[pods:]]
    strategy = {"scaleStrategy": {"workersToDelete": surplus}} if surplus else {}
    changed = {**group, "replicas": pods, "minReplicas": pods, "maxReplicas": pods, **strategy}
    return {**manifest, "spec": {**manifest["spec"], "workerGroupSpecs": [changed]}}


def fingerprint(manifest: Manifest) -> str:
    """A short hash of a cluster's manifest. It changes if the next attempt needs another cluster."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def cluster_spec(run: ResolvedRun, pod_labels: Mapping[str, str] = {}) -> Manifest:
    """A head pod for the drivers, without workers, and one worker pod for each `workersPerPod` actors."""
    each = run.spec.grpo.workers_per_pod
    group = _Group("workers", "worker", run.recipe.rollout.workers // each, served=each, commits=True)
    return _spec(run, "grpo", "head", [group], pod_labels)


def teachers_spec(run: ResolvedRun, pod_labels: Mapping[str, str]) -> Manifest:
    """A head pod for the cold start, and a pod for each worker of a teacher."""
    coldstart = run.recipe.coldstart
    assert coldstart is not None, "only a recipe with a coldstart section has the phase"
    groups = [_Group(name, name, workers.count, served=0, commits=False) for name, (_, workers) in coldstart.in_job.items()]
    return _spec(run, COLDSTART_PHASE, "coldstart", groups, pod_labels)


def _spec(run: ResolvedRun, phase: str, head_role: Role, groups: Sequence[_Group], pod_labels: Mapping[str, str]) -> Manifest:
    # When Ray stops a driver, it waits this long before it kills it. The driver commits its step in this time.
    head_env = {"RAY_JOB_STOP_WAIT_TIME_S": str(run.spec.deadlines.stop_seconds)}
    head = template(run, phase, head_role, CONTAINER, None, {**_ENV, **head_env}, metrics_ports([0]) | _PORTS)
    workers = []
    for group in groups:
        ports = metrics_ports(range(1, group.served + 1)) | {"metrics": _PORTS["metrics"]}
        workers.append(template(run, phase, group.role, CONTAINER, None, _ENV, ports))
    for pod, place, commits in (
        (head, "head", True),
        *((worker, "worker", group.commits) for group, worker in zip(groups, workers, strict=True)),
    ):
        pod["metadata"]["labels"] |= pod_labels
        # KubeRay's shells, around Ray and before it while a worker waits for its head, have no handler for SIGTERM. The first
        # process of a PID namespace ignores a signal without a handler: the pod would hold its GPUs for all of its grace period.
        pod["spec"]["shareProcessNamespace"] = True
        pod["spec"]["containers"][0] |= {**_PROBES, "lifecycle": _leaves(place)} if commits else _PROBES
        if not commits:
            pod["spec"]["terminationGracePeriodSeconds"] = _WITHOUT_COMMIT
    # Workers end as soon as their driver has; the head must not end before it.
    head["spec"]["terminationGracePeriodSeconds"] += _AFTER_DRIVER
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": _started_with(run, head_role, head), "template": head},
        "workerGroupSpecs": [
            {
                "groupName": group.name,
                "replicas": group.pods,
                "minReplicas": group.pods,
                "maxReplicas": group.pods,
                "rayStartParams": _started_with(run, group.role, worker),
                "template": worker,
            }
            for group, worker in zip(groups, workers, strict=True)
        ],
    }


def _leaves(place: str) -> Manifest:
    return {"preStop": {"exec": {"command": ["python", "-m", "visionr1.grpo.leave", place]}}}


def _started_with(run: ResolvedRun, role: Role, pod: Manifest) -> dict[str, str]:
    return ray_parameters(run.spec, run.recipe, role, pod["spec"]["containers"][0]["resources"])


def read(manifest: Mapping[str, Any]) -> RayClusterState:
    """Its state. It is ready when `status.state` says so, which KubeRay's RayJobs wait for, too, and no pod is missing again."""
    meta, status = manifest["metadata"], manifest.get("status", {})
    owner = next((one["uid"] for one in meta.get("ownerReferences", []) if one.get("controller")), "")
    # If a queue takes the cluster back, `state` stays ready until the pods are gone, and suspended until it is ready again.
    state, queued = status.get("state"), bool(manifest.get("spec", {}).get("suspend"))
    return RayClusterState(
        uid=meta["uid"],
        run_uid=owner,
        ready=state == "ready" and not queued and _has_all_pods(status),
        head=status.get("head", {}).get("podIP"),
        deleting="deletionTimestamp" in meta,
        queued=queued,
        empty=state == "suspended",
        reported=refused_pods(status),
        created=str(meta.get("creationTimestamp", "")),
        pods=sum(group.get("replicas", 0) for group in manifest.get("spec", {}).get("workerGroupSpecs", [])),
    )


def _has_all_pods(status: Mapping[str, Any]) -> bool:
    """Whether all pods are ready now. KubeRay never takes back that `state` is ready, and leaves numbers out that are 0."""
    head = next((one["status"] for one in status.get("conditions", []) if one["type"] == "HeadPodReady"), "True")
    return head == "True" and status.get("readyWorkerReplicas", 0) >= status.get("desiredWorkerReplicas", 0)


def read_orphan(manifest: Mapping[str, Any], attempt: str) -> Orphan | None:
    """A RayCluster that was made for this attempt's RayJob alone. None if it was not, or is being deleted already.

    The labels of a pod are not enough: whoever may make a pod could choose which RayCluster is deleted.
    """
    meta = manifest["metadata"]
    head = manifest.get("spec", {}).get("headGroupSpec", {}).get("template", {}).get("metadata", {})
    made_for = head.get("labels", {}).get(ATTEMPT_LABEL)
    return Orphan(meta["name"], meta["uid"]) if made_for == attempt and "deletionTimestamp" not in meta else None


def is_whole(cluster: RayClusterState, there: Sequence[WorkerPod] | None) -> bool:
    """Whether all pods are ready.

    KubeRay may not have counted yet what was lost or asked for a moment ago; a list of the worker pods shows it.
    """
    return cluster.ready and (there is None or sum(pod.ready for pod in there) >= cluster.pods)


def read_worker_pods(pods: Iterable[Mapping[str, Any]]) -> tuple[WorkerPod, ...]:
    """The worker pods among the pods of a RayCluster."""
    return tuple(
        WorkerPod(pod["metadata"]["name"], _is_ready(pod))
        for pod in pods
        if pod["metadata"].get("labels", {}).get(_NODE_TYPE) == "worker"
    )


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def refused_pods(status: Mapping[str, Any]) -> str:
    """What KubeRay reports in a RayCluster's status of pods that it could not make. It removes this when it could."""
    for one in status.get("conditions", []):
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return str(one.get("message") or one.get("reason", ""))
    return str(status.get("reason", ""))
