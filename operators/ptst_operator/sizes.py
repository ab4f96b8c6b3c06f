"""What the pod of each role asks for: GPUs from the recipe, CPUs and memory from the plan. Pure.

A number that the user gives stays. Only GPUs that are fewer than the recipe needs are refused: the pod would start, and fail.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from kubernetes.utils.quantity import parse_quantity

from ptst_operator.forecast import host_gib
from ptst_operator.names import Manifest
from ptst_operator.spec import Pods, Spec
from visionr1.recipe import PhaseKind, Recipe
from visionr1.recipe.document import merge

Role = Literal["coldstart", "describer", "reasoner", "sft", "head", "worker", "evaluate"]

NVIDIA: Final = "nvidia.com/gpu"
_ACCELERATORS: Final = re.compile(r"nvidia\.com/(gpu(\.shared)?|mig-.+)|amd\.com/gpu|habana\.ai/gaudi|huawei\.com/Ascend.+")
_PLACES: Final[dict[Role, str]] = {
    "coldstart": "coldstart.pods",
    "describer": "coldstart.workers",
    "reasoner": "coldstart.workers",
    "sft": "sft.pods",
    "head": "grpo.head",
    "worker": "grpo.workers",
    "evaluate": "evaluate.pods",
}
_WHY: Final[dict[Role, str]] = {
    "describer": "a worker has as many (coldstart.describer.workers.tensor_parallel)",
    "reasoner": "a worker has as many (coldstart.reasoner.workers.tensor_parallel)",
    "sft": "a pod has as many ranks (sft.processes)",
    "worker": "a pod has as many workers (spec.grpo.workersPerPod)",
    "evaluate": "it has evaluation.workers engines, each divided over the GPUs of the last stage's (tensor_parallel)",
}
_TEACHERS: Final[tuple[Role, ...]] = ("describer", "reasoner")
_GIB: Final = 2**30
_LEAST_STORE: Final = 256 * 2**20
_MOST_STORE: Final = 8 * _GIB
"""Rows and completions of a step go through Ray's object store: rarely more than a few hundred MB."""
_LIMIT: Final = 2.0
"""Memory limit by the memory that is expected. Only a leak reaches it."""
_UNPLANNED_GIB: Final = 32.0
"""Expected memory of one process with a GPU, for a model whose sizes are not known."""
_INIT: Final = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "4", "memory": "4Gi"}}


def pods_of(spec: Spec, role: Role) -> Pods:
    """The pods of a role: its own values replace the values for all roles."""
    lower = spec.pods.model_dump(by_alias=True, exclude_unset=True)
    return Pods.model_validate(merge(lower, _own(spec, role).model_dump(by_alias=True, exclude_unset=True)))


def gpus_of(spec: Spec, recipe: Recipe, role: Role) -> int:
    """GPUs of a role's pod: what the recipe needs, or more if the user gives more. 0 for a recipe that runs on CPUs."""
    needed = _needed(spec, recipe, role)
    given, _ = _given(spec, role)
    return max(needed, int(given or 0)) if _with_gpus(recipe) else 0


def size_faults(spec: Spec, recipe: Recipe) -> list[str]:
    """One line for each role whose pod is given fewer GPUs than it needs, or GPUs of another kind than `gpuResource`."""
    if not _with_gpus(recipe):
        return []
    lines = []
    for role, place in _PLACES.items():
        pods, (given, where) = pods_of(spec, role), _given(spec, role)
        needed, name = _needed(spec, recipe, role), pods.gpu_resource or NVIDIA
        other = sorted(key for key in _named(pods) if key != name and _ACCELERATORS.fullmatch(key))
        if needed and other:
            lines.append(f"spec.{place}: resources name {other[0]}, but the GPUs are {name}: set gpuResource to {other[0]}")
        elif given is not None and not given.isdecimal():
            lines.append(f"spec.{where}.resources: {given} {name} is not a whole number of GPUs")
        elif given is not None and int(given) < needed:
            lines.append(
                f"spec.{where}.resources: {given} {name} for a pod that needs {needed}: {_WHY[role]}; leave the number out, or "
                f"give {needed} or more"
            )
    return list(dict.fromkeys(lines))


def resources_of(spec: Spec, recipe: Recipe, role: Role) -> Manifest:
    """Requests and limits of a role's container. CPUs or memory that the user names in either of them are left to the user."""
    pods = pods_of(spec, role)
    name = pods.gpu_resource or NVIDIA
    given = {part: dict(values) for part, values in pods.resources.items()}
    if _with_gpus(recipe):
        for values in (given.get("requests", {}), given.get("limits", {})):
            values.pop(name, None)
        if gpus := gpus_of(spec, recipe, role):
            given.setdefault("limits", {})[name] = gpus
    named = _named(pods)
    for part, values in _expected(spec, recipe, role).items():
        ours = {key: value for key, value in values.items() if key not in named}
        given[part] = {**ours, **given.get(part, {})}
    return {part: values for part, values in given.items() if values}


