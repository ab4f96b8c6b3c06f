"""One phase for children of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ChildPhase = Literal["Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True)
class ChildState:
    """What a child says of itself.

    Attributes:
        run_uid: uid of the run that owns it; another one means that it is a child of a run that had the same name.
        reason: its own word for the phase.
        exit_code: of the process, where the child knows it.
        quiet: False if the child is over but its process may still be there, as in a RayJob that is Failed and RUNNING.
        deleting: whether it is going.
        queued: whether its queue has not let it in, or takes it back: `suspend` is set, and the operator never sets it.
        head: address of the head pod of its own RayCluster, once there is one.
    """

    phase: ChildPhase
    uid: str
    run_uid: str
    reason: str
    message: str = ""
    exit_code: int | None = None
    quiet: bool = True
    deleting: bool = False
    queued: bool = False
    head: str | None = None

    @staticmethod
    def of(
        manifest: Mapping[str, Any],
        phase: ChildPhase,
        reason: str,
        message: str = "",
        exit_code: int | None = None,
        quiet: bool = True,
    ) -> ChildState:
        """With what its metadata says."""
        meta, spec = manifest["metadata"], manifest.get("spec", {})
        owners = meta.get("ownerReferences", [])
        owner = next((one["uid"] for one in owners if one.get("controller")), "")
        short = " ".join(message.split())[:300]
        queued = phase in ("Pending", "Running") and bool(spec.get("suspend") or spec.get("runPolicy", {}).get("suspend"))
        return ChildState(phase, meta["uid"], owner, reason, short, exit_code, quiet, "deletionTimestamp" in meta, queued)


def waiting(manifest: Mapping[str, Any], reason: str) -> ChildState:
    """A child that has not started to run."""
    return ChildState.of(manifest, "Pending", reason)
