"""What the run directory says: commits, the numbers of the newest step, gates, and how far a rollback is."""

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
    """What is committed of each phase in order, up to the first that is not complete."""
    seen: dict[str, Committed] = {}
    for phase in wanted.chain:
        if status.of(phase.name).complete and phase.kind != "evaluate":
            continue
        seen[phase.name] = committed(store, phase)
        if not seen[phase.name].complete:
            return seen
    return seen


def newest_progress(store: Store, wanted: WantedRun, status: Status, seen: Mapping[str, Committed]) -> Progress | None:
    """Numbers of the newest committed step of a stage, if that is newer than what the status shows: its driver is gone."""
    stages = {phase.name for phase in stage_phases(wanted.run.recipe)}
    known = [(one.name, one.committed_step) for one in status.phases] + [(name, one.step) for name, one in seen.items()]
    steps = [step for name, step in known if name in stages and step is not None]
    if not steps or max(steps) <= (status.step or 0):
        return None
    try:
        records = read_steps(store)
    except BadInput:  # these are figures to look at; what must read the log (a gate) says what is wrong with it
        return None
    record = next((one for one in reversed(records) if one["step"] == max(steps) and one["phase"] in stages), None)
    if record is None:
        return None
    values = {
        key: number(record.get(key)) for key in ("reward_mean", "completion_tokens_mean", "completion_truncated_ratio", "kl_mean")
    }
    parts = record.get("step_seconds")
    seconds = sum(filter(None, map(number, parts.values()))) if isinstance(parts, dict) else 0.0
    length = values["completion_tokens_mean"]
    return Progress(
        step=record["step"],
        reward=values["reward_mean"],
        length=length,
        tokens_per_second=scale_of(wanted, record["phase"]).speed(length, seconds),
        truncated=values["completion_truncated_ratio"],
        kl=values["kl_mean"],
    )


def breaches_before_next(store: Store, wanted: WantedRun, status: Status, seen: Mapping[str, Committed]) -> tuple[str, ...]:
    """What keeps the next phase from beginning, if that is a stage after another one."""
    due = next((phase for phase in wanted.chain if phase.name in seen and not seen[phase.name].complete), None)
    gates = [gate for gate in wanted.run.spec.gates if gate.action == "Hold"]
    if not gates or not isinstance(due, StagePhase) or due.number == 1:
        return ()
    if status.of(due.name).attempts_begun > status.of(due.name).taken_back:
        return ()
    assert due.input_phase is not None, "a later stage starts from the one before"
    return breaches(gates, read_steps(store), due.input_phase)


def breach_of_running(store: Store, wanted: WantedRun, status: Status, seen: Mapping[str, Committed]) -> Breach | None:
    """What keeps a stage of which a new checkpoint is seen from going on."""
    gates, recipe = wanted.run.spec.gates, wanted.run.recipe
    if status.breach is not None or all(gate.action == "Hold" for gate in gates):
        return None
    for phase in wanted.chain:
        step = seen[phase.name].step if phase.name in seen and isinstance(phase, StagePhase) else None
        known = status.of(phase.name)
        # A stage that this run has not begun is an earlier run's, over which a person has decided then.
        if step is None or step == known.committed_step or known.past_gates or known.attempts_begun <= known.taken_back:
            continue
        found = first_breach(gates, read_steps(store), phase.name, phase.first_step, step, seen[phase.name].complete)
        if found is not None:
            why = refusal(store, recipe, found.to, found.stage) if found.to is not None else None
            return found if why is None else Breach(found.stage, f"{found.message}; it cannot be rolled back: {why}")
    return None


def rollback_progress(store: Store, wanted: WantedRun, status: Status) -> RollbackProgress | None:
    """How far the rollback is that is due, when nothing of the run is at work any more; None if none is due."""
    recipe = wanted.run.recipe
    to = status.breach.rollback_due if status.breach is not None else None
    if status.breach is None or to is None:
        return None
    # Asked again: the stage may have given that checkpoint up when it committed its last one.
    if why := refusal(store, recipe, to, status.breach.stage):
        return RollbackRefused(why)
    if not is_rolled_back(store, recipe, to):
        return RollbackReady()
    return RollbackDone({phase.name: committed(store, phase) for phase in phases_from(recipe, to.phase)})
