"""Pod templates of all children. They keep the rules of PodSecurity's *restricted* profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ptst_operator.names import API_VERSION, KIND, PHASE_LABEL, ROLE_LABEL, RUN_LABEL, Manifest
from ptst_operator.run import ResolvedRun
from ptst_operator.sizes import Role, of_init_container, pods_of, resources_of, shared_memory_of
from ptst_operator.spec import METRICS_PORT, Pods
from visionr1.preflight.machine import direct_names

_SCRATCH: Final = ("scratch", "/tmp")  # noqa: S108 - an empty volume of the pod's own
_RESTRICTED: Final = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
_HOME: Final = "/tmp/home"  # noqa: S108 - HOME on that volume: the root file system cannot be written


def labels(run: ResolvedRun, phase: str, role: str) -> dict[str, str]:
    """Labels by which a run's pods are found: by network policies, monitors and people."""
    return {
        "app.kubernetes.io/name": "visionr1-ptst",
        "app.kubernetes.io/instance": run.name,
        "app.kubernetes.io/component": role,
        "app.kubernetes.io/part-of": "visionr1-ptst",
        "app.kubernetes.io/managed-by": "ptst-operator",
        RUN_LABEL: run.name,
        PHASE_LABEL: phase,
        ROLE_LABEL: role,
    }


def metadata(run: ResolvedRun, name: str, phase: str, role: str, queued: bool = True) -> Manifest:
    """Metadata of a child. Its owner is the run, so it is deleted with the run.

    Args:
        queued: whether it gets the labels for a queue, because it creates pods.
    """
    return {
        "name": name,
        "namespace": run.namespace,
        "labels": {**(run.spec.queue_labels if queued else {}), **labels(run, phase, role)},
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": run.name,
                "uid": run.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def volcano_queue(run: ResolvedRun) -> dict[str, str]:
    """The annotation of Volcano's queue, if the run is in one. KubeRay reads the label instead.

    Volcano's own controller reads it from pods, Kubeflow Trainer from the template of a TrainingRuntime.
    """
    queue = run.spec.queue_labels.get("volcano.sh/queue-name")
    return {"scheduling.volcano.sh/queue-name": queue} if queue else {}


def metrics_ports(places: Iterable[int]) -> dict[str, int]:
    """Where the processes of a pod serve /metrics: `run-metrics` for place 0, `run-metrics-3` for place 3.

    Place 0 is a driver, the first SFT rank of a pod, or the only process of a pod. GRPO's workers have places 1, 2, ...
    """
    return {f"run-metrics-{place}" if place else "run-metrics": METRICS_PORT + place for place in places}


def template(
    run: ResolvedRun,
    phase: str,
    role: Role,
    container: str,
    command: list[str] | None,
    env: Mapping[str, str] = {},
    ports: Mapping[str, int] | None = None,
) -> Manifest:
    """A pod template with one container. Pods of Ray have no command here, because KubeRay adds it.

    Istio and Linkerd are asked for no sidecar: it would not end with the run's container, and it knows nothing of random ports.

    Args:
        env: Variables that the role needs. A variable of the user with the same name replaces it.
        ports: Named ports. Default: one port for metrics.
    """
    pods = pods_of(run.spec, role)
    volumes, mounts = _volumes(run, pods, shared_memory_of(run.spec, run.recipe, role))
    variables = {"HOME": _HOME, **env, **pods.env, **direct_names(pods.env)}
    main: Manifest = {
        "name": container,
        "image": pods.image,
        "imagePullPolicy": pods.image_pull_policy or "IfNotPresent",
        "env": _variables(variables, pods.env_value_from),
        "envFrom": pods.env_from,
        "resources": resources_of(run.spec, run.recipe, role),
        "volumeMounts": mounts,
        "securityContext": _RESTRICTED,
    }
    named = metrics_ports([0]) if ports is None else ports
    main["ports"] = [{"name": name, "containerPort": port} for name, port in named.items()]
    if command:
        main["command"] = command
    user = (1000 if pods.run_as_user is None else pods.run_as_user) or None
    spec: Manifest = {
        "containers": [_filled(main)],
        # A second container must be an init container: a Job with two ordinary containers would not end with the first.
        "initContainers": [_init(one) for one in pods.init_containers],
        "volumes": volumes,
        "imagePullSecrets": pods.image_pull_secrets,
        "nodeSelector": pods.node_selector,
        "tolerations": pods.tolerations,
        "affinity": pods.affinity,
        "topologySpreadConstraints": pods.topology_spread_constraints,
        "priorityClassName": pods.priority_class_name,
        "schedulerName": pods.scheduler_name,
        "runtimeClassName": pods.runtime_class_name,
        "serviceAccountName": pods.service_account_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": run.spec.deadlines.stop_seconds,
        "securityContext": _filled(
            {
                "runAsNonRoot": True,
                "runAsUser": user,
                "runAsGroup": user,
                "fsGroup": pods.fs_group or user,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        ),
    }
    meta = {
        "labels": {"sidecar.istio.io/inject": "false", **pods.labels, **labels(run, phase, role)},
        "annotations": {"linkerd.io/inject": "disabled", **volcano_queue(run), **pods.annotations},
    }
    return {"metadata": _filled(meta), "spec": _filled(spec)}


def _variables(env: Mapping[str, str], value_from: Mapping[str, Manifest]) -> list[Manifest]:
    """The variables of a container. One from a Secret, a ConfigMap or the pod takes the place of one with a value.

    It comes first: `$(NAME)` in a value stands only for a variable that is defined before.
    """
    given = [{"name": name, "value": value} for name, value in env.items() if name not in value_from]
    return [*({"name": name, "valueFrom": source} for name, source in value_from.items()), *given]


def _init(container: Manifest) -> Manifest:
    return {"securityContext": _RESTRICTED, **container, "resources": of_init_container(container)}


def _volumes(run: ResolvedRun, pods: Pods, shared_memory: str | None) -> tuple[list[Manifest], list[Manifest]]:
    volumes: list[Manifest] = [{"name": _SCRATCH[0], "emptyDir": {"sizeLimit": pods.scratch or "512Gi"}}, *pods.volumes]
    mounts: list[Manifest] = [{"name": _SCRATCH[0], "mountPath": _SCRATCH[1]}, *pods.volume_mounts]
    if shared_memory:
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108
    claim = run.spec.storage.claim
    if claim:
        volumes.append({"name": "run", "persistentVolumeClaim": {"claimName": claim.name}})
        mounts.append({"name": "run", "mountPath": claim.mount_path})
    return volumes, mounts


def _filled(node: Manifest) -> Manifest:
    """The mapping without empty values: with server-side apply, an empty value would own a field that others may set."""
    return {key: value for key, value in node.items() if value is not None and value != {} and value != []}
