"""SFT as a PyTorchJob of the training-operator v1: one pod per node, with torchrun in each.

The job has no Master. With a Master, the training-operator adds an init container to every Worker. PodSecurity's *restricted*
profile refuses that container, and its image comes from the internet. Without a Master, the operator itself must tell torchrun
the address of the first node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubeflow.training import models
from kubernetes.client import ApiClient

from ptst_operator.children import sft
from ptst_operator.children.kind import ApiResource, ChildKind, PlannedChild
from ptst_operator.children.pods import metadata
from ptst_operator.children.state import ChildPhase, ChildState, waiting
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun
from visionr1.recipe import Phase

RESOURCE: Final = ApiResource("PyTorchJob", "kubeflow.org/v1", "pytorchjobs")
CONTAINER: Final = "pytorch"
_PORT: Final = 23456


def build(run: ResolvedRun, name: str, phase: Phase) -> Manifest:
    """The job of one attempt. It is never changed, because a running PyTorchJob ignores changes of its template.

    Its own restarts and deadlines are off, because the run's status counts attempts and times.
    """
    pod = sft.pod_template(run, phase, CONTAINER)
    pod["spec"]["containers"][0]["env"] += _rendezvous(name)
    queue = run.spec.queue_labels.get("volcano.sh/queue-name")  # the training-operator does not read Volcano's label
    job = models.KubeflowOrgV1PyTorchJob(
        api_version=RESOURCE.version,
        kind=RESOURCE.kind,
        metadata=metadata(run, name, phase.name, "sft"),
        spec=models.KubeflowOrgV1PyTorchJobSpec(
            nproc_per_node=str(sft.processes(run)),
            run_policy=models.KubeflowOrgV1RunPolicy(
                clean_pod_policy="Running",
                backoff_limit=0,
                scheduling_policy=models.KubeflowOrgV1SchedulingPolicy(queue=queue) if queue else None,
            ),
            pytorch_replica_specs={
                "Worker": models.KubeflowOrgV1ReplicaSpec(replicas=run.spec.sft.nodes, restart_policy="Never", template=pod)
            },
        ),
    )
    made: Manifest = ApiClient.sanitize_for_serialization(_SERIALISER, job)
    return made


def _rendezvous(name: str) -> list[Manifest]:
    """Variables for torchrun. The training-operator itself sets PET_NNODES and PET_NPROC_PER_NODE."""
    index = {"fieldRef": {"fieldPath": "metadata.labels['training.kubeflow.org/replica-index']"}}
    return [
        {"name": "PET_MASTER_ADDR", "value": f"{name}-worker-0"},
        {"name": "PET_MASTER_PORT", "value": str(_PORT)},
        {"name": "PET_NODE_RANK", "valueFrom": index},
    ]


def read(manifest: Mapping[str, Any]) -> ChildState:
    """Its phase, from the conditions that are true. Their order in the list means nothing: a resumed job lists Suspended last."""
    holds = {one["type"]: one for one in manifest.get("status", {}).get("conditions", []) if one.get("status") == "True"}
    for condition, phase in _ORDER:
        if condition in holds:
            one = holds[condition]
            return ChildState.of(manifest, phase, one.get("reason") or condition, one.get("message", ""))
    return waiting(manifest, "Restarting" if "Restarting" in holds else "Created")


_SERIALISER: Final = ApiClient()
_ORDER: Final[tuple[tuple[str, ChildPhase], ...]] = (
    ("Failed", "Failed"),
    ("Succeeded", "Succeeded"),
    ("Suspended", "Pending"),
    ("Running", "Running"),
)


def _children(run: ResolvedRun, planned: PlannedChild) -> tuple[Manifest, ...]:
    return (build(run, planned.name, planned.phase),)


KIND: Final = ChildKind(
    resource=RESOURCE,
    phases=("sft",),
    build=_children,
    read=read,
    pod_label="training.kubeflow.org/job-name",
    container=CONTAINER,
    comes_with="the training-operator v1",
)
