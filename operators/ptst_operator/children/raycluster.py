"""The RayCluster of the stages: one that stays through all of them, so that the GPUs are not given back, or one an attempt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ptst_operator.children.kind import ApiResource
from ptst_operator.children.pods import metadata, metrics_ports, template
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun

RESOURCE: Final = ApiResource("RayCluster", "ray.io/v1", "rayclusters")
RAY_VERSION: Final = "2.60.0"
CONTAINER: Final = "ray"
_ENV: Final = {"RAY_USAGE_STATS_ENABLED": "0"}
_PORTS: Final = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
"""KubeRay gives a pod these only if it has no port of its own; the head's Service is made from them."""

_HEALTH: Final = {
    # What KubeRay 1.6 asks of Ray from 2.53 on: the node's raylet and, on the head, the GCS; no token is needed.
    "httpGet": {"path": "/api/healthz", "port": 52365},
    "timeoutSeconds": 5,
    "periodSeconds": 5,
    # Else the kubelet waits for the pod's own time, which is for a checkpoint that nobody can commit any more.
    "terminationGracePeriodSeconds": 10,
}
_PROBES: Final = {
    # KubeRay's own livenessProbe lets a node without its raylet stand for ten minutes, which only a start may take.
    "startupProbe": {**_HEALTH, "failureThreshold": 120},
    "livenessProbe": {**_HEALTH, "failureThreshold": 12},
}


@dataclass(frozen=True)
class RayClusterState:
    """What a RayCluster says of itself.

    Attributes:
        head: address of its head pod.
        queued: whether its queue has not let it in, or takes it back.
        empty: whether it was suspended and none of its pods is left from before.
    """

    uid: str
    run_uid: str
    ready: bool
    head: str | None = None
    deleting: bool = False
    queued: bool = False
    empty: bool = False


def build(run: ResolvedRun, name: str) -> Manifest:
    """The cluster that stays through the stages."""
    return {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata(run, name, "grpo", "cluster"),
        "spec": cluster_spec(run),
    }


def fingerprint(manifest: Manifest) -> str:
    """A short hash of what a cluster is made from, by which a later wish for another one is seen."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def cluster_spec(run: ResolvedRun, pod_labels: Mapping[str, str] = {}) -> Manifest:
    """A head without work of its own, where the drivers run, and one worker pod for each `workersPerPod` actors."""
    grpo, recipe = run.spec.grpo, run.recipe
    pods = recipe.rollout.workers // grpo.workers_per_pod
    # Ray ends a driver this long after it has asked it to stop; the driver commits its step first.
    head_env = {"RAY_JOB_STOP_WAIT_TIME_S": str(run.spec.deadlines.stop_seconds)}
    head = template(run, grpo.head, "grpo", "head", CONTAINER, 0, None, {**_ENV, **head_env}, metrics_ports([0]) | _PORTS)
    worker_ports = metrics_ports(range(1, grpo.workers_per_pod + 1)) | {"metrics": _PORTS["metrics"]}
    worker = template(run, grpo.workers, "grpo", "worker", CONTAINER, grpo.workers_per_pod, None, _ENV, worker_ports)
    for pod in (head, worker):
        pod["metadata"]["labels"] |= pod_labels
        pod["spec"]["containers"][0] |= _PROBES
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": pods,
                "minReplicas": pods,
                "maxReplicas": pods,
                "rayStartParams": {} if run.gpus else {"num-cpus": str(grpo.workers_per_pod)},
                "template": worker,
            }
        ],
    }


def read(manifest: Mapping[str, Any]) -> RayClusterState:
    """Whether it is ready is what RayJobs wait for, too: `status.state`."""
    meta, status = manifest["metadata"], manifest.get("status", {})
    owner = next((one["uid"] for one in meta.get("ownerReferences", []) if one.get("controller")), "")
    # A cluster that is taken back still says ready until its pods are gone, and suspended until it is ready again.
    state, queued = status.get("state"), bool(manifest.get("spec", {}).get("suspend"))
    return RayClusterState(
        uid=meta["uid"],
        run_uid=owner,
        ready=state == "ready" and not queued,
        head=status.get("head", {}).get("podIP"),
        deleting="deletionTimestamp" in meta,
        queued=queued,
        empty=state == "suspended",
    )
