"""One phase for children of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ChildPhase = Literal["Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True)
class Child:
    """What a child says of itself.

    Attributes:
        run_uid: uid of the run that owns it; another one means that it is a child of a run that had the same name.
        reason: its own word for the phase.
        exit_code: of the process, where the child knows it.
        quiet: False if the child is over but its process may still be there, as in a RayJob that is Failed and RUNNING.
        deleting: whether it is going.
    """

    phase: ChildPhase
    uid: str
    run_uid: str
    reason: str
    message: str = ""
    exit_code: int | None = None
    quiet: bool = True
    deleting: bool = False

    @staticmethod
    def of(
        manifest: Mapping[str, Any],
        phase: ChildPhase,
        reason: str,
        message: str = "",
        exit_code: int | None = None,
        quiet: bool = True,
    ) -> Child:
        """With what its metadata says."""
        meta = manifest["metadata"]
        owners = meta.get("ownerReferences", [])
        owner = next((one["uid"] for one in owners if one.get("controller")), "")
        short = " ".join(message.split())[:300]
        return Child(phase, meta["uid"], owner, reason, short, exit_code, quiet, "deletionTimestamp" in meta)


def waiting(manifest: Mapping[str, Any], reason: str) -> Child:
    """A child that has not started to run."""
    return Child.of(manifest, "Pending", reason)
