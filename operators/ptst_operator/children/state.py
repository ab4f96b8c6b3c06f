"""The state of a child, in the same form for all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from visionr1.errors import printable

ChildPhase = Literal["Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True)
class ChildState:
    """The state of a child.

    Attributes:
        run_uid: uid of the run that owns it. If it differs, the child belongs to an earlier run of the same name.
        reason: the word that the child itself uses for its phase.
        exit_code: of the process, if the child's status has it.
        quiet: False if the child is over but its process may still run, as with a RayJob that is Failed and RUNNING.
        deleting: whether it is being deleted.
        queued: whether its queue has not let it in yet, or takes it back. Then `suspend` is set, which the operator never does.
        head: address of the head pod of its own RayCluster, once there is one.
        ray_cluster: name of the RayCluster that a RayJob runs on, once there is one.
        reported: what its status reports of pods that could not be made.
        created: when it was made, by the API server's clock, in RFC 3339.
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
    ray_cluster: str = ""
    reported: str = ""
    created: str = ""

    @property
    def over(self) -> bool:
        """Whether it does not run any more, by its own words. Pods of it may still."""
        return self.phase in ("Succeeded", "Failed")

    @staticmethod
    def of(
        manifest: Mapping[str, Any],
        phase: ChildPhase,
        reason: str,
        message: str = "",
        exit_code: int | None = None,
        quiet: bool = True,
    ) -> ChildState:
        """A state with uid, owner and queue from the manifest."""
        meta, spec = manifest["metadata"], manifest.get("spec", {})
        owners = meta.get("ownerReferences", [])
        owner = next((one["uid"] for one in owners if one.get("controller")), "")
        # People read both in a terminal, and whoever may write a job's status chooses them.
        short, reason = printable(" ".join(message[:3000].split()))[:300], printable(reason[:100])[:100]
        queued = phase in ("Pending", "Running") and bool(spec.get("suspend") or spec.get("runPolicy", {}).get("suspend"))
        created = str(meta.get("creationTimestamp", ""))
        deleting = "deletionTimestamp" in meta
        return ChildState(phase, meta["uid"], owner, reason, short, exit_code, quiet, deleting, queued, created=created)


def waiting(manifest: Mapping[str, Any], reason: str) -> ChildState:
    """A child that has not started to run."""
    return ChildState.of(manifest, "Pending", reason)