def shared_memory_of(spec: Spec, recipe: Recipe, role: Role) -> str | None:
    """Size of a pod's /dev/shm. An evaluation with several engines has a Ray of its own, which does not start with 64 MiB."""
    pods = pods_of(spec, role)
    mounted = any(str(mount.get("mountPath", "")).rstrip("/") == "/dev/shm" for mount in pods.volume_mounts)  # noqa: S108
    if pods.shared_memory or mounted or role != "evaluate" or recipe.evaluation.workers == 1:
        return pods.shared_memory
    return f"{1 + _needed(spec, recipe, role)}Gi"  # for Ray's objects, and for what the processes of each GPU exchange


def of_init_container(container: Mapping[str, Any]) -> Manifest:
    """Resources of a user's init container. Without any, a quota would refuse its pod."""
    resources: Manifest = container.get("resources") or _INIT
    return resources


def ray_parameters(spec: Spec, recipe: Recipe, role: Role, resources: Manifest) -> dict[str, str]:
    """What a pod has for Ray, so that neither KubeRay nor Ray counts the node's CPUs or guesses a GPU by its name.

    Ray starts one process for each CPU that an actor takes, and a worker takes one CPU and one GPU. A teacher's worker takes one
    CPU and the GPUs of its engine. A head has neither.
    """
    gpus = _needed(spec, recipe, role) if role in ("worker", *_TEACHERS) else 0
    workers = 1 if role in _TEACHERS else gpus
    shared = shared_memory_of(spec, recipe, role)
    store = min(_MOST_STORE, int(parse_quantity(shared)) // 2) if shared else _LEAST_STORE
    sizes = {**resources.get("requests", {}), **resources.get("limits", {})}
    memory = int(parse_quantity(sizes["memory"])) if "memory" in sizes else _GIB
    return {
        "num-cpus": str(workers),
        "num-gpus": str(gpus if _with_gpus(recipe) else 0),
        "memory": str(max(memory - store, _LEAST_STORE)),
        "object-store-memory": str(max(store, _LEAST_STORE)),
    }


def _with_gpus(recipe: Recipe) -> bool:
    return recipe.rollout.device != "cpu"


def _own(spec: Spec, role: Role) -> Pods:
    match role:
        case "coldstart":
            return spec.coldstart.pods
        case "describer" | "reasoner":
            return spec.coldstart.workers
        case "sft":
            return spec.sft.pods
        case "head":
            return spec.grpo.head
        case "worker":
            return spec.grpo.workers
        case "evaluate":
            return spec.evaluate.pods


def _needed(spec: Spec, recipe: Recipe, role: Role) -> int:
    match role:
        case "describer" | "reasoner":
            in_job = recipe.coldstart.in_job if recipe.coldstart is not None else {}
            return in_job[role][1].tensor_parallel if role in in_job else 0
        case "sft":
            return recipe.sft.processes if recipe.sft is not None else 0
        case "worker":
            return spec.grpo.workers_per_pod if recipe.stages else 0
        case "evaluate":
            return recipe.evaluation.workers * (recipe.stages[-1].tensor_parallel if recipe.stages else 1)
        case _:
            return 0


def _given(spec: Spec, role: Role) -> tuple[str | None, str]:
    """How many GPUs the user gives a role's pod, and where. For all pods counts only for the roles that need one."""
    name = pods_of(spec, role).gpu_resource or NVIDIA
    own = _count(_own(spec, role), name)
    if own is not None or role in ("head", "coldstart"):
        return own, _PLACES[role]
    return _count(spec.pods, name), "pods"


def _count(pods: Pods, name: str) -> str | None:
    counts = [str(values[name]) for values in pods.resources.values() if name in values]
    return counts[0] if counts else None


def _named(pods: Pods) -> set[str]:
    return {key for values in pods.resources.values() for key in values}


def _expected(spec: Spec, recipe: Recipe, role: Role) -> dict[str, dict[str, str]]:
    """CPUs and memory of a pod. With GPUs its memory is planned, with the whole of /dev/shm, which counts as its memory."""
    whole = shared_memory_of(spec, recipe, role)
    shared = float(parse_quantity(whole)) / _GIB if whole else 0.0
    sft = recipe.sft.processes if recipe.sft else 1
    alike = {"sft": sft, "worker": spec.grpo.workers_per_pod, "evaluate": recipe.evaluation.workers}
    processes = max(1, alike.get(role, 1))
    if not _with_gpus(recipe):
        return _sizes(0.5 * processes, 4.0 * processes, 1.0 * processes, 64.0 * processes + shared)
    gpus = _needed(spec, recipe, role)
    if not gpus:
        return _sizes(2.0, 16.0, 16.0, 64.0 + shared)
    kind: PhaseKind = "grpo" if role == "worker" else "sft" if role == "sft" else "evaluate"
    planned = None if role in _TEACHERS else host_gib(spec, recipe, kind)
    memory = planned if planned is not None else _UNPLANNED_GIB * gpus
    return _sizes(4.0 * gpus, 16.0 * gpus, memory + shared, _LIMIT * memory + shared)


def _sizes(cpus: float, most_cpus: float, gib: float, most_gib: float) -> dict[str, dict[str, str]]:
    return {
        "requests": {"cpu": f"{cpus:g}", "memory": f"{math.ceil(gib)}Gi"},
        "limits": {"cpu": f"{most_cpus:g}", "memory": f"{math.ceil(most_gib)}Gi"},
    }
