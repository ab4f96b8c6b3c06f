"""What the operator sees when it looks at a run, besides the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ptst_operator.children.raycluster import RayClusterState
from ptst_operator.children.state import ChildState
from visionr1.rundir.committed import Committed
from visionr1.rundir.rollback import Rollback


@dataclass(frozen=True)
class Progress:
    """Numbers that the driver serves; None where it serves none."""

    step: int | None = None
    reward: float | None = None
    length: float | None = None
    tokens_per_second: float | None = None
    truncated: float | None = None
    kl: float | None = None


@dataclass(frozen=True)
class Breach:
    """A gate that a stage does not pass while it runs: what is to be done, and why.

    `to` is the checkpoint to go back to; None for Stop.
    """

    stage: str
    message: str
    to: Rollback | None = None


@dataclass(frozen=True)
class RollbackRefused:
    """The rollback that is due cannot be done; `reason` says why, such as a checkpoint that is not kept any more."""

    reason: str


@dataclass(frozen=True)
class RollbackReady:
    """The rollback that is due can be done now: its checkpoint was seen to be there."""


@dataclass(frozen=True)
class RollbackDone:
    """Nothing is left that came after the checkpoint; what is committed of each phase from the checkpoint's on."""

    committed: Mapping[str, Committed]


RollbackProgress = RollbackRefused | RollbackReady | RollbackDone


@dataclass(frozen=True)
class World:
    """One look.

    Attributes:
        child: the child of the attempt that has not ended, by its name.
        leftover: whether pods of that child are there that have not ended.
        pod_exit_code: exit code of that child's pods, where they have ended; 64 if one of them says so.
        cluster: the RayCluster of the status, by its name.
        driver_ended: whether the driver of an attempt that is being ended serves nothing any more; None if that is not known.
        committed: what the run directory says, at least of the first phase that is not complete.
        progress: what the driver serves, if it could be asked.
        sft_kind: kind of an attempt at SFT that would begin now; None if the cluster has none that the run may use.
        breaches: gates that keep the phase that is next from beginning.
        breach: a gate that ends the stage whose new checkpoint was seen.
        rollback: how far the rollback is that is due; None while anything of the run is at work, and where none is due.
        refused: why the operator could not do last what it had decided: make a child, ask a driver to stop, roll back.
    """

    child: ChildState | None = None
    leftover: bool = False
    pod_exit_code: int | None = None
    cluster: RayClusterState | None = None
    driver_ended: bool | None = None
    committed: Mapping[str, Committed] = field(default_factory=dict)
    progress: Progress | None = None
    refused: str | None = None
    sft_kind: str | None = None
    breaches: tuple[str, ...] = ()
    breach: Breach | None = None
    rollback: RollbackProgress | None = None
