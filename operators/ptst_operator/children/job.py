"""Cold-start data and evaluation as a batch/v1 Job with one pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ptst_operator.children.kind import ApiResource, ChildKind, PlannedChild
from ptst_operator.children.pods import metadata, template
from ptst_operator.children.state import ChildPhase, ChildState, waiting
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun, phase_command
from ptst_operator.sizes import Role
from visionr1.recipe import Phase

RESOURCE: Final = ApiResource("Job", "batch/v1", "jobs")
CONTAINER: Final = "visionr1"
_COMMANDS: Final[dict[Role, str]] = {"coldstart": "coldstart", "evaluate": "eval"}


def build(run: ResolvedRun, name: str, phase: Phase) -> Manifest:
    """The job of one attempt. It has no retries of its own."""
    role: Role = "coldstart" if phase.kind == "coldstart" else "evaluate"
    pod = template(run, phase.name, role, CONTAINER, phase_command(run, _COMMANDS[role]))
    pod["spec"]["restartPolicy"] = "Never"
    return {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata(run, name, phase.name, phase.kind),
        # Failed: if a queue suspends the job and lets it in again, there is no second pod before the first one has ended.
        "spec": {"backoffLimit": 0, "podReplacementPolicy": "Failed", "template": pod},
    }


def read(manifest: Mapping[str, Any]) -> ChildState:
    """Its phase. FailureTarget and SuccessCriteriaMet come before the pods are gone, so they do not count."""
    status = manifest.get("status", {})
    for one in status.get("conditions", []):
        if one.get("status") == "True" and one["type"] in ("Complete", "Failed"):
            phase: ChildPhase = "Succeeded" if one["type"] == "Complete" else "Failed"
            return ChildState.of(manifest, phase, one.get("reason") or one["type"], one.get("message", ""))
    if status.get("ready"):
        return ChildState.of(manifest, "Running", "Running")
    return waiting(manifest, "Suspended" if manifest.get("spec", {}).get("suspend") else "Created")


def _children(run: ResolvedRun, planned: PlannedChild) -> tuple[Manifest, ...]:
    return (build(run, planned.name, planned.phase),)


KIND: Final = ChildKind(
    resource=RESOURCE,
    phases=("coldstart", "evaluate"),
    build=_children,
    read=read,
    pod_label="batch.kubernetes.io/job-name",
    container=CONTAINER,
)
