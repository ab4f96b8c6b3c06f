"""Reads from the cluster: the child of the attempt that has not ended, its pods, and the RayCluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ptst_operator.api import Api, ApiError
from ptst_operator.children import raycluster
from ptst_operator.children.raycluster import Orphan, RayClusterState, WorkerPod
from ptst_operator.children.state import ChildState
from ptst_operator.children.table import CONTAINERS, sft_kinds
from ptst_operator.look.hindrance import ended_by_node, find_hindrance, with_clocks
from ptst_operator.names import ENFORCE, RUN_LABEL
from ptst_operator.run import ResolvedRun, WantedRun
from ptst_operator.status import AttemptStatus, PhaseStatus, Status
from ptst_operator.world import Hindrance
from visionr1.errors import EXIT_BAD_INPUT, EXIT_FENCED
from visionr1.recipe.phases import SFT_PHASE

_Seen = TypeVar("_Seen", ChildState, RayClusterState)


@dataclass(frozen=True)
class SeenInCluster:
    """The objects that the status names; see `World`. `head` is the address of the head pod, where the driver runs."""

    child: ChildState | None = None
    leftover: tuple[str, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    pod_exit_code: int | None = None
    ended_by_node: Hindrance | None = None
    kept_by: tuple[str, ...] = ()
    cluster: RayClusterState | None = None
    cluster_pods: tuple[str, ...] = ()
    worker_pods: tuple[WorkerPod, ...] | None = None
    hindrance: Hindrance | None = None
    head: str | None = None


def look_at_cluster(api: Api, run: ResolvedRun, status: Status, elastic: bool) -> SeenInCluster:
    """The child of the attempt that has not ended, the RayCluster of the run, and pods that may still run, as they are now.

    An object that is gone says nothing about its pods: they are looked for by their own labels.

    Args:
        elastic: whether stages may begin with fewer workers, so that the worker pods matter.
    """
    child: ChildState | None = None
    leftover: tuple[str, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    kept_by: tuple[str, ...] = ()
    code, head, by_node = None, None, None
    live = status.live()
    if live is not None:
        attempt = live[1]
        manifest = api.get(attempt.kind, attempt.name)
        child = attempt.child_kind.read(manifest) if manifest is not None else None
        mine = _ours(child, run)
        head = mine.head if mine is not None and attempt.own_cluster else None
        if _may_leave_pods(child, attempt, run) and not attempt.on_shared_cluster:
            pods = _pods(api, attempt.child_kind.pod_label, attempt.name)
            leftover, code = read_pods(pods, child.created if child is not None else "")
            by_node = ended_by_node(pods)
            orphans = _orphans(api, attempt, pods) if child is None and attempt.own_cluster else ()
        elif mine is not None and not mine.queued and attempt.child_kind.container is not None:
            pods = _pods(api, attempt.child_kind.pod_label, attempt.name)
            kept_by = read_kept_pods(pods)
            code = read_pods(pods, mine.created)[1] if kept_by else None
    elif status.cluster is None:
        leftover, _ = read_pods(_pods(api, RUN_LABEL, run.name))
    cluster_pods: tuple[str, ...] = ()
    cluster, worker_pods = None, None
    if status.cluster is not None:
        manifest = api.get(raycluster.RESOURCE.kind, status.cluster.name)
        cluster = raycluster.read(manifest) if manifest is not None else None
        ours = _ours(cluster, run)
        head = ours.head if ours is not None else None
        if cluster is None or (ours is not None and (ours.deleting or elastic)):
            pods = _pods(api, raycluster.POD_LABEL, status.cluster.name)
            cluster_pods = read_pods(pods)[0] if ours is None or ours.deleting else ()
            worker_pods = raycluster.read_worker_pods(pods) if ours is not None and elastic else None
    hindrance = _hindrance(api, status, _ours(child, run), _ours(cluster, run), worker_pods)
    return SeenInCluster(child, leftover, orphans, code, by_node, kept_by, cluster, cluster_pods, worker_pods, hindrance, head)


def _may_leave_pods(child: ChildState | None, attempt: AttemptStatus, run: ResolvedRun) -> bool:
    """Whether the pods of a child matter that are still there: it is gone, over or being deleted.

    Those of somebody else's matter only if ours was there before it: both may have pods with the same labels.
    """
    ours = _ours(child, run)
    if child is not None and ours is None:
        return attempt.uid is not None
    return ours is None or ours.deleting or ours.over


def _ours(seen: _Seen | None, run: ResolvedRun) -> _Seen | None:
    """What was seen, if it is of this run and not of another one, or nobody's, of the same name."""
    return seen if seen is not None and seen.run_uid == run.uid else None


def _orphans(api: Api, attempt: AttemptStatus, pods: list[Mapping[str, Any]]) -> tuple[Orphan, ...]:
    """The RayClusters of these pods, if they are of a RayJob that is gone."""
    names = sorted({pod["metadata"].get("labels", {}).get(raycluster.POD_LABEL, "") for pod in pods} - {""})
    found = [manifest for name in names if (manifest := api.get(raycluster.RESOURCE.kind, name)) is not None]
    return tuple(one for manifest in found if (one := raycluster.read_orphan(manifest, attempt.name)) is not None)


