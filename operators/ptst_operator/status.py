"""What the operator keeps of a run: all that it needs to go on after it was killed at any point.

The parts are frozen pydantic dataclasses. `dataclasses.replace` is how they change: mypy checks names and types of what is
replaced, and pydantic checks them again when it runs.
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
"""Attempts of a phase that stay in its history; more than a phase may fail in a row."""


def moment(seconds: float) -> datetime:
    """Unix seconds as the status writes them: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)


Time = Annotated[datetime, PlainSerializer(lambda value: value.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json")]


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no kind of child; there are {', '.join(KINDS)}")
    return kind


KindName = Annotated[str, AfterValidator(_known_kind), Field(json_schema_extra={"enum": list(KINDS)})]
StopReason = Literal["Suspended", "Preempted", "GateBreached", "DeadlineExceeded", "ClusterLost", "ChildLost", "ChildUnclear"]


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class Stopping:
    """Why an attempt is being ended by the operator."""

    reason: StopReason = Field(description="Why.")
    message: str = Field(default="", description="The same for people.", max_length=1024)
    since: Time = Field(description="When the operator began to end it.")
    from_step: int | None = Field(default=None, description="Newest committed global step then.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class AttemptStatus:
    """One child that ran a phase, or runs it."""

    number: int = Field(ge=0, description="Counted from 0 within the phase.")
    kind: KindName = Field(description="Kind of the child.")
    name: str = Field(description="Name of the child, fixed before it is made.")
    uid: str | None = Field(default=None, description="The child's uid once it was seen.")
    started: Time = Field(description="When the attempt was decided.")
    queued: bool = Field(
        default=False, description="Whether its queue has not let it in, or has taken it back; no deadline counts then."
    )
    admitted: Time | None = Field(
        default=None, description="When its queue was last seen to let it in; deadlines count from here."
    )
    running_since: Time | None = Field(default=None, description="When the child was first seen running, since it was let in.")
    ended: Time | None = Field(default=None, description="When it had ended and nothing of it ran any more.")
    from_step: int | None = Field(default=None, description="Newest committed global step when it began.")
    to_step: int | None = Field(default=None, description="Newest committed global step when it had ended.")
    exit_code: int | None = Field(default=None, description="Exit code of its process, where it is known.")
    reason: str = Field(default="", description="How it ended.", max_length=1024)
    own_cluster: bool = Field(default=False, description="Whether its RayJob brings a RayCluster of its own.")
    stopping: Stopping | None = Field(default=None, description="Set while and after the operator ends it.")

    @property
    def child_kind(self) -> ChildKind:
        """What is known of the child's kind."""
        return KINDS[self.kind]

    @property
    def on_shared_cluster(self) -> bool:
        """Whether its process is a driver on the run's RayCluster, and may live on there when the child is gone."""
        return self.child_kind.on_ray and not self.own_cluster

    def to_be_ended(self, reason: StopReason, message: str, from_step: int | None, now: float) -> AttemptStatus:
        """The attempt, to be ended by the operator; the first reason stays."""
        if self.stopping is not None:
            return self
        return replace(self, stopping=Stopping(reason=reason, message=message, since=moment(now), from_step=from_step))


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class PhaseStatus:
    """One phase of the recipe: its history and how far it is."""

    name: str = Field(description="coldstart, sft, stage-1, ..., evaluate.")
    attempts: list[AttemptStatus] = Field(default_factory=list, description="The newest attempts, oldest first.")
    attempts_begun: int = Field(default=0, ge=0, description="How many attempts there were.")
    count_from: int = Field(default=0, ge=0, description="Attempts before this number do not count as failures any more.")
    taken_back: int = Field(default=0, ge=0, description="So many first attempts were taken back by a rollback.")
    past_gates: bool = Field(
        default=False, description="Whether a person let it go on over a gate; its gates do not stop it again."
    )
    committed_step: int | None = Field(default=None, description="Newest committed global step.")
    complete: bool = Field(default=False, description="Whether its final checkpoint or output is committed.")
    completed: Time | None = Field(default=None, description="When that was seen.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class ClusterStatus:
    """The RayCluster of the stages."""

    name: str = Field(description="Its name, fixed before it is made.")
    uid: str | None = Field(default=None, description="Its uid once it was seen.")
    started: Time = Field(description="When it was decided.")
    workers: int | None = Field(default=None, description="GRPO workers that it was made for.")
    made_as: str | None = Field(default=None, description="Hash of the manifest that it was made from.")
    pending_since: Time | None = Field(
        default=None, description="Since when it is not ready, without its time in a queue; pendingSeconds counts from here."
    )
    deleting: bool = Field(default=False, description="Whether it is to go.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class BreachStatus:
    """A gate that stopped the run; it stays until a person lets the run go on."""

    number: int = Field(ge=0, description="Counted from 0 within the run.")
    stage: str = Field(description="Stage that did not pass it.")
    message: str = Field(description="Gate, value and bound.", max_length=1024)
    rollback_phase: str | None = Field(default=None, description="Phase of the checkpoint to go back to.")
    rollback_step: int | None = Field(default=None, description="Global step of that checkpoint.")
    rolled_back: bool = Field(default=False, description="Whether nothing is left that came after that checkpoint.")

    @property
    def rollback_due(self) -> Rollback | None:
        """The checkpoint that the run has to go back to, as long as it has not."""
        if self.rollback_phase is None or self.rollback_step is None or self.rolled_back:
            return None
        return Rollback(self.rollback_phase, self.rollback_step)


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class Condition:
    """A condition as Kubernetes defines it."""

    type: str = Field(description="What is said.")
    status: Literal["True", "False"] = Field(description="Whether it holds.")
    reason: str = Field(description="Why, in one word.")
    message: str = Field(default="", description="The same for people.", max_length=4096)
    last_transition_time: Time = Field(description="When the status changed last.")
    observed_generation: int = Field(default=0, description="Generation of the spec that this was said of.")


@dataclass(frozen=True, kw_only=True, config=PART_CONFIG)
class Status:
    """How far the run is. Only the operator writes it."""

    observed_generation: int = Field(default=0, description="Generation of the spec that was last acted on.")
    phase: RunPhase = Field(default="Pending", description="What the run is doing.")
    stage: str | None = Field(default=None, description="The recipe's phase that is next or runs.")
    step: int | None = Field(default=None, description="Global step: the driver's, else the newest committed one.")
    reward: float | None = Field(default=None, description="Mean reward of the newest step.")
    length: float | None = Field(default=None, description="Mean completion length of the newest step, in tokens.")
    tokens_per_second_per_gpu: float | None = Field(
        default=None, description="Completion tokens a second and worker in the newest step."
    )
    truncated: float | None = Field(
        default=None, description="Part of the newest step's completions that was cut at the stage's limit."
    )
    kl: float | None = Field(default=None, description="Mean KL estimate of the newest step.")
    phases: list[PhaseStatus] = Field(default_factory=list, description="History of every phase that has begun or is done.")
    stages_begun: int = Field(default=0, ge=0, description="Stages that have begun; they are frozen.")
    cluster: ClusterStatus | None = Field(default=None, description="The RayCluster, while there is one.")
    clusters_begun: int = Field(default=0, ge=0, description="How many RayClusters there were.")
    restarts: int = Field(default=0, ge=0, description="spec.restarts that was acted on.")
    breach: BreachStatus | None = Field(default=None, description="The gate that keeps the run from going on.")
    breaches: int = Field(default=0, ge=0, description="How often a gate has stopped the run.")
    recipe_version: str = Field(default="", description="resourceVersion of the recipe's ConfigMap that was acted on.")
    recipe_hash: str = Field(default="", description="SHA-256 of the recipe that was acted on; the run directory has it.")
    conditions: list[Condition] = Field(
        default_factory=list, description="RecipeValid, Progressing, Held, Suspended, Complete and Failed."
    )

    def of(self, phase: str) -> PhaseStatus:
        """A phase's part; a phase that has not begun has an empty one."""
        return next((one for one in self.phases if one.name == phase), PhaseStatus(name=phase))

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
        """The attempt that has not ended, if there is one; there are never two."""
        for phase in self.phases:
            if phase.attempts and phase.attempts[-1].ended is None:
                return phase, phase.attempts[-1]
        return None


_STATUS: Final = TypeAdapter(Status)


def read_status(run: Manifest) -> Status:
    """The status of a PTSTRun as the API server has it; that of a new run is empty."""
    return _STATUS.validate_python(run.get("status", {}))


def status_patch(status: Status) -> Manifest:
    """The status as it is written."""
    made: Manifest = _STATUS.dump_python(status, mode="json", by_alias=True, exclude_none=True)
    return made


def status_json_schema() -> Manifest:
    """Its JSON Schema."""
    return _STATUS.json_schema(by_alias=True)
