"""Deadlines of attempts and of the RayCluster, in unix seconds. Time in a queue does not count."""

from __future__ import annotations

from ptst_operator.decide.situation import Situation
from ptst_operator.spec import Deadlines
from ptst_operator.status import AttemptStatus, ClusterStatus


def next_deadline(at: Situation, attempt: AttemptStatus) -> float | None:
    """The attempt's next deadline. None if it has none now."""
    return min((due for due, _ in _deadlines(at.run.spec.deadlines, attempt)), default=None)


def held_to_deadlines(at: Situation, attempt: AttemptStatus, committed_step: int | None) -> AttemptStatus:
    """The attempt, marked to be ended if a deadline has passed."""
    for due, limit in _deadlines(at.run.spec.deadlines, attempt):
        if at.now >= due:
            return attempt.to_be_ended("DeadlineExceeded", f"it took longer than {limit}", committed_step, at.now)
    return attempt


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
