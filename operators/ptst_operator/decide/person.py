"""What people have asked for since the last decision: continue after a gate, try again, train more stages, score otherwise."""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.run import WantedRun, evaluation_hash
from ptst_operator.status import PhaseStatus, Status
from visionr1.recipe.phases import EVALUATE_PHASE


def with_requests(wanted: WantedRun, status: Status) -> Status:
    """The status with a person's approval, restart and new stages."""
    return _with_new_stages(wanted, _restarted(wanted, _let_go(wanted, status)))


def _let_go(wanted: WantedRun, status: Status) -> Status:
    """A person lets the run continue although a gate stopped it."""
    breach = status.breach
    if breach is None or wanted.approved != f"breach-{breach.number}" or breach.rollback_due:
        return status
    if not breach.rolled_back:
        status = status.with_phase(replace(status.of(breach.stage), past_gates=True))
    return replace(status, breach=None)


def _restarted(wanted: WantedRun, status: Status) -> Status:
    """After a person's restart, earlier failures no longer count."""
    if wanted.run.spec.restarts > status.restarts:
        for phase in status.phases:
            status = status.with_phase(replace(phase, count_from=phase.attempts_begun))
    return status


def _with_new_stages(wanted: WantedRun, status: Status) -> Status:
    """With more stages to train, evaluation begins again."""
    evaluate = status.of(EVALUATE_PHASE)
    before = [phase for phase in wanted.chain if phase.kind != "evaluate"]
    tried = evaluate.complete or evaluate.attempts_begun > evaluate.count_from
    if tried and not all(status.of(phase.name).complete for phase in before):
        status = status.with_phase(_again(evaluate))
    return status


def with_new_evaluation(wanted: WantedRun, status: Status) -> Status:
    """With other values to evaluate with, evaluation begins again, unless the run directory also has scores of those."""
    evaluate = status.of(EVALUATE_PHASE)
    if evaluate not in status.phases or status.evaluation in ("", evaluation_hash(wanted.run.recipe)):
        return status
    return status.with_phase(_again(evaluate))


def _again(evaluate: PhaseStatus) -> PhaseStatus:
    return replace(evaluate, complete=False, completed=None, count_from=evaluate.attempts_begun)
