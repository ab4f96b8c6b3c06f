"""Ends an attempt: asks the driver to stop, then deletes the child, and its cluster where that is needed."""

from __future__ import annotations

from typing import Final

from ptst_operator.children import raycluster
from ptst_operator.children.state import ChildState
from ptst_operator.decide.ray_cluster import without_cluster
from ptst_operator.decide.situation import Situation
from ptst_operator.effects import AskToStop, Decision, Delete
from ptst_operator.status import AttemptStatus, Status, Stopping
from visionr1.rundir.layout import stop_key

_DRIVER_LOOK_SECONDS: Final = 2.0


def end(at: Situation, status: Status, phase: str, attempt: AttemptStatus) -> Decision:
    """Deletes the child first, and then the cluster, because a driver may outlive its RayJob."""
    child, stopping = at.child, attempt.stopping
    assert stopping is not None, "only an attempt that is being ended comes here"
    patient_until = _patient_until(at, attempt, stopping)
    if child is not None:
        return _end_child(at, status, attempt, child, patient_until)
    if not attempt.child_kind.on_ray or status.cluster is None:
        return Decision(status, tuple(Delete(raycluster.RESOURCE.kind, one.name, one.uid) for one in at.world.orphans))
    if _is_preempted(attempt) and at.cluster is not None and at.cluster.queued:
        return Decision(status)  # the queue removes its pods, and it keeps its place in the queue
    # A newer checkpoint may be an ordinary one, so it counts as the end only if the driver cannot be asked.
    committed_newer = status.of(phase).committed_step != stopping.from_step
    ended = committed_newer if at.world.driver_ended is None else at.world.driver_ended
    if patient_until is not None and not ended and not status.cluster.deleting:
        return Decision(status, look_at=min(patient_until, at.now + _DRIVER_LOOK_SECONDS))
    return without_cluster(at, status)


def _patient_until(at: Situation, attempt: AttemptStatus, stopping: Stopping) -> float | None:
    """Until when the driver has time to commit its step. None if it gets no time, or the time is over."""
    if attempt.uid is None or stopping.reason not in ("Suspended", "GateBreached", "DeadlineExceeded"):
        return None
    due = stopping.since.timestamp() + at.run.spec.deadlines.stop_seconds
    return due if at.now < due else None


def _is_preempted(attempt: AttemptStatus) -> bool:
    return attempt.stopping is not None and attempt.stopping.reason == "Preempted"


def _end_child(at: Situation, status: Status, attempt: AttemptStatus, child: ChildState, patient_until: float | None) -> Decision:
    """Deletes the child. A RayJob with its own cluster is deleted only after its driver has ended, or its time is over."""
    if child.deleting:
        # A RayJob has a finalizer that only KubeRay removes. Kubernetes itself deletes the pods of a RayCluster.
        keeps = not attempt.on_shared_cluster or _is_preempted(attempt) or not at.is_late(attempt)
        return Decision(status) if keeps else without_cluster(at, status)
    trains = attempt.own_cluster and child.phase == "Running" and not child.queued
    if patient_until is not None and trains:
        return Decision(status, (AskToStop(stop_key(at.run.uid, attempt.name)),), patient_until)
    return Decision(status, (Delete(attempt.kind, attempt.name, child.uid),))
