"""One decision about a run: from what was seen to what is written and done."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ptst_operator.decide.attempt import go_on, start, stop
from ptst_operator.decide.fold import fold
from ptst_operator.decide.person import with_new_evaluation, with_requests
from ptst_operator.decide.plan import planned
from ptst_operator.decide.ray_cluster import without_cluster
from ptst_operator.decide.report import with_report
from ptst_operator.decide.situation import Situation
from ptst_operator.effects import Decision, RollBack
from ptst_operator.run import WantedRun, evaluation_hash, recipe_hash
from ptst_operator.status import Status
from ptst_operator.world import RollbackReady, World
from visionr1.pipeline import planner
from visionr1.recipe import stage_number

_PODS_LOOK_SECONDS: Final = 5.0


def decide(wanted: WantedRun, before: Status, world: World, now: float) -> Decision:
    """What to write and do now; `before` is the status as it was read, `now` in unix seconds."""
    at = Situation(wanted, world, now)
    status = with_requests(wanted, fold(with_new_evaluation(wanted, before), wanted.run.uid, world, now))
    if before.phase == "Failed" and wanted.run.spec.restarts <= before.restarts:
        action: planner.Action | None = None  # it stays so until a person starts it again
    else:
        status = replace(status, restarts=max(status.restarts, wanted.run.spec.restarts))
        action = planned(at, status)
    made = _carried_out(at, status, action)
    acted_on = replace(
        made.status,
        observed_generation=wanted.generation,
        recipe_version=wanted.recipe_version,
        recipe_hash=recipe_hash(wanted.run.recipe),
        stages_begun=sum(1 for one in made.status.phases if stage_number(one.name) is not None and one.begun),
        evaluation=evaluation_hash(wanted.run.recipe),
    )
    return replace(made, status=with_report(at, acted_on, before, action))


def _carried_out(at: Situation, status: Status, action: planner.Action | None) -> Decision:
    """The planner's action as children to create, to ask and to delete."""
    match action:
        case planner.Wait(name, None):
            return go_on(at, status, name)
        case planner.Wait(name, until):
            keeps_cluster = stage_number(name) is not None
            return Decision(status, look_at=until) if keeps_cluster else without_cluster(at, status, look_at=until)
        case planner.Stop(name):
            return stop(at, status, name)
        case planner.Start() if at.world.leftover and status.cluster is None:
            return Decision(status, look_at=at.now + _PODS_LOOK_SECONDS)
        case planner.Start(name):
            return start(at, status, next(phase for phase in at.wanted.chain if phase.name == name))
        case _:
            return _with_rollback(at, without_cluster(at, status))


def _with_rollback(at: Situation, decision: Decision) -> Decision:
    """The decision, with the rollback if one is due and no process of the run is left."""
    breach = decision.status.breach
    to = breach.rollback_due if breach is not None else None
    ready = isinstance(at.world.rollback, RollbackReady) and decision.status.cluster is None and not at.world.leftover
    if breach is None or to is None or not ready:
        return decision
    return replace(decision, effects=(*decision.effects, RollBack(to, breach.number)), look_at=at.now)