def _hindrance(
    api: Api,
    status: Status,
    child: ChildState | None,
    cluster: RayClusterState | None,
    worker_pods: tuple[WorkerPod, ...] | None,
) -> Hindrance | None:
    """Why the pods that the run waits for, or lacks while it runs, do not run."""
    live = status.live()
    waits = cluster is not None and not raycluster.is_whole(cluster, worker_pods) and not cluster.deleting
    if cluster is not None and status.cluster is not None and waits:
        name, kind, reported = status.cluster.name, raycluster.RESOURCE.kind, cluster.reported
        label, created = raycluster.POD_LABEL, cluster.created
    elif live is not None and child is not None and not live[1].on_shared_cluster and _lacks_pods(api, live, child):
        name, kind, reported = live[1].name, live[1].kind, child.reported
        label, created = live[1].child_kind.pod_label, child.created
    else:
        return None
    pods = _pods(api, label, name)
    try:
        events = api.list("Event", fields="type=Warning")["items"]
    except ApiError as error:
        if error.status != 403:  # a role that a cluster's administrator has written may not have it
            raise
        events = []
    # Kueue's Workload has the kind before the name, and KubeRay's PodGroup for Volcano has its own name.
    names = (name, f"{kind.lower()}-{name}", f"ray-{name}-pg")
    return find_hindrance(names, created, reported, pods, events)


def _lacks_pods(api: Api, live: tuple[PhaseStatus, AttemptStatus], child: ChildState) -> bool:
    """Whether a child may lack pods. A PyTorchJob runs as soon as one of its pods does, a RayJob also when it has lost some."""
    phase, attempt = live
    if child.deleting or child.phase != "Running":
        return not child.deleting and child.phase == "Pending"
    if attempt.own_cluster:
        return _lacks_pods_of_ray(api, child)
    return phase.name == SFT_PHASE and phase.committed_step == attempt.from_step


def _lacks_pods_of_ray(api: Api, child: ChildState) -> bool:
    """Asks the RayCluster itself: KubeRay no longer copies its status into the RayJob when the head is lost."""
    manifest = api.get(raycluster.RESOURCE.kind, child.ray_cluster) if child.ray_cluster else None
    cluster = raycluster.read(manifest) if manifest is not None else None
    return cluster is not None and not (cluster.ready or cluster.queued or cluster.deleting)


def _pods(api: Api, label: str, value: str) -> list[Mapping[str, Any]]:
    pods: list[Mapping[str, Any]] = api.list("Pod", f"{label}={value}")["items"]
    return pods


def find_sft_kind(api: Api, wanted: WantedRun) -> str | None:
    """The first kind that the run may use for SFT and the API server has."""
    return next((kind.name for kind in sft_kinds(wanted.run.spec.sft.backend) if api.serves(kind.name)), None)


def enforces_restricted(api: Api) -> bool | None:
    """Whether the API server refuses pods with more rights than the *restricted* profile allows. None if it is not known."""
    try:
        labels = api.namespace_labels()
    except ApiError as error:
        if error.status != 403:  # a role that a cluster's administrator has written may not have it
            raise
        return None
    return labels.get(ENFORCE) == "restricted"


def read_pods(pods: list[Mapping[str, Any]], created: str = "") -> tuple[tuple[str, ...], int | None]:
    """Those of these pods that may run, in words, and the job's exit code: 4 or 64 if a pod has it, else any failure, else 0.

    Pods that are older than the job, which was made at `created`, have outlived another of its name and say nothing about it.
    A pod that is being deleted, or whose node is cut off, may run. A pod whose run another attempt has taken over (4) may make
    the others fail in any way.
    """
    leftover = tuple(_named(pod) for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"))
    since = with_clocks(created)
    codes = [
        container["state"]["terminated"]["exitCode"]
        for pod in pods
        if str(pod["metadata"].get("creationTimestamp", created)) >= since
        for container in pod.get("status", {}).get("containerStatuses", [])
        if container["name"] in CONTAINERS and "terminated" in container.get("state", {})
    ]
    for told in (EXIT_FENCED, EXIT_BAD_INPUT):
        if told in codes:
            return leftover, told
    return leftover, next((code for code in codes if code), 0 if codes else None)


def read_kept_pods(pods: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """Containers that alone keep these pods running, in words. None as long as a container of the phase runs, or may still start.

    A proxy that an admission webhook has added does not end with the phase, and the job's own status does not say so.
    """
    kept = []
    for pod in pods:
        statuses = pod.get("status", {}).get("containerStatuses", [])
        running = [one["name"] for one in statuses if "terminated" not in one.get("state", {})]
        if all(one["name"] not in CONTAINERS for one in statuses) or CONTAINERS.intersection(running):
            return ()
        kept += [f"container {name} of {_named(pod)}" for name in running]
    return tuple(kept)


def _named(pod: Mapping[str, Any]) -> str:
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName")
    return f"pod {name} on node {node}" if node else f"pod {name}"
