"""The result of a decision: the status to write, and what to do after that."""

from __future__ import annotations

from dataclasses import dataclass

from ptst_operator.names import Manifest
from ptst_operator.status import Status
from visionr1.rundir.rollback import Rollback


@dataclass(frozen=True)
class Apply:
    """Create a child, or an object that it needs."""

    manifest: Manifest


@dataclass(frozen=True)
class Delete:
    """Delete a child. It is gone only when its pods are gone."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class AskToStop:
    """Ask a driver, by a key in the run directory, to commit its step and end."""

    key: str


@dataclass(frozen=True)
class RollBack:
    """Take the run directory back to a checkpoint. `number` is the breach's."""

    to: Rollback
    number: int


Effect = Apply | Delete | AskToStop | RollBack


@dataclass(frozen=True)
class Decision:
    """The status to write first, then what to do. `look_at` is the latest time of the next look, in unix seconds."""

    status: Status
    effects: tuple[Effect, ...] = ()
    look_at: float | None = None


@dataclass(frozen=True)
class RunEvent:
    """An Event of the run, as `kubectl describe` shows it. `kind` is Normal or Warning."""

    kind: str
    reason: str
    message: str
