"""One attempt at a phase: choose its name, create its child, let it run, or end it.

The name is written into the status before the child of that name is created. So an operator that is killed
between any two calls creates nothing twice, and the next operator needs only the status to continue.
"""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.children import raycluster
from ptst_operator.children.kind import PlannedChild
from ptst_operator.children.table import KINDS, kind_of
from ptst_operator.decide.deadlines import cluster_deadline, held_to_deadlines, next_deadline, pending_limit
from ptst_operator.decide.ending import end
from ptst_operator.decide.fewer_workers import asked_workers, for_attempt, reduced, workers_deadline
from ptst_operator.decide.ray_cluster import is_outdated, is_ready, made_or_scaled, with_cluster, without_cluster
from ptst_operator.decide.situation import Situation
from ptst_operator.effects import Apply, Decision
from ptst_operator.elastic import worker_counts
from ptst_operator.names import Manifest
from ptst_operator.status import KEPT_ATTEMPTS, AttemptStatus, ClusterStatus, Status, moment
from visionr1.recipe import Phase, StagePhase


def start(at: Situation, status: Status, phase: Phase) -> Decision:
    """Begins the next attempt at a phase."""
    if isinstance(phase, StagePhase) and at.run.spec.grpo.cluster == "shared":
        return _start_on_shared_cluster(at, status, phase)
    if status.cluster is not None:
        return without_cluster(at, status)
    kind = at.world.sft_kind if phase.kind == "sft" else kind_of(at.run, phase).name
    return Decision(status if kind is None else _with_new_attempt(at, status, phase, kind))


def _start_on_shared_cluster(at: Situation, status: Status, phase: Phase) -> Decision:
    """First the RayCluster, as the attempt needs it, and ready."""
    if status.cluster is None:
        return Decision(with_cluster(at, status))
    wanted = raycluster.build(at.run, status.cluster.name)
    if status.cluster.deleting or is_outdated(at, status.cluster, wanted):
        return without_cluster(at, status)
    name = _next_name(at, status, phase)
    cluster = for_attempt(at, status.cluster, name)
    status = replace(status, cluster=cluster)
    if is_ready(at, cluster):
        return Decision(_with_new_attempt(at, status, phase, kind_of(at.run, phase).name))
    if fewer := reduced(at, cluster, name):
        return Decision(replace(status, cluster=fewer))
    due = cluster_deadline(at, cluster)
    if due is not None and at.now >= due:
        return Decision(_failed_without_cluster(at, status, phase, cluster))
    looks = [one for one in (due, workers_deadline(at, cluster)) if one is not None and one > at.now]
    return Decision(status, made_or_scaled(at, cluster, wanted), min(looks, default=None))


def _failed_without_cluster(at: Situation, status: Status, phase: Phase, cluster: ClusterStatus) -> Status:
    """An attempt that ends without a child and deletes the cluster. So each wait counts as a failure, up to a limit."""
    status = _with_new_attempt(at, status, phase, kind_of(at.run, phase).name)
    why = f"RayCluster {cluster.name} was not ready within {pending_limit(at.run.spec.deadlines)}"
    attempt = status.of(phase.name).attempts[-1]
    return status.with_attempt(phase.name, attempt.to_be_ended("DeadlineExceeded", why, attempt.from_step, at.now))


def _with_new_attempt(at: Situation, status: Status, phase: Phase, kind: str) -> Status:
    """Chooses the next attempt's name and kind. Its child is created after this is written."""
    before = status.of(phase.name)
    attempt = AttemptStatus(
        number=before.attempts_begun,
        kind=kind,
        name=_next_name(at, status, phase),
        started=moment(at.now),
        from_step=before.committed_step,
        own_cluster=KINDS[kind].on_ray and (phase.kind == "coldstart" or at.run.spec.grpo.cluster == "per-stage"),
        workers=asked_workers(at, status.cluster) if isinstance(phase, StagePhase) else None,
    )
    attempts = [*before.attempts, attempt][-KEPT_ATTEMPTS:]
    return status.with_phase(replace(before, attempts=attempts, attempts_begun=before.attempts_begun + 1))


def _next_name(at: Situation, status: Status, phase: Phase) -> str:
    return f"{at.run.name}-{phase.name}-{status.of(phase.name).attempts_begun}"


def stop(at: Situation, status: Status, name: str) -> Decision:
    """Ends the attempt that runs: a person has suspended the run or changed the recipe, or a gate was not passed."""
    phase, breach = status.of(name), status.breach
    attempt, step = phase.attempts[-1], phase.committed_step
    if not at.wanted.has(name):
        stopped = attempt.to_be_ended("Outdated", f"the recipe has no {name} any more", step, at.now)
    elif breach is None:
        stopped = attempt.to_be_ended("Suspended", "stopped on request", step, at.now)
    else:
        stopped = attempt.to_be_ended("GateBreached", breach.message, step, at.now)
    return go_on(at, status.with_attempt(name, stopped), name)


def go_on(at: Situation, status: Status, name: str) -> Decision:
    """What happens to an attempt that has not ended: its child is created, is ended, or runs on."""
    attempt = status.of(name).attempts[-1]
    unseen = attempt.uid is None and at.world.child is None
    if attempt.stopping is None:
        attempt = held_to_deadlines(at, status.of(name))
        if status.of(name).complete and unseen:
            # The child was created, did its work and was deleted by hand before the operator saw it.
            attempt = attempt.to_be_ended("ChildLost", "its phase is complete without it", None, at.now)
        elif unseen and _was_changed(at, status, attempt):
            why = "the recipe or the pods were changed before it began"
            attempt = attempt.to_be_ended("Outdated", why, status.of(name).committed_step, at.now)
        status = status.with_attempt(name, attempt)
    if attempt.stopping is not None:
        return end(at, status, name, attempt)
    made = tuple(Apply(manifest) for manifest in _manifests(at, status, name, attempt)) if unseen else ()
    return Decision(status, made, next_deadline(at, status.of(name)))


def _was_changed(at: Situation, status: Status, attempt: AttemptStatus) -> bool:
    """Whether a child that is made now would not fit its workers, or the shared RayCluster that was made for it."""
    if attempt.workers is not None and attempt.workers not in worker_counts(at.run.spec, at.run.recipe):
        return True
    cluster = status.cluster if attempt.on_shared_cluster else None
    return cluster is not None and is_outdated(at, cluster, raycluster.build(at.run, cluster.name))


def _manifests(at: Situation, status: Status, name: str, attempt: AttemptStatus) -> tuple[Manifest, ...]:
    """What is created for an attempt, in this order."""
    phase = next(one for one in at.wanted.chain if one.name == name)
    cluster = None
    if attempt.on_shared_cluster:
        assert status.cluster is not None, "fold() stops an attempt without a cluster"
        cluster = status.cluster.name
    run, start = at.run.with_workers(attempt.workers), _start_of(at, status, phase, attempt)
    return attempt.child_kind.build(run, PlannedChild(attempt.name, phase, cluster, start))


def _start_of(at: Situation, status: Status, phase: Phase, attempt: AttemptStatus) -> str:
    """Folder of the checkpoint that an attempt at a stage starts from, or the name of the base model."""
    if attempt.from_step is not None:
        return f"{phase.name}/step-{attempt.from_step}"
    if phase.input_phase is None:
        return at.run.recipe.model.base
    return f"{phase.input_phase}/step-{status.of(phase.input_phase).committed_step}"
