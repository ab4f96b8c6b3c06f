"""SFT as a PyTorchJob of the training-operator v1: one pod a node, torchrun in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubeflow.training import models
from kubernetes.client import ApiClient

from ptst_operator.children.phase import Child, ChildPhase, waiting
from ptst_operator.children.pods import Manifest, Owner, metadata, metrics_ports, template
from visionr1.recipe import Phase

CONTAINER: Final = "pytorch"


def build(owner: Owner, name: str, phase: Phase) -> Manifest:
    """The job of one attempt. It is never changed: a running PyTorchJob ignores changes of its template.

    Replicas are written out, since the webhook refuses a master without. Its own restarts and deadlines are off: attempts and
    times are counted in the run's status.
    """
    assert owner.recipe.sft is not None
    processes = owner.recipe.sft.processes
    pod = template(
        owner,
        owner.spec.sft.pods,
        phase.name,
        "sft",
        CONTAINER,
        processes,
        ["visionr1", "sft", "--run", owner.spec.storage.url],
        ports=metrics_ports(range(processes)),
    )
    queue = owner.spec.queue_labels.get("volcano.sh/queue-name")  # the training-operator does not read Volcano's label
    replica = {"Master": 1, "Worker": owner.spec.sft.nodes - 1}
    job = models.KubeflowOrgV1PyTorchJob(
        api_version="kubeflow.org/v1",
        kind="PyTorchJob",
        metadata=metadata(owner, name, phase.name, "sft"),
        spec=models.KubeflowOrgV1PyTorchJobSpec(
            nproc_per_node=str(processes),
            run_policy=models.KubeflowOrgV1RunPolicy(
                clean_pod_policy="Running",
                backoff_limit=0,
                scheduling_policy=models.KubeflowOrgV1SchedulingPolicy(queue=queue) if queue else None,
            ),
            pytorch_replica_specs={
                role: models.KubeflowOrgV1ReplicaSpec(replicas=count, restart_policy="Never", template=pod)
                for role, count in replica.items()
                if count
            },
        ),
    )
    made: Manifest = ApiClient.sanitize_for_serialization(_SERIALISER, job)
    return made


def read(manifest: Mapping[str, Any]) -> Child:
    """Its phase, by the conditions that hold, whatever their order: a resumed job lists Suspended last, with status False."""
    holds = {one["type"]: one for one in manifest.get("status", {}).get("conditions", []) if one.get("status") == "True"}
    for condition, phase in _ORDER:
        if condition in holds:
            said = holds[condition]
            return Child.of(manifest, phase, said.get("reason") or condition, said.get("message", ""))
    return waiting(manifest, "Restarting" if "Restarting" in holds else "Created")


_SERIALISER: Final = ApiClient()
_ORDER: Final[tuple[tuple[str, ChildPhase], ...]] = (
    ("Failed", "Failed"),
    ("Succeeded", "Succeeded"),
    ("Suspended", "Pending"),
    ("Running", "Running"),
)
