"""One decision about a run: pure. The planner says what comes next; here it becomes children to make, to ask and to delete.

A name is in the status, and the status is written, before the child of that name is made. So an operator that is killed
between any two calls makes nothing twice, and one that starts again goes on from the status alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final

from ptst_operator.children import job, pytorchjob, raycluster, rayjob, trainjob
from ptst_operator.children.pods import Manifest, Owner
from ptst_operator.conditions import settled
from ptst_operator.fold import fold, stopped_for, with_attempt
from ptst_operator.status import KEPT_ATTEMPTS, AttemptStatus, ClusterStatus, Kind, PhaseStatus, Status, moment
from ptst_operator.world import World
from visionr1.pipeline import planner
from visionr1.pipeline.rollback import Rollback
from visionr1.recipe import Phase, Recipe, phases
from visionr1.storage.layout import stop_key

APPROVE: Final = "visionr1.io/approve"
"""Annotation that lets a held phase begin (its name), or a run go on over the gate that stopped it (`breach-0`, ...)."""
KINDS: Final[dict[str, Kind]] = {"coldstart": "Job", "grpo": "RayJob", "evaluate": "Job"}
"""SFT's is what the cluster has."""
_DRIVER_LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Apply:
    """Make a child."""

    manifest: Manifest


@dataclass(frozen=True)
class Delete:
    """Delete a child; it is gone only when its pods are."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class AskToStop:
    """Ask a driver in the run directory to commit its step and end."""

    key: str


@dataclass(frozen=True)
class RollBack:
    """Take the run directory back to a checkpoint."""

    to: Rollback
    number: int


Effect = Apply | Delete | AskToStop | RollBack


@dataclass(frozen=True)
class Decision:
    """The status to write first, then what to do; `look_at` is when to look again at the latest, in unix seconds."""

    status: Status
    effects: tuple[Effect, ...] = ()
    look_at: float | None = None


@dataclass(frozen=True)
class Wanted:
    """The run as its owner wants it.

    `recipe_fault` says why its recipe cannot be acted on: then it is to be suspended, and has the recipe that it had before.
    """

    owner: Owner
    generation: int = 1
    approved: str = ""
    recipe_version: str = ""
    recipe_fault: str = ""

    @property
    def chain(self) -> tuple[Phase, ...]:
        """The recipe's phases, in order."""
        return phases(self.owner.recipe)


def decide(wanted: Wanted, before: Status, world: World, now: float) -> Decision:
    """What to write and do now."""
    status = fold(before, wanted.owner.uid, world, now)
    status = _reopened(wanted, _let_go(wanted, status))
    if before.phase == "Failed" and wanted.owner.spec.restarts <= before.restarts:
        action: planner.Action | None = None  # over until a person starts it again
    else:
        status = status.model_copy(update={"restarts": max(status.restarts, wanted.owner.spec.restarts)})
        action = _planned(wanted, status, world, now)
    made = _Hand(wanted, world, now).act(status, action)
    stages = sum(1 for one in made.status.phases if one.name.startswith("stage-") and _begun(one))
    acted_on = {
        "observed_generation": wanted.generation,
        "recipe_version": wanted.recipe_version,
        "recipe_hash": recipe_hash(wanted.owner.recipe),
        "stages_begun": stages,
    }
    status = made.status.model_copy(update=acted_on)
    status = settled(status, before, action, wanted.owner, world, now, wanted.recipe_fault)
    return Decision(status, made.effects, made.look_at)


