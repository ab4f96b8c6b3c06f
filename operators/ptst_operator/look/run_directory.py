"""Reads from the run directory: commits, the numbers of the newest step, gates, and how far a rollback is."""

from __future__ import annotations

from collections.abc import Mapping

from ptst_operator.look.gates import breaches, first_breach
from ptst_operator.look.scale import scale_of
from ptst_operator.run import WantedRun
from ptst_operator.status import Status
from ptst_operator.world import Breach, Progress, RollbackDone, RollbackProgress, RollbackReady, RollbackRefused
from visionr1.errors import BadInput
from visionr1.recipe import StagePhase, phases_from, stage_phases
from visionr1.rundir.committed import Committed, committed
from visionr1.rundir.reading import number
from visionr1.rundir.rollback import is_rolled_back, refusal
from visionr1.rundir.steplog import read_steps
from visionr1.storage import Store


def committed_phases(store: Store, wanted: WantedRun, status: Status) -> dict[str, Committed]:
    """What each phase has committed, in order, up to the first phase that is not complete."""
    seen: dict[str, Committed] = {}
    for phase in wanted.chain:
        if status.of(phase.name).complete and phase.kind != "evaluate":
            continue
        seen[phase.name] = committed(store, phase)
        if not seen[phase.name].complete:
            return seen
    return seen


def newest_progress(store: Store, wanted: WantedRun, status: Status, seen: Mapping[str, Committed]) -> Progress | None:
    """Numbers of a stage's newest committed step, if it is newer than the status. Used when the driver is gone."""
    stages = {phase.name for phase in stage_phases(wanted.run.recipe)}
    known = [(one.name, one.committed_step) for one in status.phases] + [(name, one.step) for name, one in seen.items()]
    steps = [step for name, step in known if name in stages and step is not None]
    if not steps or max(steps) <= (status.step or 0):
        return None
    try:
        records = read_steps(store)
    except BadInput:  # these numbers are only shown; a gate, which must read the log, reports what is wrong with it
        return None
    record = next((one for one in reversed(records) if one["step"] == max(steps) and one["phase"] in stages), None)
    if record is None:
        return None
    parts = record.get("step_seconds")
    scale = scale_of(wanted, record["phase"], number(record.get("workers")))
    return scale.progress(record["step"], record, parts.values() if isinstance(parts, dict) else ())


def breaches_before_next(store: Store, wanted: WantedRun, status: Status, seen: Mapping[str, Committed]) -> tuple[str, ...]:
    """The gates that keep the next phase from starting, if it is a stage after another stage."""
    due = next((phase for phase in wanted.chain if phase.name in seen and not seen[phase.name].complete), None)
    gates = [gate for gate in wanted.run.spec.gates if gate.action == "Hold"]
    if not gates or not isinstance(due, StagePhase) or due.number == 1:
        return ()
    if status.of(due.name).attempts_begun > status.of(due.name).taken_back:
        return ()
    assert due.input_phase is not None, "a later stage starts from the one before"
    return breaches(gates, read_steps(store), due.input_phase)


def breach_of_running(store: Store, wanted: WantedRun, status: Status, seen: Mapping[str, Committed]) -> Breach | None:
    """The gate that stops a stage, if the stage has a new checkpoint."""
    gates, recipe = wanted.run.spec.gates, wanted.run.recipe
    if status.breach is not None or all(gate.action == "Hold" for gate in gates):
        return None
    for phase in wanted.chain:
        step = seen[phase.name].step if phase.name in seen and isinstance(phase, StagePhase) else None
        known = status.of(phase.name)
        # If this run has not begun the stage, an earlier run did, and a person decided about it then.
        if step is None or step == known.committed_step or known.past_gates or known.attempts_begun <= known.taken_back:
            continue
        found = first_breach(gates, read_steps(store), phase.name, phase.first_step, step, seen[phase.name].complete)
        if found is not None:
            why = refusal(store, recipe, found.to, found.stage) if found.to is not None else None
            return found if why is None else Breach(found.stage, f"{found.message}; the rollback is not possible: {why}")
    return None


def rollback_progress(store: Store, wanted: WantedRun, status: Status) -> RollbackProgress | None:
    """How far the due rollback is. Asked only when no process of the run is left. None if no rollback is due."""
    recipe = wanted.run.recipe
    to = status.breach.rollback_due if status.breach is not None else None
    if status.breach is None or to is None:
        return None
    # Checked again: the stage may have deleted that checkpoint when it committed its last one.
    if why := refusal(store, recipe, to, status.breach.stage):
        return RollbackRefused(why)
    if not is_rolled_back(store, recipe, to):
        return RollbackReady()
    return RollbackDone({phase.name: committed(store, phase) for phase in phases_from(recipe, to.phase)})
