"""A stage that may begin with fewer workers than asked for: when it does, and with how many. Pure."""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.decide.situation import Situation
from ptst_operator.elastic import worker_counts
from ptst_operator.status import ClusterStatus, moment


def for_attempt(at: Situation, cluster: ClusterStatus, attempt: str) -> ClusterStatus:
    """The RayCluster as it must be for this attempt: with all workers, unless it is reduced for this very attempt."""
    reduced = cluster.reduced_for == attempt and cluster.workers in worker_counts(at.run.spec, at.run.recipe)
    return cluster if reduced else replace(cluster, workers=at.run.recipe.rollout.workers, reduced_for=None)


def asked_workers(at: Situation, cluster: ClusterStatus | None) -> int:
    """Workers that the RayCluster must ask for; as many as the recipe, where none is known."""
    return at.run.recipe.rollout.workers if cluster is None or cluster.workers is None else cluster.workers


def pods_of(at: Situation, cluster: ClusterStatus) -> int:
    """Worker pods that the RayCluster must ask for."""
    return asked_workers(at, cluster) // at.run.spec.grpo.workers_per_pod


def workers_deadline(at: Situation, cluster: ClusterStatus) -> float | None:
    """When the stage may begin with fewer workers, in unix seconds. None if it waits for all, or time does not count now."""
    if cluster.pending_since is None or len(worker_counts(at.run.spec, at.run.recipe)) == 1:
        return None
    return cluster.pending_since.timestamp() + at.run.spec.deadlines.workers_seconds


def ready_workers(at: Situation) -> int:
    """Workers of the pods that are ready."""
    return sum(pod.ready for pod in at.world.worker_pods or ()) * at.run.spec.grpo.workers_per_pod


def reduced(at: Situation, cluster: ClusterStatus, attempt: str) -> ClusterStatus | None:
    """The RayCluster, reduced for this attempt to as many ready workers as the recipe allows. None as long as the stage waits.

    From then on it has all the time again to be ready: a pod that it keeps may be lost, too.
    """
    due, ready = workers_deadline(at, cluster), ready_workers(at)
    if due is None or at.now < due or ready >= asked_workers(at, cluster):
        return None
    count = next((one for one in worker_counts(at.run.spec, at.run.recipe) if one <= ready), None)
    return None if count is None else replace(cluster, workers=count, reduced_for=attempt, pending_since=moment(at.now))
