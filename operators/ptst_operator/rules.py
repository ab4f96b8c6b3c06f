"""Rules between values of a run's spec, in CEL: the API server refuses a run in which they disagree, with the rule's message.

The chart checks the same when it is rendered (`templates/_checks.tpl`, `templates/run/_checks.tpl`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
_TMP: Final = "/tmp"  # noqa: S108 - a path in pods
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - as above
_LONGEST_NAME: Final = 63
"""Kubernetes takes no volume with a longer name."""
_LONGEST_PATH: Final = 1024
"""The API server refuses rules over longer texts: they could cost too much."""
_MOST_ITEMS: Final = 64
_LONGEST_VARIABLE: Final = 131_072
"""Linux takes no longer one."""


def rule(rule: str, message: str) -> Schema:
    """One entry of `x-kubernetes-validations`."""
    return {"rule": rule, "message": message}


def agreement() -> list[Schema]:
    """Rules of the whole spec."""
    return [*_claim_path(), *_mounts(), _images(), *_queue(), *_elastic(), *_one_s3()]


def with_pod_rules(pods: Schema) -> Schema:
    """The schema of one role's pods with the rules that need no other part of the spec."""
    properties = dict(pods["properties"])
    properties["volumes"] = _keyed(properties["volumes"], name=_LONGEST_NAME)
    properties["volumeMounts"] = _keyed(properties["volumeMounts"], name=_LONGEST_NAME, mountPath=_LONGEST_PATH)
    properties["env"] = {**properties["env"], "additionalProperties": {"type": "string", "maxLength": _LONGEST_VARIABLE}}
    properties["labels"] = {**properties["labels"], "maxProperties": _MOST_ITEMS}
    return {**pods, "properties": properties, "x-kubernetes-validations": list(_pods())}


def _keyed(items: Schema, **longest: int) -> Schema:
    """A list of parts of a pod, in which a rule can read these keys; the definition leaves the other keys to the API server."""
    keys = {key: {"type": "string", "maxLength": most, "description": "As in a pod."} for key, most in longest.items()}
    return {**items, "maxItems": _MOST_ITEMS, "items": {**items["items"], "properties": keys}}


def _pods() -> Iterator[Schema]:
    yield rule(
        f"!has(self.volumes) || self.volumes.all(v, !has(v.name) || !(v.name in {_list(_OWN_VOLUMES)}))",
        f"a volume has the name of one that every pod of a run has ({', '.join(_OWN_VOLUMES)}): give it another name",
    )
    yield rule(
        "!has(self.volumes) || self.volumes.all(v, has(v.name) && self.volumes.exists_one(w, has(w.name) && w.name == v.name))",
        "two volumes have one name, or one has none: give each volume a name of its own",
    )
    yield rule(
        f"!has(self.volumeMounts) || self.volumeMounts.all(m, !has(m.mountPath) || !({_is('m.mountPath', _TMP)}))",
        f"a volume is mounted at {_TMP}, where every pod of a run has its own volume: choose another path",
    )
    yield rule(
        "!has(self.volumeMounts) || self.volumeMounts.all(m, has(m.mountPath) && "
        f"self.volumeMounts.exists_one(n, has(n.mountPath) && ({_same('n.mountPath', 'm.mountPath')})))",
        "two volumes are mounted at one path, or a mount has no mountPath: give each mount a path of its own",
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
    claim = "self.storage.claim.mountPath"
    taken = " || ".join(_is(claim, path) for path in ("", _TMP, _SHARED_MEMORY))
    yield rule(
        f"!has(self.storage.claim) || !({taken})",
        f"spec.storage.claim.mountPath is /, {_TMP} or {_SHARED_MEMORY}, where every pod has something else: "
        "choose another path, such as /runs",
    )
    clashes = " && ".join(
        f"(!({_has(mounts)}) || {mounts}.all(m, !has(m.mountPath) || !({_same('m.mountPath', claim)})))"
        for mounts in (f"{pods}.volumeMounts" for pods in _PODS)
    )
    yield rule(
        f"!has(self.storage.claim) || ({clashes})",
        "a volume is mounted at spec.storage.claim.mountPath, where the volume of the run directory is: choose another path",
    )


def _mounts() -> Iterator[Schema]:
    """Rules for the mounts of a role with its other values: what it leaves out, it has from spec.pods (`sizes.pods_of`)."""
    taken = _is("m.mountPath", _SHARED_MEMORY)
    yield rule(
        " && ".join(_with_volumes(pods) for pods in _PODS),
        "volumeMounts name a volume that volumes do not have: add it there (a role's own list takes the place of spec.pods')",
    )
    yield rule(
        " && ".join(
            f"(!({_either(pods, 'sharedMemory')}) || "
            + _of(pods, "volumeMounts", lambda mounts: f"{mounts}.all(m, !has(m.mountPath) || !({taken}))", "true")
            + ")"
            for pods in _PODS
        ),
        f"a volume is mounted at {_SHARED_MEMORY} beside sharedMemory, which is there: choose another path",
    )


def _with_volumes(pods: str) -> str:
    """Whether each mount of these pods has its volume."""

    def named(mounts: str) -> str:
        return _of(
            pods,
            "volumes",
            lambda volumes: f"{mounts}.all(m, has(m.name) && {volumes}.exists(v, has(v.name) && v.name == m.name))",
            f"{mounts}.size() == 0",
        )

    return _of(pods, "volumeMounts", named, "true")


def _of(pods: str, key: str, made: Callable[[str], str], absent: str) -> str:
    """An expression of the list that these pods have: their own, else that of spec.pods, else `absent`.

    The lists have different types, of which CEL takes no choice: the choice is between whole expressions.
    """
    places = dict.fromkeys((pods, "self.pods"))
    return "(" + "".join(f"{_has(f'{place}.{key}')} ? {made(f'{place}.{key}')} : " for place in places) + absent + ")"


def _either(pods: str, key: str) -> str:
    """Whether these pods have a value, of their own or from spec.pods."""
    return " || ".join(f"({_has(f'{place}.{key}')})" for place in dict.fromkeys((pods, "self.pods")))


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


def _is(path: str, other: str) -> str:
    """Whether a path is this one, with or without a slash at its end."""
    return f"{path} == '{other}' || {path} == '{other}/'"


def _same(one: str, other: str) -> str:
    """Whether two paths are the same, with or without a slash at their ends."""
    return f"{one} == {other} || {one} == {other} + '/' || {one} + '/' == {other}"


def _has(path: str) -> str:
    """Whether a value and everything above it is there."""
    parts = path.split(".")
    return " && ".join(f"has({'.'.join(parts[:count])})" for count in range(2, len(parts) + 1))


def _list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"
