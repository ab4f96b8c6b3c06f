"""What a decision means for a person: the run's phase, and the reason in one word and in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ptst_operator.children import raycluster
from ptst_operator.children.table import kinds_of
from ptst_operator.decide.fewer_workers import asked_workers, ready_workers, workers_deadline
from ptst_operator.decide.situation import Situation
from ptst_operator.elastic import worker_counts
from ptst_operator.names import APPROVE, name_taken
from ptst_operator.run import ResolvedRun
from ptst_operator.status import AttemptStatus, BreachStatus, ClusterStatus, RunPhase, Status, moment
from ptst_operator.world import World
from visionr1.pipeline import planner

_NAMED: Final = 3
"""So many of the pods that may still run are named."""


@dataclass(frozen=True)
class Summary:
    """Phase, reason and message of a run."""

    phase: RunPhase
    reason: str
    message: str


def summary_of(at: Situation, status: Status, before: Status, action: planner.Action | None) -> Summary:
    """The summary of a run with this status. `action` is what the planner decided; None means that the run has failed."""
    if at.world.refused is not None and isinstance(action, planner.Start | planner.Wait) and not _is_ending(status):
        return Summary("Running" if _has_run(status) else "Pending", "ChildRefused", at.world.refused)
    match action:
        case planner.Finish():
            return Summary("Succeeded", "Finished", "all phases are done")
        case planner.Fail():
            return _failed(status, action)
        case planner.Hold(name):
            return _held(at, name) if status.breach is None else _held_by(status.breach, at)
        case planner.RunStopped(name):
            return Summary("Suspended", "StoppedOnRequest", f"stopped in or before {name}; set spec.suspend to false to go on")
        case planner.Stop(name):
            return _stopping(at, status, name)
        case planner.Wait(name, until):
            return _running(at, status, before, name) if until is None else _waits_for_retry(status, name, until)
        case planner.Start(name):
            return _starting(at, status, before, name)
        case None:
            return _still_failed(before)


def _is_ending(status: Status) -> bool:
    live = status.live()
    return live is not None and live[1].stopping is not None


def _has_run(status: Status) -> bool:
    live = status.live()
    return live is not None and live[1].running_since is not None


def _failed(status: Status, fail: planner.Fail) -> Summary:
    why = f"{fail.phase}: {fail.reason}{_last_reason(status, fail.phase)}"
    return Summary("Failed", "AttemptsFailed", f"{why}; raise spec.restarts to try again")


def _still_failed(before: Status) -> Summary:
    failed = next(one for one in before.conditions if one.type == "Failed")
    return Summary("Failed", failed.reason, failed.message)


def _held(at: Situation, name: str) -> Summary:
    command = _approval(at.run, name)
    if at.world.breaches:
        return Summary("Held", "GateBreached", f"{'; '.join(at.world.breaches)}; to start {name} all the same: {command}")
    return Summary("Held", "WaitsForApproval", f"{name} waits for your approval; to start it: {command}")


def _held_by(breach: BreachStatus, at: Situation) -> Summary:
    command = _approval(at.run, f"breach-{breach.number}")
    if breach.rollback_phase is None:
        return Summary("Held", "GateBreached", f"{breach.message}; to continue {breach.stage} all the same: {command}")
    back = f"{breach.rollback_phase} at step {breach.rollback_step}"
    if not breach.rolled_back:
        refused = f": {at.world.refused}" if at.world.refused else ""
        left = f"; {_may_run(at, at.world.leftover, gone=True)}" if at.world.leftover else ""
        return Summary("Stopping", "RollingBack", f"{breach.message}; the run goes back to {back}{refused}{left}")
    return Summary(
        "Held", "RolledBack", f"{breach.message}; the run went back to {back}; change the recipe if needed, then: {command}"
    )


def _approval(run: ResolvedRun, what: str) -> str:
    return f"kubectl -n {run.namespace} annotate ptst {run.name} --overwrite {APPROVE}={what}"


def _stopping(at: Situation, status: Status, name: str) -> Summary:
    attempt = status.of(name).attempts[-1]
    if not at.wanted.has(name):
        return _being_ended(at, status, name, attempt)
    why = f": {status.breach.message}" if status.breach is not None else ""
    reason = "Stopping" if status.breach is None else "GateBreached"
    return Summary("Stopping", reason, f"{name} commits a checkpoint and ends{why}{_rest(at, status, attempt)}")


def _being_ended(at: Situation, status: Status, name: str, attempt: AttemptStatus) -> Summary:
    assert attempt.stopping is not None, "only an attempt that is being ended comes here"
    why = f"the attempt at {name} is being ended: {attempt.stopping.message}{_rest(at, status, attempt)}"
    return Summary("Stopping", attempt.stopping.reason, why)


def _running(at: Situation, status: Status, before: Status, name: str) -> Summary:
    attempt, world = status.of(name).attempts[-1], at.world
    if attempt.stopping is not None:
        return _being_ended(at, status, name, attempt)
    if at.in_the_way(world.child):
        return Summary("Pending", "NameTaken", name_taken(attempt.kind, attempt.name))
    if world.child is not None and world.leftover:
        over = f"{name}: {attempt.kind} {attempt.name} is over, but {_may_run(at, world.leftover)}"
        return Summary("Stopping", "WaitsForPods", over)
    if attempt.queued:
        return _queued(f"{name}: {attempt.kind} {attempt.name}", world, before)
    if attempt.running_since is None and world.hindrance is not None:
        why = f"{name}: {attempt.kind} {attempt.name} does not run yet: {world.hindrance.message}"
        return Summary("Pending", world.hindrance.reason, why)
    if attempt.running_since is None:
        why = world.child.reason if world.child is not None else "not created yet"
        return Summary("Pending", "WaitsForChild", f"{name}: {attempt.kind} {attempt.name} does not run yet ({why})")
    runs = f"{name} runs as {attempt.kind} {attempt.name}{_fewer(at, status, attempt)}"
    if world.hindrance is not None:
        return Summary("Running", world.hindrance.reason, f"{runs}, but not all of its pods do: {world.hindrance.message}")
    return Summary("Running", "Running", runs)


def _fewer(at: Situation, status: Status, attempt: AttemptStatus) -> str:
    reduced = status.cluster is not None and status.cluster.reduced_for == attempt.name
    return f" with {attempt.workers} of {at.run.recipe.rollout.workers} workers" if reduced else ""


def _waits_for_retry(status: Status, name: str, until: float) -> Summary:
    when = f"{moment(until):%Y-%m-%dT%H:%M:%SZ}"
    return Summary("Pending", "WaitsForRetry", f"the next attempt at {name} starts at {when}{_last_reason(status, name)}")


def _starting(at: Situation, status: Status, before: Status, name: str) -> Summary:
    live, cluster, world = status.live(), status.cluster, at.world
    if live is None and cluster is None and world.leftover:
        return Summary("Pending", "WaitsForPods", f"{name} waits: {_may_run(at, world.leftover, gone=True)}")
    if name == "sft" and live is None and world.sft_kind is None:
        return Summary("Pending", "WaitsForBackend", _no_backend())
    if cluster is not None and live is None and at.in_the_way(world.cluster):
        return Summary("Pending", "NameTaken", name_taken(raycluster.RESOURCE.kind, cluster.name))
    if cluster is not None and cluster.deleting:
        left = f"; {_may_run(at, world.cluster_pods, world.cluster is None)}" if world.cluster_pods else ""
        return Summary("Pending", "WaitsForCluster", f"{name} waits for the RayCluster to be deleted{left}")
    if cluster is not None and world.cluster is not None and world.cluster.queued:
        return _queued(f"{name}: RayCluster {cluster.name}", world, before)
    if live is not None:
        return Summary("Pending", "Starting", f"{name} starts")
    if cluster is not None and world.hindrance is not None:
        why = f"{name} waits for RayCluster {cluster.name}: {world.hindrance.message}{_enough(at, cluster)}"
        return Summary("Pending", world.hindrance.reason, why)
    enough = "" if cluster is None else _enough(at, cluster)
    return Summary("Pending", "WaitsForCluster", f"{name} waits for its RayCluster to be ready{enough}")


def _enough(at: Situation, cluster: ClusterStatus) -> str:
    """How many workers are ready, and when fewer than all are enough."""
    due = workers_deadline(at, cluster)
    if due is None or at.world.worker_pods is None:
        return ""
    asked, least = asked_workers(at, cluster), worker_counts(at.run.spec, at.run.recipe)[-1]
    when = f"{least} are enough from {moment(due):%Y-%m-%dT%H:%M:%SZ}" if at.now < due else f"{least} are enough"
    return f"; {ready_workers(at)} of {asked} workers are ready, {when} (grpo.minWorkers)"


def _no_backend() -> str:
    kinds = ", ".join(f"{kind.name} with {kind.comes_with}" for kind in kinds_of("sft")).replace(" with", " comes with", 1)
    return f"sft waits: the cluster has no kind that spec.sft.backend allows; {kinds}"


def _queued(what: str, world: World, before: Status) -> Summary:
    """The API server forgets an event after an hour, and a queue may write only one: the reason of the same wait stays."""
    waits = f"{what} waits until its queue lets it in"
    known = next((one.message for one in before.conditions if one.type == "Progressing" and one.message.startswith(waits)), waits)
    return Summary("Queued", "WaitsForQueue", known if world.hindrance is None else f"{waits}: {world.hindrance.message}")


def _rest(at: Situation, status: Status, attempt: AttemptStatus) -> str:
    """What keeps an attempt from its end: a refusal, an object of somebody else, pods without their object or over time."""
    world, late = at.world, at.is_late(attempt)
    refusal = f"; {world.refused}" if world.refused is not None else ""
    if at.in_the_way(world.child) and world.leftover:
        return f"{refusal}; {name_taken(attempt.kind, attempt.name)}; {_may_run(at, world.leftover)}"
    if status.cluster is not None and at.in_the_way(world.cluster):
        return f"{refusal}; {name_taken(raycluster.RESOURCE.kind, status.cluster.name)}"
    gone, pods = world.child is None and world.cluster is None, (*world.leftover, *world.cluster_pods)
    over = gone or (world.child is not None and world.child.over)
    if late and attempt.on_shared_cluster and world.child is not None and world.child.deleting:
        refusal += f"; {attempt.kind} {attempt.name} is still being deleted: see whether its controller runs, and its finalizers"
    return f"{refusal}; {_may_run(at, pods, gone)}" if pods and (over or late) else refusal


def _may_run(at: Situation, pods: tuple[str, ...], gone: bool = False) -> str:
    """Names pods that may still run, and says how a person ends them; `gone`: the object that would end them is.

    Not how many there are: with each that ends, the status would be written again.
    """
    more = " and more" if len(pods) > _NAMED else ""
    node = "if a node is gone for good, delete it (kubectl delete node NODE)"
    by_hand = f"if one stays, delete it (kubectl -n {at.run.namespace} delete pod NAME); " if gone else ""
    return f"{', '.join(pods[:_NAMED])}{more} may still run; {by_hand}{node}"


def _last_reason(status: Status, name: str) -> str:
    """How the phase's last attempt ended, in brackets."""
    attempts = status.of(name).attempts
    return f" ({attempts[-1].reason})" if attempts and attempts[-1].reason else ""
