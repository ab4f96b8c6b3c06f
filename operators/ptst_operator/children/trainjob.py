"""SFT as a TrainJob of Kubeflow Trainer v2: one pod per node, with torchrun in each. Trainer makes the pods through a JobSet.

A TrainJob has the number of nodes. The template of their pods is in a TrainingRuntime, which must exist first. Each attempt
has its own runtime with the same name, so neither of the two ever changes. The runtime is deleted with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ptst_operator.children import sft
from ptst_operator.children.kind import ApiResource, ChildKind, PlannedChild
from ptst_operator.children.pods import metadata, volcano_queue
from ptst_operator.children.state import ChildPhase, ChildState, waiting
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun
from visionr1.recipe import Phase

CONTAINER: Final = "node"
_API: Final = "trainer.kubeflow.org"
# As long as a TrainJob exists, Trainer creates its JobSet again, and so its pods. So the TrainJob is deleted before its pods.
RESOURCE: Final = ApiResource("TrainJob", f"{_API}/v1alpha1", "trainjobs", deletion="Background")
RUNTIME: Final = ApiResource("TrainingRuntime", f"{_API}/v1alpha1", "trainingruntimes", watched=False)
_ENDS: Final[tuple[tuple[str, ChildPhase], ...]] = (("Failed", "Failed"), ("Complete", "Succeeded"))


def build(run: ResolvedRun, name: str, phase: Phase) -> tuple[Manifest, Manifest]:
    """Runtime and job of one attempt, in the order in which they must be created.

    Trainer gives torchrun the address of the first node in PET_* variables. It finds the pods by the name `node` and by the
    label. Its own restarts are off, because the run's status counts attempts.
    """
    pod = sft.pod_template(run, phase, CONTAINER)
    pod["spec"]["restartPolicy"] = "Never"
    nodes = {
        "name": "node",
        "template": {
            "metadata": {"labels": {f"{_API}/trainjob-ancestor-step": "trainer"}},
            # Failed: as for a Job, there is no second pod before the first one has ended.
            "spec": {"backoffLimit": 0, "podReplacementPolicy": "Failed", "template": pod},
        },
    }
    runtime: Manifest = {
        "apiVersion": RUNTIME.version,
        "kind": RUNTIME.kind,
        "metadata": metadata(run, name, phase.name, "sft", queued=False),
        "spec": {"mlPolicy": {"torch": {}}, "template": {"spec": {"replicatedJobs": [nodes]}}},
    }
    queue = volcano_queue(run)
    if queue:  # Trainer makes a PodGroup only with podGroupPolicy
        runtime["spec"]["podGroupPolicy"] = {"volcano": {}}
        runtime["spec"]["template"]["metadata"] = {"annotations": queue}
    job = {
        "apiVersion": RESOURCE.version,
        "kind": RESOURCE.kind,
        "metadata": metadata(run, name, phase.name, "sft"),
        "spec": {
            "runtimeRef": {"apiGroup": _API, "kind": RUNTIME.kind, "name": name},
            "trainer": {"numNodes": run.spec.sft.nodes, "numProcPerNode": sft.processes(run)},
        },
    }
    return runtime, job


def read(manifest: Mapping[str, Any]) -> ChildState:
    """Its phase. A TrainJob has no condition for running. Its JobSet counts the job as ready when all pods are ready."""
    status = manifest.get("status", {})
    holds = {one["type"]: one for one in status.get("conditions", []) if one.get("status") == "True"}
    for condition, phase in _ENDS:
        if condition in holds:
            one = holds[condition]
            return ChildState.of(manifest, phase, one.get("reason") or condition, one.get("message", ""))
    if manifest["spec"].get("suspend"):
        return waiting(manifest, "Suspended")
    if any(job.get("ready") for job in status.get("jobsStatus", [])):
        return ChildState.of(manifest, "Running", "Running")
    return waiting(manifest, "Created")


def _children(run: ResolvedRun, planned: PlannedChild) -> tuple[Manifest, ...]:
    return build(run, planned.name, planned.phase)


KIND: Final = ChildKind(
    resource=RESOURCE,
    phases=("sft",),
    build=_children,
    read=read,
    pod_label="jobset.sigs.k8s.io/jobset-name",
    container=CONTAINER,
    brings=(RUNTIME,),
    comes_with="Kubeflow Trainer v2",
)
