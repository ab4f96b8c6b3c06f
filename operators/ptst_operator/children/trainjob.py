"""SFT as a TrainJob of Kubeflow Trainer v2: one pod a node, torchrun in each, made by way of JobSet.

A TrainJob says how many nodes there are; what their pods look like stands in a TrainingRuntime, which must be there first. Each
attempt has one of its own with the same name, so that neither ever changes. It goes with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ptst_operator.children import sft
from ptst_operator.children.kind import ApiResource, ChildKind, PlannedChild
from ptst_operator.children.pods import metadata
from ptst_operator.children.state import ChildPhase, ChildState, waiting
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun
from visionr1.recipe import Phase

CONTAINER: Final = "node"
_API: Final = "trainer.kubeflow.org"
# As long as a TrainJob is there, Trainer makes its JobSet again, and so its pods: it goes before them.
RESOURCE: Final = ApiResource("TrainJob", f"{_API}/v1alpha1", "trainjobs", deletion="Background")
RUNTIME: Final = ApiResource("TrainingRuntime", f"{_API}/v1alpha1", "trainingruntimes", watched=False)
_ENDS: Final[tuple[tuple[str, ChildPhase], ...]] = (("Failed", "Failed"), ("Complete", "Succeeded"))


def build(run: ResolvedRun, name: str, phase: Phase) -> tuple[Manifest, Manifest]:
    """Runtime and job of one attempt, in the order in which they must be made.

    Trainer tells torchrun by PET_* variables where the nodes meet; it knows whom to tell by the names `node` and by the label.
    Its own restarts are off: attempts are counted in the run's status.
    """
    pod = sft.pod_template(run, phase, CONTAINER)
    pod["spec"]["restartPolicy"] = "Never"
    nodes = {
        "name": "node",
        "template": {
            "metadata": {"labels": {f"{_API}/trainjob-ancestor-step": "trainer"}},
            # Failed: as for a Job, no second pod while the first one ends.
            "spec": {"backoffLimit": 0, "podReplacementPolicy": "Failed", "template": pod},
        },
    }
    runtime: Manifest = {
        "apiVersion": RUNTIME.version,
        "kind": RUNTIME.kind,
        "metadata": metadata(run, name, phase.name, "sft", queued=False),
        "spec": {"mlPolicy": {"torch": {}}, "template": {"spec": {"replicatedJobs": [nodes]}}},
    }
    queue = run.spec.queue_labels.get("volcano.sh/queue-name")
    if queue:  # Trainer makes a PodGroup only if it is asked to, and reads the queue from an annotation
        runtime["spec"]["podGroupPolicy"] = {"volcano": {}}
        runtime["spec"]["template"]["metadata"] = {"annotations": {"scheduling.volcano.sh/queue-name": queue}}
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
    """Its phase. No condition says that it runs: its JobSet counts the job as ready once all of its pods are."""
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