def recipe_hash(recipe: Recipe) -> str:
    """What one recipe is told from another by."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def _planned(wanted: Wanted, status: Status, world: World, now: float) -> planner.Action:
    """What the planner says, but that a gate that was breached stops the run and holds it."""
    observed, breach = _observed(wanted, status), status.breach
    if breach is None:
        return planner.plan(_run_spec(wanted, status, world), observed, now)
    stopping = planner.plan(_run_spec(wanted, status, world), replace(observed, stop_requested=True), now)
    if isinstance(stopping, planner.Stop):
        return stopping
    return planner.Stopped(breach.stage) if wanted.owner.spec.suspend else planner.Hold(breach.stage)


def _begun(phase: PhaseStatus) -> bool:
    return phase.complete or phase.committed_step is not None or phase.attempts_begun > phase.taken_back


def _let_go(wanted: Wanted, status: Status) -> Status:
    """A person lets the run go on over the gate that stopped it."""
    breach = status.breach
    if breach is None or wanted.approved != f"breach-{breach.number}" or (breach.rollback_phase and not breach.rolled_back):
        return status
    phase = status.of(breach.stage)
    if not breach.rolled_back:
        status = status.with_phase(phase.model_copy(update={"past_gates": True}))
    return status.model_copy(update={"breach": None})


def _reopened(wanted: Wanted, status: Status) -> Status:
    """A person's restart forgives failures; with more stages, evaluation begins again."""
    if wanted.owner.spec.restarts > status.restarts:
        for phase in status.phases:
            status = status.with_phase(phase.model_copy(update={"count_from": phase.attempts_begun}))
    evaluate = status.of("evaluate")
    before = [phase for phase in wanted.chain if phase.kind != "evaluate"]
    tried = evaluate.complete or evaluate.attempts_begun > evaluate.count_from
    if tried and not all(status.of(phase.name).complete for phase in before):
        again = {"complete": False, "completed": None, "count_from": evaluate.attempts_begun}
        status = status.with_phase(evaluate.model_copy(update=again))
    return status


def _run_spec(wanted: Wanted, status: Status, world: World) -> planner.RunSpec:
    spec = wanted.owner.spec
    due = [phase.name for phase in wanted.chain if not status.of(phase.name).complete][:1] if world.breaches else []
    retry = planner.Retry(spec.retry.max_attempts, spec.retry.first_wait_seconds, spec.retry.longest_wait_seconds)
    held = frozenset([*spec.hold_before, *due]) - {wanted.approved}
    return planner.RunSpec(tuple(phase.name for phase in wanted.chain), retry, held)


def _observed(wanted: Wanted, status: Status) -> planner.Observed:
    return planner.Observed(
        {phase.name: _state(status.of(phase.name)) for phase in wanted.chain}, stop_requested=wanted.owner.spec.suspend
    )


def _state(phase: PhaseStatus) -> planner.PhaseState:
    counted = [one for one in phase.attempts if one.number >= phase.count_from or one.ended is None]
    tried = tuple(
        planner.Attempt(one.started.timestamp(), one.from_step, one.ended.timestamp() if one.ended else None, one.exit_code)
        for one in counted
    )
    return planner.PhaseState(tried, phase.committed_step, phase.complete)


