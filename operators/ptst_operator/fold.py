"""What was seen, written into the status: pure. It never decides what to do next."""

from __future__ import annotations

from collections.abc import Mapping

from ptst_operator.children.phase import Child
from ptst_operator.status import AttemptStatus, BreachStatus, PhaseStatus, Status, Stopping, StopReason, moment
from ptst_operator.world import World
from visionr1.errors import EXIT_STOPPED
from visionr1.rundir.committed import Committed


def fold(status: Status, run_uid: str, world: World, now: float) -> Status:
    """The status with what `world` shows: commits, uids, the end of attempts, a cluster that has gone."""
    status = _fold_committed(status, world.committed, now)
    status = _fold_breach(status, world, now)
    status = _fold_cluster(status, run_uid, world, now)
    live = status.live()
    if live is None:
        return status
    phase, attempt = live
    changed = _fold_attempt(attempt, phase, run_uid, world, status, now)
    return with_attempt(status, phase.name, changed)


def with_attempt(status: Status, phase: str, attempt: AttemptStatus) -> Status:
    """The status with the newest attempt of a phase replaced."""
    before = status.of(phase)
    return status.with_phase(before.model_copy(update={"attempts": [*before.attempts[:-1], attempt]}))


def stopped_for(attempt: AttemptStatus, reason: StopReason, message: str, from_step: int | None, now: float) -> AttemptStatus:
    """The attempt, to be ended by the operator; the first reason stays."""
    if attempt.stopping is not None:
        return attempt
    stopping = Stopping(reason=reason, message=message, since=moment(now), from_step=from_step)
    return attempt.model_copy(update={"stopping": stopping})


def _fold_committed(status: Status, committed: Mapping[str, Committed], now: float) -> Status:
    """Commits only add up: an old answer of the storage takes nothing back."""
    for name, seen in committed.items():
        before = status.of(name)
        step = max((one for one in (before.committed_step, seen.step) if one is not None), default=None)
        complete = before.complete or seen.complete
        update = {
            "committed_step": step,
            "complete": complete,
            "completed": before.completed or (moment(now) if complete else None),
        }
        if (step, complete) != (before.committed_step, before.complete):
            status = status.with_phase(before.model_copy(update=update))
    return status


def _fold_breach(status: Status, world: World, now: float) -> Status:
    """A gate that was breached, once; and the end of its rollback, the only thing that takes commits back."""
    if status.breach is None and world.breach is not None:
        to = world.breach.to
        found = BreachStatus(
            number=status.breaches,
            stage=world.breach.stage,
            message=world.breach.message[:1024],
            rollback_phase=to.phase if to is not None else None,
            rollback_step=to.step if to is not None else None,
        )
        return status.model_copy(update={"breach": found, "breaches": status.breaches + 1})
    breach = status.breach
    if breach is not None and world.rollback_refusal is not None:
        told = f"{breach.message}; it cannot be rolled back: {world.rollback_refusal}"[:1024]
        stopped = breach.model_copy(update={"message": told, "rollback_phase": None, "rollback_step": None})
        return status.model_copy(update={"breach": stopped})
    if breach is None or world.rolled_back is None:
        return status
    for name, seen in world.rolled_back.items():
        before = status.of(name)
        update = {
            "committed_step": seen.step,
            "complete": seen.complete,
            "completed": before.completed if seen.complete else None,
            "count_from": before.attempts_begun,
            "taken_back": before.attempts_begun if seen.step is None else before.taken_back,
            "past_gates": False,
        }
        known = any(one.name == name for one in status.phases)
        status = status.with_phase(before.model_copy(update=update)) if known else status
    numbers = dict.fromkeys(("step", "reward", "length", "tokens_per_second_per_gpu", "truncated", "kl"))
    return status.model_copy(update={"breach": breach.model_copy(update={"rolled_back": True}), **numbers})


def _fold_cluster(status: Status, run_uid: str, world: World, now: float) -> Status:
    cluster = status.cluster
    if cluster is None:
        return status
    seen = world.cluster
    if seen is not None and seen.run_uid == run_uid:
        if cluster.uid is None:
            cluster = cluster.model_copy(update={"uid": seen.uid})
        if seen.deleting or seen.uid != cluster.uid:
            cluster = cluster.model_copy(update={"deleting": True})
        pending = None if seen.ready or seen.queued else cluster.pending_since or moment(now)
        cluster = cluster.model_copy(update={"pending_since": pending})
        return status.model_copy(update={"cluster": cluster})
    if seen is None and (cluster.uid is not None or cluster.deleting):
        return status.model_copy(update={"cluster": None})
    return status


