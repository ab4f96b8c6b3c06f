"""Writes what was seen into the status. Pure. It does not decide what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ptst_operator.children.raycluster import is_whole
from ptst_operator.children.state import ChildState
from ptst_operator.status import AttemptStatus, BreachStatus, ClusterStatus, PhaseStatus, Status, moment
from ptst_operator.world import RollbackDone, RollbackRefused, World
from visionr1.errors import EXIT_STOPPED
from visionr1.rundir.committed import Committed

_NO_FAILURES: Final = ("Suspended", "Preempted", "GateBreached", "Outdated", "DidNotEnd")


def fold(status: Status, run_uid: str, world: World, now: float) -> Status:
    """The status with what `world` shows: commits, uids, the end of attempts, a cluster that has gone."""
    status = _fold_committed(status, world.committed, now)
    status = _fold_breach(status, world)
    status = _fold_cluster(status, run_uid, world, now)
    live = status.live()
    if live is None:
        return status
    phase, attempt = live
    changed = _fold_attempt(attempt, phase, run_uid, world, status, now)
    return status.with_attempt(phase.name, changed)


def _fold_committed(status: Status, committed: Mapping[str, Committed], now: float) -> Status:
    """Commits only grow: an outdated answer of the storage removes none."""
    for name, seen in committed.items():
        before = status.of(name)
        step = max((one for one in (before.committed_step, seen.step) if one is not None), default=None)
        complete = before.complete or seen.complete
        completed = before.completed or (moment(now) if complete else None)
        if (step, complete) != (before.committed_step, before.complete):
            status = status.with_phase(replace(before, committed_step=step, complete=complete, completed=completed))
    return status


def _fold_breach(status: Status, world: World) -> Status:
    """Writes down a gate that was not passed, once, and the end of its rollback. Only a rollback removes commits."""
    if status.breach is None and world.breach is not None:
        to = world.breach.to
        found = BreachStatus(
            number=status.breaches,
            stage=world.breach.stage,
            message=world.breach.message[:1024],
            rollback_phase=to.phase if to is not None else None,
            rollback_step=to.step if to is not None else None,
        )
        return replace(status, breach=found, breaches=status.breaches + 1)
    if status.breach is None:
        return status
    match world.rollback:
        case RollbackRefused(reason):
            message = f"{status.breach.message}; the rollback is not possible: {reason}"[:1024]
            stopped = replace(status.breach, message=message, rollback_phase=None, rollback_step=None)
            return replace(status, breach=stopped)
        case RollbackDone(committed):
            return _rolled_back(status, status.breach, committed)
        case _:
            return status


def _rolled_back(status: Status, breach: BreachStatus, committed: Mapping[str, Committed]) -> Status:
    """The status with what is left of each phase after a rollback. Numbers of deleted steps are removed."""
    for name, seen in committed.items():
        before = status.of(name)
        if any(one.name == name for one in status.phases):
            went_back = replace(
                before,
                committed_step=seen.step,
                complete=seen.complete,
                completed=before.completed if seen.complete else None,
                count_from=before.attempts_begun,
                taken_back=before.attempts_begun if seen.step is None else before.taken_back,
                past_gates=False,
            )
            status = status.with_phase(went_back)
    return replace(
        status,
        breach=replace(breach, rolled_back=True),
        step=None,
        reward=None,
        length=None,
        tokens_per_second_per_gpu=None,
        truncated=None,
        kl=None,
    )


def _fold_cluster(status: Status, run_uid: str, world: World, now: float) -> Status:
    cluster = status.cluster
    if cluster is None:
        return status
    seen = world.cluster
    if seen is not None and seen.run_uid == run_uid:
        if cluster.uid is None:
            cluster = replace(cluster, uid=seen.uid)
        if seen.deleting or seen.uid != cluster.uid:
            cluster = replace(cluster, deleting=True)
        pending = None if is_whole(seen, world.worker_pods) or seen.queued else cluster.pending_since or moment(now)
        cluster = replace(cluster, pending_since=pending)
        return replace(status, cluster=cluster)
    if seen is not None:
        return _without_name(status, cluster)
    if world.cluster_pods:
        return replace(status, cluster=replace(cluster, deleting=True))
    if cluster.uid is not None or cluster.deleting:
        return replace(status, cluster=None)
    return status


def _without_name(status: Status, cluster: ClusterStatus) -> Status:
    """Somebody else has a RayCluster of this name. Ours is gone, or was never made: then the next one gets another name."""
    if cluster.uid is not None:
        return replace(status, cluster=replace(cluster, deleting=True))
    return replace(status, cluster=None) if cluster.deleting else status


def _fold_attempt(
    attempt: AttemptStatus, phase: PhaseStatus, run_uid: str, world: World, status: Status, now: float
) -> AttemptStatus:
    child = world.child if world.child is not None and world.child.run_uid == run_uid else None
    cluster = world.cluster if world.cluster is not None and world.cluster.run_uid == run_uid else None
    if attempt.on_shared_cluster and cluster is not None and cluster.queued:
        # Checked before its child: a driver that loses its pods to another run has not failed.
        attempt = attempt.to_be_ended("Preempted", "its queue took the RayCluster back", phase.committed_step, now)
    if world.answered_at is not None:
        attempt = replace(attempt, answered_at=world.answered_at)
    if child is not None:
        attempt = _fold_child(attempt, child, phase.committed_step, now)
        attempt = _fold_kept_pods(attempt, world, phase.committed_step, now)
        if attempt.stopping is None and child.over and not child.deleting and not world.leftover:
            code = child.exit_code if child.exit_code is not None else world.pod_exit_code
            if child.phase == "Succeeded":
                return _ended(attempt, phase, _ending(child), 0, now)
            by_node = f"; {world.ended_by_node.message}" if world.ended_by_node is not None else ""
            return _ended(attempt, phase, f"{_ending(child)}{by_node}", code, now)
    elif attempt.uid is not None or world.leftover:
        attempt = attempt.to_be_ended("ChildLost", f"{attempt.kind} {attempt.name} is gone", phase.committed_step, now)
    if attempt.on_shared_cluster and (status.cluster is None or status.cluster.deleting):
        attempt = attempt.to_be_ended("ClusterLost", "the RayCluster is gone", phase.committed_step, now)
    at_rest = _at_rest(attempt, status) or (cluster is not None and cluster.empty)
    if attempt.stopping is not None and child is None and not world.leftover and at_rest:
        code = EXIT_STOPPED if attempt.stopping.reason in _NO_FAILURES else None
        code = code if attempt.exit_code is None else attempt.exit_code
        return _ended(attempt, phase, attempt.stopping.message or attempt.stopping.reason, code, now)
    return attempt


def _fold_child(attempt: AttemptStatus, child: ChildState, committed_step: int | None, now: float) -> AttemptStatus:
    if child.queued and attempt.own_cluster and attempt.uid is not None and not attempt.queued:
        # KubeRay starts it again when the queue lets it in, although its old driver has only been asked to end by then.
        attempt = attempt.to_be_ended("Preempted", f"its queue took {attempt.kind} {attempt.name} back", committed_step, now)
    if attempt.uid is None:
        attempt = replace(attempt, uid=child.uid)
    if child.queued:
        attempt = replace(attempt, queued=True, running_since=None)
    elif attempt.queued:
        attempt = replace(attempt, queued=False, admitted=moment(now))
    if child.phase == "Running" and not child.queued and attempt.running_since is None:
        attempt = replace(attempt, running_since=moment(now))
    if child.uid != attempt.uid or child.deleting:
        return attempt.to_be_ended("ChildLost", f"{attempt.kind} {attempt.name} was deleted", committed_step, now)
    if child.phase == "Failed" and not child.quiet:
        # KubeRay gave it up, but its driver may go on. Only the end of the cluster surely ends it.
        return attempt.to_be_ended("ChildUnclear", f"{_ending(child)}; its driver may still run", committed_step, now)
    return attempt


def _fold_kept_pods(attempt: AttemptStatus, world: World, committed_step: int | None, now: float) -> AttemptStatus:
    """Ends an attempt that has failed while other containers keep its pods, and so its job, running. One that has not waits."""
    if not world.kept_by or not world.pod_exit_code or attempt.stopping is not None:
        return attempt
    why = f"it ended with exit code {world.pod_exit_code}, but its pods run on with {', '.join(world.kept_by)}"
    ending = attempt.to_be_ended("DidNotEnd", why[:1024], committed_step, now)
    return replace(ending, exit_code=world.pod_exit_code)  # its pods, which have the code, are deleted now


def _at_rest(attempt: AttemptStatus, status: Status) -> bool:
    """Whether nothing of an attempt can run any more after its child is gone. A driver lives on in a shared cluster.

    This is true also of a child that nobody has seen: it may have been created, started and deleted by hand.
    """
    return not attempt.on_shared_cluster or status.cluster is None


def _ended(attempt: AttemptStatus, phase: PhaseStatus, reason: str, code: int | None, now: float) -> AttemptStatus:
    return replace(attempt, ended=moment(now), to_step=phase.committed_step, exit_code=code, reason=reason[:1024])


def _ending(child: ChildState) -> str:
    return f"{child.reason}: {child.message}" if child.message else child.reason