@dataclass(frozen=True)
class _Hand:
    """Carries out one action of the planner on paper."""

    wanted: Wanted
    world: World
    now: float

    def act(self, status: Status, action: planner.Action | None) -> Decision:
        match action:
            case planner.Wait(name, None):
                return self._watch(status, name)
            case planner.Wait(name, until):
                keeps = name.startswith("stage-")
                return Decision(status, look_at=until) if keeps else self._without_cluster(status, look_at=until)
            case planner.Stop(name):
                phase = status.of(name)
                attempt, step = phase.attempts[-1], phase.committed_step
                if status.breach is None:
                    stopped = stopped_for(attempt, "Suspended", "stopped on request", step, self.now)
                else:
                    stopped = stopped_for(attempt, "GateBreached", status.breach.message, step, self.now)
                return self._watch(with_attempt(status, name, stopped), name)
            case planner.Start(name):
                return self._start(status, next(phase for phase in self.wanted.chain if phase.name == name))
            case _:
                return self._rolled_back(self._without_cluster(status))

    def _rolled_back(self, decision: Decision) -> Decision:
        """With the rollback that is due: nothing of the run is at work any more, and its cluster is gone."""
        breach = decision.status.breach
        if not self.world.may_roll_back or breach is None or breach.rollback_phase is None or decision.status.cluster is not None:
            return decision
        assert breach.rollback_step is not None
        back = RollBack(Rollback(breach.rollback_phase, breach.rollback_step), breach.number)
        return replace(decision, effects=(*decision.effects, back), look_at=self.now)

    def _start(self, status: Status, phase: Phase) -> Decision:
        if phase.kind != "grpo" or self.wanted.owner.spec.grpo.cluster == "per-stage":
            if status.cluster is not None:
                return self._without_cluster(status)
            kind = self.world.sft_kind if phase.kind == "sft" else KINDS[phase.kind]
            return Decision(status if kind is None else self._with_attempt_of(status, phase, kind))
        if status.cluster is None:
            name = f"{self.wanted.owner.name}-ray-{status.clusters_begun}"
            begun = moment(self.now)
            cluster = ClusterStatus(
                name=name,
                started=begun,
                workers=self.wanted.owner.recipe.rollout.workers,
                made_as=raycluster.fingerprint(raycluster.build(self.wanted.owner, name)),
                pending_since=begun,
            )
            return Decision(status.model_copy(update={"cluster": cluster, "clusters_begun": status.clusters_begun + 1}))
        wanted = raycluster.build(self.wanted.owner, status.cluster.name)
        if status.cluster.deleting or self._outdated(status.cluster, wanted):
            return self._without_cluster(status)
        seen = self.world.cluster
        if seen is not None and seen.ready and seen.run_uid == self.wanted.owner.uid:
            return Decision(self._with_attempt_of(status, phase, "RayJob"))
        due = self._cluster_due(status.cluster)
        if due is not None and self.now >= due:
            return Decision(self._failed_for_want_of_cluster(status, phase, status.cluster))
        return Decision(status, (Apply(wanted),) if seen is None else (), due)

    def _outdated(self, cluster: ClusterStatus, wanted: Manifest) -> bool:
        """Whether the next attempt needs another cluster; one that an older operator has made is known by its workers only."""
        if cluster.made_as is None:
            return cluster.workers not in (None, self.wanted.owner.recipe.rollout.workers)
        return cluster.made_as != raycluster.fingerprint(wanted)

    def _cluster_due(self, cluster: ClusterStatus) -> float | None:
        limit = self.wanted.owner.spec.deadlines.pending_seconds
        return None if limit is None or cluster.pending_since is None else cluster.pending_since.timestamp() + limit

    def _failed_for_want_of_cluster(self, status: Status, phase: Phase, cluster: ClusterStatus) -> Status:
        """An attempt that ends before its child is made, and takes the cluster with it: so waits are counted, and bounded."""
        status = self._with_attempt_of(status, phase, "RayJob")
        limit = f"deadlines.pendingSeconds ({self.wanted.owner.spec.deadlines.pending_seconds} s)"
        why = f"RayCluster {cluster.name} was not ready within {limit}"
        attempt = status.of(phase.name).attempts[-1]
        return with_attempt(status, phase.name, stopped_for(attempt, "DeadlineExceeded", why, attempt.from_step, self.now))

    def _with_attempt_of(self, status: Status, phase: Phase, kind: Kind) -> Status:
        """Fixes the next attempt's name and kind; its child is made once this is written."""
        before = status.of(phase.name)
        attempt = AttemptStatus(
            number=before.attempts_begun,
            kind=kind,
            name=f"{self.wanted.owner.name}-{phase.name}-{before.attempts_begun}",
            started=moment(self.now),
            from_step=before.committed_step,
            own_cluster=phase.kind == "grpo" and self.wanted.owner.spec.grpo.cluster == "per-stage",
        )
        attempts = [*before.attempts, attempt][-KEPT_ATTEMPTS:]
        return status.with_phase(before.model_copy(update={"attempts": attempts, "attempts_begun": before.attempts_begun + 1}))

    def _watch(self, status: Status, name: str) -> Decision:
        """An attempt that has not ended: make its child, end it, or let it run."""
        attempt = status.of(name).attempts[-1]
        if attempt.stopping is None:
            attempt = self._timed(attempt, status.of(name).committed_step)
            if status.of(name).complete and attempt.uid is None and self.world.child is None:
                # It was made, worked and was deleted by hand, all unseen.
                attempt = stopped_for(attempt, "ChildLost", "its phase is complete without it", None, self.now)
            status = with_attempt(status, name, attempt)
        if attempt.stopping is not None:
            return self._end(status, name, attempt)
        if self.world.child is None and attempt.uid is None:
            made = tuple(Apply(manifest) for manifest in self._manifests(status, name, attempt))
            return Decision(status, made, self._next_deadline(attempt))
        return Decision(status, look_at=self._next_deadline(attempt))

    def _manifests(self, status: Status, name: str, attempt: AttemptStatus) -> tuple[Manifest, ...]:
        owner = self.wanted.owner
        phase = next(one for one in self.wanted.chain if one.name == name)
        match attempt.kind:
            case "PyTorchJob":
                return (pytorchjob.build(owner, attempt.name, phase),)
            case "TrainJob":
                return trainjob.build(owner, attempt.name, phase)
            case "RayJob" if attempt.own_cluster:
                return (rayjob.build(owner, attempt.name, phase, None, self._start_of(status, phase, attempt)),)
            case "RayJob":
                assert status.cluster is not None, "fold() stops an attempt without a cluster"
                return (rayjob.build(owner, attempt.name, phase, status.cluster.name, self._start_of(status, phase, attempt)),)
            case "Job":
                return (job.build(owner, attempt.name, phase),)

    def _start_of(self, status: Status, phase: Phase, attempt: AttemptStatus) -> str:
        """Checkpoint that an attempt at a stage begins from, by its folder, or the model that nothing was trained of yet."""
        if attempt.from_step is not None:
            return f"{phase.name}/step-{attempt.from_step}"
        if phase.input_phase is None:
            return self.wanted.owner.recipe.model.base
        return f"{phase.input_phase}/step-{status.of(phase.input_phase).committed_step}"

    def _end(self, status: Status, name: str, attempt: AttemptStatus) -> Decision:
        """First the child; then, since a driver may outlive its RayJob, the cluster.

        A RayJob that takes its cluster with it is deleted once its driver has ended, or had the time for it.
        """
        child, stopping = self.world.child, attempt.stopping
        assert stopping is not None
        ours = child is not None and child.run_uid == self.wanted.owner.uid
        patience = attempt.uid is not None and stopping.reason in ("Suspended", "GateBreached", "DeadlineExceeded")
        due = stopping.since.timestamp() + self.wanted.owner.spec.deadlines.stop_seconds
        if child is not None and ours:
            if child.deleting:
                return Decision(status)
            trains = attempt.own_cluster and child.phase == "Running" and not child.queued
            if patience and trains and self.now < due:
                return Decision(status, (AskToStop(stop_key(self.wanted.owner.uid, attempt.name)),), due)
            return Decision(status, (Delete(attempt.kind, attempt.name, child.uid),))
        if attempt.kind != "RayJob" or status.cluster is None:
            return Decision(status)
        if stopping.reason == "Preempted" and self.world.cluster is not None and self.world.cluster.queued:
            return Decision(status)  # its pods go by themselves, and it keeps its place in the queue
        committed = status.of(name).committed_step
        # A newer checkpoint may be one that was due anyway, so it counts only where the driver cannot be asked.
        ended = committed != stopping.from_step if self.world.driver_ended is None else self.world.driver_ended
        if patience and not ended and self.now < due and not status.cluster.deleting:
            return Decision(status, look_at=min(due, self.now + _DRIVER_LOOK_SECONDS))
        return self._without_cluster(status)

    def _timed(self, attempt: AttemptStatus, committed_step: int | None) -> AttemptStatus:
        for due, limit in self._deadlines(attempt):
            if self.now >= due:
                return stopped_for(attempt, "DeadlineExceeded", f"over its {limit}", committed_step, self.now)
        return attempt

    def _deadlines(self, attempt: AttemptStatus) -> list[tuple[float, str]]:
        limits, started = self.wanted.owner.spec.deadlines, (attempt.admitted or attempt.started).timestamp()
        due: list[tuple[float, str]] = []
        if attempt.queued:
            return due  # how long a queue takes is no fault of the run
        if limits.pending_seconds is not None and attempt.running_since is None:
            due.append((started + limits.pending_seconds, f"deadlines.pendingSeconds ({limits.pending_seconds} s)"))
        if limits.attempt_seconds is not None:
            due.append((started + limits.attempt_seconds, f"deadlines.attemptSeconds ({limits.attempt_seconds} s)"))
        return due

    def _next_deadline(self, attempt: AttemptStatus) -> float | None:
        return min((due for due, _ in self._deadlines(attempt)), default=None)

    def _without_cluster(self, status: Status, look_at: float | None = None) -> Decision:
        """No stage runs or is due: the GPUs are given back."""
        cluster = status.cluster
        if cluster is None:
            return Decision(status, look_at=look_at)
        status = status.model_copy(update={"cluster": cluster.model_copy(update={"deleting": True})})
        seen = self.world.cluster
        ours = seen is not None and seen.run_uid == self.wanted.owner.uid
        effects: tuple[Effect, ...] = ()
        if seen is not None and ours and not seen.deleting:
            effects = (Delete("RayCluster", cluster.name, seen.uid),)
        return Decision(status, effects, look_at)


def status_patch(status: Status) -> dict[str, Any]:
    """The status as it is written."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
