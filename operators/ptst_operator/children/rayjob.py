"""One attempt at a GRPO stage as a RayJob, on the run's shared RayCluster or with its own; or at a cold start with workers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ptst_operator.children import raycluster
from ptst_operator.children.kind import ApiResource, ChildKind, PlannedChild
from ptst_operator.children.pods import metadata
from ptst_operator.children.state import ChildState, waiting
from ptst_operator.names import ATTEMPT_LABEL, GROUP, Manifest
from ptst_operator.run import ResolvedRun, phase_command
from visionr1.recipe import Phase, StagePhase
from visionr1.rundir.layout import stop_key

RESOURCE: Final = ApiResource("RayJob", "ray.io/v1", "rayjobs")
_EXIT_CODE: Final = re.compile(r"(?:Job entrypoint command )?failed with exit code (-?\d{1,3})\b")
_LOGS: Final = ", last available logs"
"""Ray's message about a failed driver ends with the last lines of its log, after this text. A log may contain secrets."""
_NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
"""A name that may be put into a path of the API server, whoever has written it."""
_DRIVER_GONE: Final = ("SUCCEEDED", "FAILED", "STOPPED")


def build(run: ResolvedRun, name: str, phase: StagePhase, cluster: str | None, start: str) -> Manifest:
    """The job of one attempt. It is submitted over HTTP, so there is no extra pod that could lose its connection.

    Args:
        cluster: the shared RayCluster that it runs on. None gives it its own, which is deleted as soon as the job has ended.
        start: the checkpoint or model that the attempt begins from. Shown to people only.
    """
    stage = phase.stage
    command = phase_command(run, "grpo", "--stage", str(phase.number))
    if cluster is not None:
        manifest = _job(metadata(run, name, phase.name, "stage", queued=False), command, _on(cluster))
    else:
        manifest = _job_with_cluster(run, name, phase, "stage", command, raycluster.cluster_spec(run, {ATTEMPT_LABEL: name}))
    # The entrypoint has only the number of the stage. These show its values without the recipe.
    manifest["metadata"]["annotations"] = {
        f"{GROUP}/max-completion-tokens": str(stage.max_completion_tokens),
        f"{GROUP}/group-size": str(stage.group_size),
        f"{GROUP}/steps": str(stage.steps),
        f"{GROUP}/tensor-parallel": str(stage.tensor_parallel),
        f"{GROUP}/from-checkpoint": start,
    }
    return manifest


def build_coldstart(run: ResolvedRun, name: str, phase: Phase) -> Manifest:
    """The job of one attempt at a cold start with workers. It always has its own cluster."""
    cluster = raycluster.teachers_spec(run, {ATTEMPT_LABEL: name})
    return _job_with_cluster(run, name, phase, phase.kind, phase_command(run, "coldstart"), cluster)


def _job_with_cluster(run: ResolvedRun, name: str, phase: Phase, role: str, command: list[str], cluster: Manifest) -> Manifest:
    """Its cluster is deleted together with the job, so before that a file in the run directory asks the driver to stop."""
    where = {"rayClusterSpec": cluster, "shutdownAfterJobFinishes": True}
    return _job(metadata(run, name, phase.name, role), [*command, "--stop-when", stop_key(run.uid, name)], where)


def _on(cluster: str) -> Manifest:
    return {"clusterSelector": {"ray.io/cluster": cluster}}


def _job(metadata: Manifest, command: list[str], where: Manifest) -> Manifest:
    return {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata,
        "spec": {"entrypoint": shlex.join(command), "submissionMode": "HTTPMode", **where},
    }


def read(manifest: Mapping[str, Any]) -> ChildState:
    """Its phase, its cluster, and of its own cluster the head and what KubeRay reports of its pods."""
    status = manifest.get("status", {})
    reported = raycluster.refused_pods(status.get("rayClusterStatus", {}))
    named = _NAME.fullmatch(status.get("rayClusterName", ""))
    return replace(_phase_of(manifest), head=head_of(manifest), ray_cluster=named[0] if named else "", reported=reported)


def _phase_of(manifest: Mapping[str, Any]) -> ChildState:
    """Its phase, from jobDeploymentStatus and jobStatus.

    ValidationFailed is final, although KubeRay checks the job again. Complete includes jobs that were STOPPED. Failed and
    ValidationFailed are possible while jobStatus is RUNNING. Then the driver may still run.
    """
    status = manifest.get("status", {})
    deployment, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    message = status.get("message", "")
    if deployment == "Complete" and job == "SUCCEEDED":
        return ChildState.of(manifest, "Succeeded", job, exit_code=0)
    if deployment in ("Complete", "Failed", "ValidationFailed"):
        reason = job if deployment == "Complete" else status.get("reason") or deployment
        found = _EXIT_CODE.match(message)
        quiet = _has_no_driver(status) and not _keeps_cluster(manifest)
        return ChildState.of(
            manifest, "Failed", reason, message.partition(_LOGS)[0], int(found[1]) if found else None, quiet=quiet
        )
    if deployment == "Running":
        return ChildState.of(manifest, "Running", job or deployment)
    return waiting(manifest, deployment or "Created")


def _has_no_driver(status: Mapping[str, Any]) -> bool:
    """Whether the driver of a job that KubeRay has given up has surely ended, or was surely never submitted.

    KubeRay writes the address of the dashboard before it submits, and the status of the job only after that.
    """
    job = status.get("jobStatus", "")
    return job in _DRIVER_GONE or not (job or status.get("dashboardURL"))


def _keeps_cluster(manifest: Mapping[str, Any]) -> bool:
    """Whether KubeRay leaves the job's own cluster as it is: of a job that it refuses later, it does not delete it."""
    status = manifest.get("status", {})
    made = bool(status.get("rayClusterName")) and "clusterSelector" not in manifest.get("spec", {})
    return made and status.get("jobDeploymentStatus") == "ValidationFailed"


def head_of(manifest: Mapping[str, Any]) -> str | None:
    """Address of the head pod of a RayJob's own cluster, once there is one."""
    address: str | None = manifest.get("status", {}).get("rayClusterStatus", {}).get("head", {}).get("podIP")
    return address


def _children(run: ResolvedRun, planned: PlannedChild) -> tuple[Manifest, ...]:
    if isinstance(planned.phase, StagePhase):
        return (build(run, planned.name, planned.phase, planned.cluster, planned.start),)
    return (build_coldstart(run, planned.name, planned.phase),)


KIND: Final = ChildKind(
    resource=RESOURCE,
    phases=("grpo", "coldstart"),
    build=_children,
    read=read,
    pod_label=ATTEMPT_LABEL,
    container=None,
    on_ray=True,
    brings=(raycluster.RESOURCE,),
)
