"""Rules between values of a run's spec, in CEL: the API server refuses a run in which they disagree, with the rule's message.

The chart checks the same when it is rendered (`templates/_checks.tpl`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

ROLES: Final = (
    *(("sft", "pods"), ("grpo", "head"), ("grpo", "workers")),
    *(("coldstart", "pods"), ("coldstart", "workers"), ("evaluate", "pods")),
)
"""Where the spec has pods of one role: the rules of the definition, and the chart's, hold for each."""
QUEUES: Final = ("kueue.x-k8s.io/queue-name", "volcano.sh/queue-name", "kai.scheduler/queue")
"""Labels that name a queue."""
_ROLES: Final = tuple(f"self.{part}.{role}" for part, role in ROLES)
RAY_AUTH: Final = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables by which a run could open its Ray cluster to everybody who reaches it."""
OWN_LABELS: Final = (
    *("visionr1.io/", "ray.io/", "app.kubernetes.io/", "batch.kubernetes.io/"),
    *("training.kubeflow.org/", "jobset.sigs.k8s.io/"),
)
"""How the labels begin by which policies, monitors and controllers know which run a pod belongs to."""
_PODS: Final = ("self.pods", *_ROLES)
_S3: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_OWN_VOLUMES: Final = ("scratch", "run", "shared-memory")
_MOST_ITEMS: Final = 64
_LONGEST_VARIABLE: Final = 131_072
"""Linux takes no longer one."""


def rule(rule: str, message: str) -> Schema:
    """One entry of `x-kubernetes-validations`."""
    return {"rule": rule, "message": message}


def agreement() -> list[Schema]:
    """Rules of the whole spec."""
    return [*_claim_path(), _images(), *_queue(), *_elastic(), *_one_s3()]


def with_pod_rules(pods: Schema) -> Schema:
    """The schema of one role's pods with the rules that need no other part of the spec."""
    properties = dict(pods["properties"])
    properties["volumes"] = _named(properties["volumes"], "name")
    properties["volumeMounts"] = _named(properties["volumeMounts"], "mountPath")
    properties["env"] = {**properties["env"], "additionalProperties": {"type": "string", "maxLength": _LONGEST_VARIABLE}}
    properties["labels"] = {**properties["labels"], "maxProperties": _MOST_ITEMS}
    return {**pods, "properties": properties, "x-kubernetes-validations": list(_pods())}


def _named(items: Schema, key: str) -> Schema:
    """A list of parts of a pod, in which a rule can read this key; the definition leaves the other keys to the API server."""
    entry = {**items["items"], "properties": {key: {"type": "string", "maxLength": 4096, "description": "As in a pod."}}}
    return {**items, "maxItems": _MOST_ITEMS, "items": entry}


def _pods() -> Iterator[Schema]:
    yield rule(
        f"!has(self.volumes) || self.volumes.all(v, !has(v.name) || !(v.name in {_list(_OWN_VOLUMES)}))",
        f"a volume has the name of one that every pod of a run has ({', '.join(_OWN_VOLUMES)}): give it another name",
    )
    yield rule(
        "!has(self.volumeMounts) || self.volumeMounts.all(m, !has(m.mountPath) || (m.mountPath != '/tmp' && "
        "(m.mountPath != '/dev/shm' || !has(self.sharedMemory))))",
        "a volume is mounted at /tmp, or at /dev/shm beside sharedMemory, where pods have their own volume: choose another path",
    )
    yield rule(
        f"!has(self.labels) || !{_list(QUEUES)}.exists(k, k in self.labels)",
        "a queue's label is in the labels of pods: put it in spec.queueLabels, so that the whole job waits and not each pod",
    )
    yield rule(
        f"!has(self.labels) || !self.labels.exists(k, {_list(OWN_LABELS)}.exists(p, k.startsWith(p)))",
        f"a label of pods begins with one of {', '.join(OWN_LABELS)}, which the operator or Kubernetes sets: remove it",
    )
    for name in RAY_AUTH:
        yield rule(
            f"(!has(self.env) || !('{name}' in self.env)) && (!has(self.envValueFrom) || !('{name}' in self.envValueFrom))",
            f"{name} is set by KubeRay, so that Ray asks for a token: remove it",
        )
    for name in _S3:
        yield rule(
            f"!has(self.env) || !('{name}' in self.env) || self.env['{name}'] == '' || self.env['{name}'].contains('://')",
            f"{name} has no scheme, which S3's libraries need: write http:// or https:// before the host",
        )
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        lower = name.lower()
        yield rule(
            f"!has(self.env) || !('{name}' in self.env) || !('{lower}' in self.env) || self.env['{name}'] == self.env['{lower}']",
            f"env has {name} and {lower} with different values: some programs read one and some the other; give both one value",
        )


