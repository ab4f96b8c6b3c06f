"""What people have asked for since the last decision: continue after a gate, try again, or train more stages."""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.run import WantedRun
from ptst_operator.status import Status


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
    evaluate = status.of("evaluate")
    before = [phase for phase in wanted.chain if phase.kind != "evaluate"]
    tried = evaluate.complete or evaluate.attempts_begun > evaluate.count_from
    if tried and not all(status.of(phase.name).complete for phase in before):
        again = replace(evaluate, complete=False, completed=None, count_from=evaluate.attempts_begun)
        status = status.with_phase(again)
    return status
