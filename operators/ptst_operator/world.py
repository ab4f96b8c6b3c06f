"""What the operator sees when it looks at a run, apart from the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ptst_operator.children.raycluster import Orphan, RayClusterState, WorkerPod
from ptst_operator.children.state import ChildState
from visionr1.rundir.committed import Committed
from visionr1.rundir.rollback import Rollback


@dataclass(frozen=True)
class Progress:
    """Numbers of a step, from its driver or the step log. None where there is none, or one that no run can have."""

    step: int | None = None
    reward: float | None = None
    length: float | None = None
    tokens_per_second: float | None = None
    truncated: float | None = None
    kl: float | None = None
    step_seconds: float | None = None


@dataclass(frozen=True)
class Hindrance:
    """What keeps an attempt's pods from running: in one word, and in a sentence."""

    reason: str
    message: str


@dataclass(frozen=True)
class Breach:
    """A gate that a running stage does not pass: what to do, and why.

    `to` is the checkpoint to go back to, or None for Stop.
    """

    stage: str
    message: str
    to: Rollback | None = None


@dataclass(frozen=True)
class RollbackRefused:
    """The due rollback is not possible. `reason` says why, such as a checkpoint that no longer exists."""

    reason: str


@dataclass(frozen=True)
class RollbackReady:
    """The due rollback can be done now: its checkpoint exists."""


@dataclass(frozen=True)
class RollbackDone:
    """Everything after the checkpoint is deleted. `committed` is what its phase and all later ones have committed."""

    committed: Mapping[str, Committed]


RollbackProgress = RollbackRefused | RollbackReady | RollbackDone


@dataclass(frozen=True)
class World:
    """What one look has seen.

    Attributes:
        child: the child of the attempt that has not ended, by its name.
        leftover: pods of that child, which is gone, over or being deleted, that may run, in words. Without an attempt and a
            RayCluster: those of the whole run.
        orphans: RayClusters that the attempt had for itself and that have outlived its RayJob.
        pod_exit_code: exit code of that child's pods, if they have ended. It is 64 if one of them has that code.
        ended_by_node: how a node has refused or evicted one of those pods. None if none has.
        kept_by: other containers that keep pods of that child running, although its own have all ended, in words.
        cluster: the RayCluster of the status, by its name.
        cluster_pods: pods of that RayCluster, which is gone or being deleted, that may run, in words.
        worker_pods: its worker pods, if stages may begin with fewer workers. None if they wait for all.
        hindrance: what keeps the pods of an attempt, or of the RayCluster that it waits for, from running. None if not known.
        answered_at: address at which the driver has just answered.
        driver_ended: whether the driver of an attempt that is being ended serves no metrics any more. None if not known.
        committed: what phases have committed, up to the first phase that is not complete.
        progress: the newest step's numbers, from the driver or from the step log.
        sft_kind: kind of child for an attempt at SFT now. None if the cluster has no kind that the run may use.
        breaches: gates that keep the next phase from starting.
        breach: a gate that stops a stage, checked at its new checkpoint.
        rollback: how far the due rollback is. None if none is due, or while a process of the run is left.
        refused: why the operator could not do its last decision: create a child, ask a driver to stop, or roll back.
        restricted: whether the namespace enforces the *restricted* Pod Security level. None if it is not known.
    """

    child: ChildState | None = None
    leftover: tuple[str, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    pod_exit_code: int | None = None
    ended_by_node: Hindrance | None = None
    kept_by: tuple[str, ...] = ()
    cluster: RayClusterState | None = None
    cluster_pods: tuple[str, ...] = ()
    worker_pods: tuple[WorkerPod, ...] | None = None
    hindrance: Hindrance | None = None
    answered_at: str | None = None
    driver_ended: bool | None = None
    committed: Mapping[str, Committed] = field(default_factory=dict)
    progress: Progress | None = None
    refused: str | None = None
    sft_kind: str | None = None
    breaches: tuple[str, ...] = ()
    breach: Breach | None = None
    rollback: RollbackProgress | None = None
    restricted: bool | None = True
