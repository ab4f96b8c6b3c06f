"""What the operator writes down about a run: all that it needs to continue after it was killed at any point.

The parts are frozen pydantic dataclasses, changed with `dataclasses.replace`. mypy checks the names and types of the changes,
and pydantic checks them again when the code runs.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PlainSerializer, TypeAdapter
from pydantic.dataclasses import dataclass

from ptst_operator.children.kind import ChildKind
from ptst_operator.children.table import KINDS
from ptst_operator.names import Manifest
from ptst_operator.spec import PART_CONFIG
from visionr1.rundir.rollback import Rollback

RunPhase = Literal["Pending", "Queued", "Running", "Stopping", "Suspended", "Held", "Succeeded", "Failed"]
KEPT_ATTEMPTS: Final = 12
"""How many attempts of a phase stay in its history. This is more than may fail in a row."""


def moment(seconds: float) -> datetime:
    """Unix seconds as the status writes them: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)


Time = Annotated[datetime, PlainSerializer(lambda value: value.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json")]


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no kind of child; there are {', '.join(KINDS)}")
    return kind


KindName = Annotated[str, AfterValidator(_known_kind), Field(json_schema_extra={"enum": list(KINDS)})]
StopReason = Literal[
    "Suspended",
    "Preempted",
    "GateBreached",
    "Outdated",
    "DeadlineExceeded",
    "DidNotEnd",
    "ClusterLost",
    "ChildLost",
    "ChildUnclear",
]


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class Stopping:
    """Why the operator ends an attempt."""

    reason: StopReason = Field(description="Why, in one word.")
    message: str = Field(default="", description="Why, in a sentence.", max_length=1024)
    since: Time = Field(description="When the operator began to end it.")
    from_step: int | None = Field(default=None, description="Newest committed global step at that time.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class AttemptStatus:
    """One child that runs a phase, or ran it."""

    number: int = Field(ge=0, description="Counted from 0 within the phase.")
    kind: KindName = Field(description="Kind of the child.")
    name: str = Field(description="Name of the child. It is written here before the child is created.")
    uid: str | None = Field(default=None, description="The child's uid, once the operator has seen it.")
    started: Time = Field(description="When the operator decided to start the attempt.")
    queued: bool = Field(default=False, description="Whether it waits in a queue. No deadline counts then.")
    admitted: Time | None = Field(default=None, description="When its queue last let it in. Deadlines count from here.")
    running_since: Time | None = Field(
        default=None, description="When the child was first seen to run, after its queue let it in."
    )
    answered_at: str | None = Field(
        default=None,
        description="Address at which its driver has answered. Only there can its end be seen.",
        max_length=64,
    )
    ended: Time | None = Field(default=None, description="When it had ended and none of its pods ran any more.")
    from_step: int | None = Field(default=None, description="Newest committed global step at its start.")
    to_step: int | None = Field(default=None, description="Newest committed global step at its end.")
    exit_code: int | None = Field(default=None, description="Exit code of its process, if it is known.")
    reason: str = Field(default="", description="How it ended.", max_length=1024)
    own_cluster: bool = Field(default=False, description="Whether its RayJob has its own RayCluster.")
    workers: int | None = Field(default=None, description="Number of a stage's GRPO workers.")
    stopping: Stopping | None = Field(default=None, description="Why the operator ends it, or has ended it.")

    @property
    def child_kind(self) -> ChildKind:
        """The child's kind."""
        return KINDS[self.kind]

    @property
    def on_shared_cluster(self) -> bool:
        """Whether its process is a driver on the run's shared RayCluster. It may live on there when the child is gone."""
        return self.child_kind.on_ray and not self.own_cluster

    def to_be_ended(self, reason: StopReason, message: str, from_step: int | None, now: float) -> AttemptStatus:
        """The attempt, marked to be ended by the operator. An earlier reason stays."""
        if self.stopping is not None:
            return self
        return replace(self, stopping=Stopping(reason=reason, message=message, since=moment(now), from_step=from_step))


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class PhaseStatus:
    """One phase of the recipe: its history, and how far it is."""

    name: str = Field(description="coldstart, sft, stage-1, ..., evaluate.")
    attempts: list[AttemptStatus] = Field(default_factory=list, description="The newest attempts, oldest first.")
    attempts_begun: int = Field(default=0, ge=0, description="How many attempts have begun.")
    count_from: int = Field(default=0, ge=0, description="Attempts before this number no longer count as failures.")
    taken_back: int = Field(default=0, ge=0, description="How many of the first attempts a rollback has undone.")
    past_gates: bool = Field(
        default=False, description="Whether a person let it continue although it did not pass a gate. Gates do not stop it again."
    )
    committed_step: int | None = Field(default=None, description="Newest committed global step.")
    complete: bool = Field(default=False, description="Whether its final checkpoint or output is committed.")
    completed: Time | None = Field(default=None, description="When the operator saw that.")

    @property
    def begun(self) -> bool:
        """Whether it is at work or has committed something; the values that it reads are then used."""
        at_work = bool(self.attempts) and self.attempts[-1].ended is None
        return at_work or self.complete or self.committed_step is not None


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class ClusterStatus:
    """The RayCluster of the stages."""

    name: str = Field(description="Its name. It is written here before the RayCluster is created.")
    uid: str | None = Field(default=None, description="Its uid, once the operator has seen it.")
    started: Time = Field(description="When the operator decided to create it.")
    workers: int | None = Field(default=None, description="Number of GRPO workers that it asks for.")
    reduced_for: str | None = Field(default=None, description="Attempt for which it asks for fewer workers than the recipe.")
    made_as: str | None = Field(default=None, description="Hash of its manifest.")
    pending_since: Time | None = Field(
        default=None, description="Since when it is not ready. Time in a queue does not count. pendingSeconds counts from here."
    )
    deleting: bool = Field(default=False, description="Whether it is being deleted.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class BreachStatus:
    """A gate that stopped the run. It stays here until a person lets the run continue."""

    number: int = Field(ge=0, description="Counted from 0 within the run.")
    stage: str = Field(description="Stage that did not pass the gate.")
    message: str = Field(description="The metric, its value, and the bound.", max_length=1024)
    rollback_phase: str | None = Field(default=None, description="Phase of the checkpoint that the run goes back to.")
    rollback_step: int | None = Field(default=None, description="Global step of that checkpoint.")
    rolled_back: bool = Field(default=False, description="Whether everything after that checkpoint is deleted.")

    @property
    def rollback_due(self) -> Rollback | None:
        """The checkpoint that the run still has to go back to."""
        if self.rollback_phase is None or self.rollback_step is None or self.rolled_back:
            return None
        return Rollback(self.rollback_phase, self.rollback_step)


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class Condition:
    """A condition as Kubernetes defines it."""

    type: str = Field(description="Name of the condition.")
    status: Literal["True", "False"] = Field(description="True or False.")
    reason: str = Field(description="Why, in one word.")
    message: str = Field(default="", description="Why, in a sentence.", max_length=4096)
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: int = Field(default=0, description="Generation of the spec that this is about.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class Status:
    """How far the run is. Only the operator writes this."""

    observed_generation: int = Field(default=0, description="Generation of the spec that the operator last acted on.")
    phase: RunPhase = Field(default="Pending", description="What the run is doing.")
    stage: str | None = Field(default=None, description="The phase of the recipe that runs, or is next.")
    step: int | None = Field(default=None, description="Global step, from the driver, or else the newest committed one.")
    reward: float | None = Field(default=None, description="Mean reward of the newest step.")
    length: float | None = Field(default=None, description="Mean completion length of the newest step, in tokens.")
    tokens_per_second_per_gpu: float | None = Field(
        default=None, description="Completion tokens per second and worker in the newest step."
    )
    truncated: float | None = Field(
        default=None, description="Share of the newest step's completions that were cut at the stage's limit."
    )
    kl: float | None = Field(default=None, description="Mean KL estimate of the newest step.")
    hours_left: float | None = Field(
        default=None,
        description="Hours until all phases are complete, if nothing fails: from the plan (visionr1 plan), from measured steps "
        "as soon as there are some.",
    )
    phases: list[PhaseStatus] = Field(default_factory=list, description="The phases that have begun or are done.")
    stages_begun: int = Field(
        default=0, ge=0, description="How many stages have begun: they are at work or have a checkpoint. They cannot be changed."
    )
    cluster: ClusterStatus | None = Field(default=None, description="The RayCluster, while there is one.")
    clusters_begun: int = Field(default=0, ge=0, description="How many RayClusters were created.")
    restarts: int = Field(default=0, ge=0, description="Value of spec.restarts that the operator acted on.")
    breach: BreachStatus | None = Field(default=None, description="The gate that stopped the run.")
    breaches: int = Field(default=0, ge=0, description="How often a gate has stopped the run.")
    recipe_version: str = Field(default="", description="resourceVersion of the recipe's ConfigMap that the operator acted on.")
    recipe_hash: str = Field(
        default="", description="SHA-256 of the recipe that the operator acted on. The run directory has that recipe."
    )
    evaluation: str = Field(
        default="", description="SHA-256 of the values that the operator last let the evaluation use. Others begin it again."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="RecipeValid, Progressing, Held, Suspended, Complete, Failed, PodSecurity, Reconciling and Stalled.",
    )

    def of(self, phase: str) -> PhaseStatus:
        """The part of a phase. It is empty if the phase has not begun."""
        return next((one for one in self.phases if one.name == phase), None) or PhaseStatus(name=phase)

    def with_phase(self, changed: PhaseStatus) -> Status:
        """The status with one phase's part replaced or added at the end."""
        if any(one.name == changed.name for one in self.phases):
            return replace(self, phases=[changed if one.name == changed.name else one for one in self.phases])
        return replace(self, phases=[*self.phases, changed])

    def with_attempt(self, phase: str, attempt: AttemptStatus) -> Status:
        """The status with the newest attempt of a phase replaced."""
        before = self.of(phase)
        return self.with_phase(replace(before, attempts=[*before.attempts[:-1], attempt]))

    def live(self) -> tuple[PhaseStatus, AttemptStatus] | None:
        """The attempt that has not ended, if there is one. There are never two."""
        for phase in self.phases:
            if phase.attempts and phase.attempts[-1].ended is None:
                return phase, phase.attempts[-1]
        return None


_STATUS: Final = TypeAdapter(Status)


def read_status(run: Manifest) -> Status:
    """The status of a PTSTRun as the API server has it. A new run's is empty."""
    return _STATUS.validate_python(run.get("status", {}))


def status_patch(status: Status) -> Manifest:
    """The status as it is written."""
    made: Manifest = _STATUS.dump_python(status, mode="json", by_alias=True, exclude_none=True)
    return made


def status_json_schema() -> Manifest:
    """Its JSON Schema."""
    return _STATUS.json_schema(by_alias=True)
