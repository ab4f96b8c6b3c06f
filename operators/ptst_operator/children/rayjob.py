"""One attempt at a GRPO stage as a RayJob, on the run's RayCluster or with one of its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from ptst_operator.children import raycluster
from ptst_operator.children.phase import Child, waiting
from ptst_operator.children.pods import ATTEMPT_LABEL, Manifest, Owner, metadata
from visionr1.recipe import StagePhase
from visionr1.rundir.layout import stop_key

_EXIT_CODE: Final = re.compile(r"(?:Job entrypoint command )?failed with exit code (-?\d{1,3})\b")
_LOGS: Final = ", last available logs"
"""What Ray says of a driver that failed goes on with the end of its log, where anything may stand: a key, too."""
_DRIVER_GONE: Final = ("SUCCEEDED", "FAILED", "STOPPED")


def build(owner: Owner, name: str, phase: StagePhase, cluster: str | None, start: str) -> Manifest:
    """The job of one attempt: submitted over HTTP, so that no further pod can lose the connection to it.

    Args:
        cluster: the RayCluster that it runs on; None for one of its own, which goes as soon as the job has ended.
        start: checkpoint, or model, that the attempt begins from; for people.
    """
    stage = phase.stage
    command = ["visionr1", "grpo", "--run", owner.spec.storage.url, "--stage", str(phase.number)]
    if cluster is not None:
        where: Manifest = {"clusterSelector": {"ray.io/cluster": cluster}}
    else:
        # Its cluster goes as soon as it does, so the driver is asked in the run directory before that.
        command += ["--stop-when", stop_key(owner.uid, name)]
        where = {"rayClusterSpec": raycluster.cluster_spec(owner, {ATTEMPT_LABEL: name}), "shutdownAfterJobFinishes": True}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            **metadata(owner, name, phase.name, "stage", queued=cluster is None),
            # The entrypoint names a stage by its number, which says nothing without the recipe.
            "annotations": {
                "visionr1.io/max-completion-tokens": str(stage.max_completion_tokens),
                "visionr1.io/group-size": str(stage.group_size),
                "visionr1.io/steps": str(stage.steps),
                "visionr1.io/tensor-parallel": str(stage.tensor_parallel),
                "visionr1.io/from-checkpoint": start,
            },
        },
        "spec": {
            "entrypoint": shlex.join(command),
            "submissionMode": "HTTPMode",
            **where,
        },
    }


def read(manifest: Mapping[str, Any]) -> Child:
    """Its phase by both of its words.

    ValidationFailed is final though KubeRay goes on looking at it; Complete counts STOPPED in; Failed may stand beside a job
    that is still RUNNING, and then the driver may be alive.
    """
    status = manifest.get("status", {})
    deployment, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    message = status.get("message", "")
    if deployment == "Complete" and job == "SUCCEEDED":
        return Child.of(manifest, "Succeeded", job, exit_code=0)
    if deployment in ("Complete", "Failed", "ValidationFailed"):
        reason = job if deployment == "Complete" else status.get("reason") or deployment
        found = _EXIT_CODE.match(message)
        said = message.partition(_LOGS)[0]
        # A job that KubeRay refused, or never submitted, has no driver.
        gone = job in _DRIVER_GONE or deployment == "ValidationFailed" or not job
        return Child.of(manifest, "Failed", reason, said, int(found[1]) if found else None, quiet=gone)
    if deployment == "Running":
        return Child.of(manifest, "Running", job or deployment)
    return waiting(manifest, deployment or "Created")


def head_of(manifest: Mapping[str, Any]) -> str | None:
    """Address of the head pod of a RayJob's own cluster, once there is one."""
    address: str | None = manifest.get("status", {}).get("rayClusterStatus", {}).get("head", {}).get("podIP")
    return address
