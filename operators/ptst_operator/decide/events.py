"""Events that describe the changes between two statuses."""

from __future__ import annotations

from collections.abc import Iterator

from ptst_operator.effects import RunEvent
from ptst_operator.status import AttemptStatus, ClusterStatus, Condition, PhaseStatus, Status
from visionr1.errors import EXIT_DONE, EXIT_STOPPED


def events(before: Status, after: Status) -> list[RunEvent]:
    """What happened to the RayCluster and to the phases, in their order, and then what happened to the run."""
    found = [*_events_of_cluster(before.cluster, after.cluster)]
    for phase in after.phases:
        found += _events_of_phase(before.of(phase.name), phase)
    held = {one.type: one.status for one in before.conditions}
    for condition in after.conditions:
        if condition.status != held.get(condition.type):
            found += _events_of_condition(condition)
    return found


def _events_of_cluster(before: ClusterStatus | None, cluster: ClusterStatus | None) -> Iterator[RunEvent]:
    if before is None or cluster is None or cluster.reduced_for is None:
        return
    if (before.workers, before.reduced_for) != (cluster.workers, cluster.reduced_for):
        what = f"{cluster.reduced_for} begins with {cluster.workers} of {before.workers} workers"
        yield RunEvent("Warning", "FewerWorkers", f"{what}: the others were not ready within deadlines.workersSeconds")


def _events_of_phase(before: PhaseStatus, phase: PhaseStatus) -> Iterator[RunEvent]:
    for attempt in phase.attempts:
        old = next((one for one in before.attempts if one.number == attempt.number), None)
        yield from _events_of_attempt(phase.name, old, attempt)
    if phase.complete and not before.complete:
        yield RunEvent("Normal", "PhaseComplete", f"{phase.name} is done: its final checkpoint or output is committed")


def _events_of_attempt(phase: str, before: AttemptStatus | None, attempt: AttemptStatus) -> Iterator[RunEvent]:
    if before is None and attempt.stopping is None:  # else it ends before its child is created
        what = f"Started attempt {attempt.number} of {phase}: {attempt.kind} {attempt.name}"
        yield RunEvent("Normal", "AttemptStarted", what)
    if attempt.stopping is not None and (before is None or before.stopping is None):
        yield RunEvent("Normal", "AttemptStopping", f"Ending {attempt.name}: {attempt.stopping.message}")
    if attempt.ended is not None and (before is None or before.ended is None):
        kind = "Normal" if attempt.exit_code in (EXIT_DONE, EXIT_STOPPED) else "Warning"
        yield RunEvent(kind, "AttemptEnded", f"Attempt {attempt.number} of {phase} ended: {attempt.reason}")


def _events_of_condition(condition: Condition) -> Iterator[RunEvent]:
    """An event for a refused recipe, a namespace without limits, or any other condition that became true and is for people."""
    wrong = condition.type in ("RecipeValid", "PodSecurity") and condition.status == "False"
    holds = condition.type in ("Held", "Suspended", "Complete", "Failed") and condition.status == "True"
    if wrong or holds:
        kind = "Warning" if wrong or condition.type == "Failed" else "Normal"
        yield RunEvent(kind, condition.reason, condition.message)
