"""Deadlines of attempts and of the RayCluster, in unix seconds. Time in a queue does not count."""

from __future__ import annotations

from ptst_operator.decide.situation import Situation
from ptst_operator.spec import Deadlines
from ptst_operator.status import AttemptStatus, ClusterStatus, PhaseStatus


def next_deadline(at: Situation, phase: PhaseStatus) -> float | None:
    """The next deadline of the phase's newest attempt. None if it has none now."""
    if phase.complete:
        return _end_due(at.run.spec.deadlines, phase)
    return min((due for due, _ in _deadlines(at.run.spec.deadlines, phase.attempts[-1])), default=None)


def held_to_deadlines(at: Situation, phase: PhaseStatus) -> AttemptStatus:
    """The phase's newest attempt, marked to be ended if a deadline has passed.

    An attempt whose work is done has time to end, and then only holds GPUs: its process hangs at its end, or another container
    keeps its pods running.
    """
    limits, attempt, step = at.run.spec.deadlines, phase.attempts[-1], phase.committed_step
    if phase.complete:
        due = _end_due(limits, phase)
        why = f"{phase.name} is done, but {attempt.kind} {attempt.name} did not end within deadlines.stopSeconds"
        late = due is not None and at.now >= due
        return attempt.to_be_ended("DidNotEnd", f"{why} ({limits.stop_seconds} s)", step, at.now) if late else attempt
    for due, limit in _deadlines(limits, attempt):
        if at.now >= due:
            return attempt.to_be_ended("DeadlineExceeded", f"it took longer than {limit}", step, at.now)
    return attempt


def _end_due(limits: Deadlines, phase: PhaseStatus) -> float | None:
    """When the attempt at a phase that is done must have ended. None in a status that does not say since when it is."""
    return None if phase.completed is None else phase.completed.timestamp() + limits.stop_seconds


def cluster_deadline(at: Situation, cluster: ClusterStatus) -> float | None:
    """When the operator gives up a RayCluster that is not ready. None if it is ready, or if there is no limit."""
    limit = at.run.spec.deadlines.pending_seconds
    return None if limit is None or cluster.pending_since is None else cluster.pending_since.timestamp() + limit


def pending_limit(limits: Deadlines) -> str:
    """The limit for an attempt or RayCluster that does not run yet, as text."""
    return f"deadlines.pendingSeconds ({limits.pending_seconds} s)"


def _deadlines(limits: Deadlines, attempt: AttemptStatus) -> list[tuple[float, str]]:
    """Each deadline of an attempt, with the limit that it comes from."""
    started = (attempt.admitted or attempt.started).timestamp()
    due: list[tuple[float, str]] = []
    if attempt.queued:
        return due  # the run is not to blame for the time in a queue
    if limits.pending_seconds is not None and attempt.running_since is None:
        due.append((started + limits.pending_seconds, pending_limit(limits)))
    if limits.attempt_seconds is not None:
        due.append((started + limits.attempt_seconds, f"deadlines.attemptSeconds ({limits.attempt_seconds} s)"))
    return due