def _fold_attempt(
    attempt: AttemptStatus, phase: PhaseStatus, run_uid: str, world: World, status: Status, now: float
) -> AttemptStatus:
    child = world.child if world.child is not None and world.child.run_uid == run_uid else None
    cluster = world.cluster if world.cluster is not None and world.cluster.run_uid == run_uid else None
    if _on_shared_cluster(attempt) and cluster is not None and cluster.queued:
        # Before its child is looked at: a driver that loses its pods to another run has not failed.
        attempt = stopped_for(attempt, "Preempted", "its queue takes the RayCluster back", phase.committed_step, now)
    if child is not None:
        attempt = _fold_child(attempt, child, phase.committed_step, now)
        if attempt.stopping is None and child.phase in ("Succeeded", "Failed") and not child.deleting and not world.leftover:
            code = child.exit_code if child.exit_code is not None else world.pod_exit_code
            return _ended(attempt, phase, _said(child), 0 if child.phase == "Succeeded" else code, now)
    elif attempt.uid is not None:
        attempt = stopped_for(attempt, "ChildLost", f"{attempt.kind} {attempt.name} is gone", phase.committed_step, now)
    if _on_shared_cluster(attempt) and (status.cluster is None or status.cluster.deleting):
        attempt = stopped_for(attempt, "ClusterLost", "the RayCluster is gone", phase.committed_step, now)
    at_rest = _at_rest(attempt, status) or (cluster is not None and cluster.empty)
    if attempt.stopping is not None and child is None and not world.leftover and at_rest:
        code = EXIT_STOPPED if attempt.stopping.reason in ("Suspended", "Preempted", "GateBreached") else None
        return _ended(attempt, phase, attempt.stopping.message or attempt.stopping.reason, code, now)
    return attempt


def _fold_child(attempt: AttemptStatus, child: Child, committed_step: int | None, now: float) -> AttemptStatus:
    if child.queued and attempt.own_cluster and attempt.uid is not None and not attempt.queued:
        # KubeRay starts it again once it is let in again, though its old driver has until then only been asked to end.
        attempt = stopped_for(attempt, "Preempted", f"its queue takes {attempt.kind} {attempt.name} back", committed_step, now)
    if attempt.uid is None:
        attempt = attempt.model_copy(update={"uid": child.uid})
    if child.queued:
        attempt = attempt.model_copy(update={"queued": True, "running_since": None})
    elif attempt.queued:
        attempt = attempt.model_copy(update={"queued": False, "admitted": moment(now)})
    if child.phase == "Running" and not child.queued and attempt.running_since is None:
        attempt = attempt.model_copy(update={"running_since": moment(now)})
    if child.uid != attempt.uid or child.deleting:
        return stopped_for(attempt, "ChildLost", f"{attempt.kind} {attempt.name} was deleted", committed_step, now)
    if child.phase == "Failed" and not child.quiet:
        # KubeRay gave it up, but its driver may go on: only the end of the cluster ends it for certain.
        return stopped_for(attempt, "ChildUnclear", f"{_said(child)}; its driver may still run", committed_step, now)
    return attempt


def _at_rest(attempt: AttemptStatus, status: Status) -> bool:
    """Whether nothing of an attempt whose child is gone can run: a driver lives on in the shared cluster.

    Also that of a child which nobody has seen: it may have been made, begun and deleted by hand meanwhile.
    """
    return not _on_shared_cluster(attempt) or status.cluster is None


def _on_shared_cluster(attempt: AttemptStatus) -> bool:
    return attempt.kind == "RayJob" and not attempt.own_cluster


def _ended(attempt: AttemptStatus, phase: PhaseStatus, reason: str, code: int | None, now: float) -> AttemptStatus:
    end = {"ended": moment(now), "to_step": phase.committed_step, "exit_code": code, "reason": reason[:1024]}
    return attempt.model_copy(update=end)


def _said(child: Child) -> str:
    return f"{child.reason}: {child.message}" if child.message else child.reason