def _claim_path() -> Iterator[Schema]:
    clashes = " && ".join(
        f"(!({_has(f'{pods}.volumeMounts')}) || {pods}.volumeMounts.all(m, !has(m.mountPath) || "
        "m.mountPath != self.storage.claim.mountPath))"
        for pods in _PODS
    )
    yield rule(
        f"!has(self.storage.claim) || ({clashes})",
        "a volume is mounted at spec.storage.claim.mountPath, where the volume of the run directory is: choose another path",
    )


def _images() -> Schema:
    head, workers = (
        f"({_has(f'self.grpo.{role}.image')} ? self.grpo.{role}.image : (has(self.pods.image) ? self.pods.image : ''))"
        for role in ("head", "workers")
    )
    return rule(
        f"{head}.contains('@') || {workers}.contains('@') || {head}.replace('-cpu', '') == {workers}.replace('-cpu', '')",
        "spec.grpo.head and spec.grpo.workers have images of different versions: the pods of one RayCluster need the same one "
        "(they may differ in -cpu at the end)",
    )


def _queue() -> Iterator[Schema]:
    yield rule(
        f"!has(self.queueLabels) || {_list(QUEUES)}.filter(k, k in self.queueLabels).size() < 2",
        f"spec.queueLabels names more than one queue ({', '.join(QUEUES)}): keep one of them",
    )
    yield rule(
        "!has(self.queueLabels) || !('kueue.x-k8s.io/priority-class' in self.queueLabels) || "
        "'kueue.x-k8s.io/queue-name' in self.queueLabels",
        "spec.queueLabels has kueue.x-k8s.io/priority-class without kueue.x-k8s.io/queue-name: Kueue ignores the run",
    )
    # KubeRay 1.5 to 1.7: "gang scheduling does not support RayJob referencing an existing RayCluster", at every try.
    yield rule(
        "!has(self.queueLabels) || !('volcano.sh/queue-name' in self.queueLabels) || "
        f"({_has('self.grpo.cluster')} && self.grpo.cluster == 'per-stage')",
        "spec.queueLabels has volcano.sh/queue-name, and for Volcano KubeRay starts no job on a shared RayCluster: "
        "set spec.grpo.cluster to per-stage",
    )


def _elastic() -> Iterator[Schema]:
    elastic = _has("self.grpo.minWorkers")
    yield rule(
        f"!({elastic}) || ((!has(self.grpo.cluster) || self.grpo.cluster == 'shared') && "
        "(!has(self.queueLabels) || self.queueLabels.size() == 0))",
        "spec.grpo.minWorkers needs grpo.cluster: shared and no queueLabels: a queue lets in all pods or none, as KubeRay does "
        "with a RayJob's own cluster",
    )
    yield rule(
        f"!({elastic}) || !({_has('self.deadlines.pendingSeconds')}) || "
        "self.deadlines.workersSeconds < self.deadlines.pendingSeconds",
        "spec.deadlines.workersSeconds must be less than pendingSeconds, which ends the attempt",
    )


def _one_s3() -> Iterator[Schema]:
    for name in _S3:
        same = f"has(self.pods.env) && '{name}' in self.pods.env && self.pods.env['{name}']"
        yield rule(
            " && ".join(
                f"(!({_has(f'{pods}.env')}) || !('{name}' in {pods}.env) || ({same} == {pods}.env['{name}']))" for pods in _ROLES
            ),
            f"a role's env has another {name} than spec.pods.env: all pods use one run directory; set it in spec.pods.env",
        )


def _has(path: str) -> str:
    """Whether a value and everything above it is there."""
    parts = path.split(".")
    return " && ".join(f"has({'.'.join(parts[:count])})" for count in range(2, len(parts) + 1))


def _list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"
