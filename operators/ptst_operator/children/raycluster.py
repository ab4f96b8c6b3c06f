"""The RayCluster of the stages. Either one cluster keeps the GPUs through all stages, or each attempt has its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ptst_operator.children.kind import ApiResource
from ptst_operator.children.pods import metadata, metrics_ports, template
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun
from ptst_operator.sizes import ray_parameters

RESOURCE: Final = ApiResource("RayCluster", "ray.io/v1", "rayclusters")
RAY_VERSION: Final = "2.60.0"
CONTAINER: Final = "ray"
POD_LABEL: Final = "ray.io/cluster"
"""KubeRay gives it to a cluster's pods, with the cluster's name as its value."""
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


_LEAVES: Final = {"preStop": {"exec": {"command": ["python", "-m", "visionr1.grpo.leave"]}}}
_AFTER_DRIVER: Final = 30
"""Seconds that the head has to stop Ray when the driver's time is over."""


@dataclass(frozen=True)
class RayClusterState:
    """The state of a RayCluster.

    Attributes:
        head: address of its head pod.
        queued: whether its queue has not let it in yet, or takes it back.
        empty: whether it is suspended and all of its pods have ended.
        reported: what KubeRay reports of pods that it could not make.
    """

    uid: str
    run_uid: str
    ready: bool
    head: str | None = None
    deleting: bool = False
    queued: bool = False
    empty: bool = False
    reported: str = ""


def build(run: ResolvedRun, name: str) -> Manifest:
    """The cluster that stays through the stages."""
    return {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata(run, name, "grpo", "cluster"),
        "spec": cluster_spec(run),
    }


def fingerprint(manifest: Manifest) -> str:
    """A short hash of a cluster's manifest. It changes if the next attempt needs another cluster."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def cluster_spec(run: ResolvedRun, pod_labels: Mapping[str, str] = {}) -> Manifest:
    """A head pod for the drivers, without workers, and one worker pod for each `workersPerPod` actors."""
    grpo, recipe = run.spec.grpo, run.recipe
    pods = recipe.rollout.workers // grpo.workers_per_pod
    # When Ray stops a driver, it waits this long before it kills it. The driver commits its step in this time.
    head_env = {"RAY_JOB_STOP_WAIT_TIME_S": str(run.spec.deadlines.stop_seconds)}
    head = template(run, "grpo", "head", CONTAINER, None, {**_ENV, **head_env}, metrics_ports([0]) | _PORTS)
    worker_ports = metrics_ports(range(1, grpo.workers_per_pod + 1)) | {"metrics": _PORTS["metrics"]}
    worker = template(run, "grpo", "worker", CONTAINER, None, _ENV, worker_ports)
    for pod in (head, worker):
        pod["metadata"]["labels"] |= pod_labels
        pod["spec"]["containers"][0] |= {**_PROBES, "lifecycle": _LEAVES}
    # Workers end as soon as their driver has; the head must not end before it.
    head["spec"]["terminationGracePeriodSeconds"] += _AFTER_DRIVER
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": _started_with(run, "head", head), "template": head},
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": pods,
                "minReplicas": pods,
                "maxReplicas": pods,
                "rayStartParams": _started_with(run, "worker", worker),
                "template": worker,
            }
        ],
    }


def _started_with(run: ResolvedRun, role: Literal["head", "worker"], pod: Manifest) -> dict[str, str]:
    return ray_parameters(run.spec, run.recipe, role, pod["spec"]["containers"][0]["resources"])


def read(manifest: Mapping[str, Any]) -> RayClusterState:
    """Its state. `status.state` says whether it is ready; KubeRay's RayJobs wait for the same value."""
    meta, status = manifest["metadata"], manifest.get("status", {})
    owner = next((one["uid"] for one in meta.get("ownerReferences", []) if one.get("controller")), "")
    # If a queue takes the cluster back, `state` stays ready until the pods are gone, and suspended until it is ready again.
    state, queued = status.get("state"), bool(manifest.get("spec", {}).get("suspend"))
    return RayClusterState(
        uid=meta["uid"],
        run_uid=owner,
        ready=state == "ready" and not queued,
        head=status.get("head", {}).get("podIP"),
        deleting="deletionTimestamp" in meta,
        queued=queued,
        empty=state == "suspended",
        reported=refused_pods(status),
    )


def refused_pods(status: Mapping[str, Any]) -> str:
    """What KubeRay reports in a RayCluster's status of pods that it could not make. It removes this when it could."""
    for one in status.get("conditions", []):
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return str(one.get("message") or one.get("reason", ""))
    return str(status.get("reason", ""))
