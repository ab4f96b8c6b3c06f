"""What the definition refuses in a PTSTRun, Helm refuses in the values: the API server would say it when half of all is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chart import Values, manifests, refusal, the
from ptst_operator.crd import definition, recipe_schema
from ptst_operator.rules import OWN_LABELS, RAY_AUTH
from ptst_operator.spec import Spec

from visionr1.recipe.document import merge

DATA: dict[str, Any] = {"name": "data", "emptyDir": {}}


def mounted(*paths: str) -> Values:
    return {"volumes": [DATA], "volumeMounts": [{"name": "data", "mountPath": path} for path in paths]}


NO_VOLUMES: tuple[Values, ...] = ({}, {"volumes": []})


def claim(path: str) -> Values:
    """Of the release and of the run."""
    url = f"{path.rstrip('/')}/run"
    return {"claim": {"mountPath": path}, "run": {"storage": {"url": url, "claim": {"mountPath": path}}}}


def stages(*sizes: tuple[int, int]) -> list[Values]:
    return [{"max_completion_tokens": tokens, "group_size": group, "steps": 10} for tokens, group in sizes]


OF_A_RUN: dict[str, tuple[Values, str] | list[tuple[Values, str]]] = {
    "set one of spec.recipe (the recipe itself) and": [
        (
            {"run": {"recipe": {"preset": "demo"}, "recipeFrom": {"configMap": "c"}}},
            "run.recipe and run.recipeFrom are both there",
        ),
        ({"run": {"recipe": None}}, "run.recipe is empty"),
    ],
    "spec.pods.image is missing": ({"run": {"pods": {"image": None}}}, "run.pods.image is missing"),
    "PTST keeps max_completion_tokens x group_size": (
        {"run": {"recipe": {"stages": stages((4096, 16), (8192, 16))}}},
        "run.recipe.stages have max_completion_tokens x group_size of 65536, 131072",
    ),
    "a gate needs min, max or both": [
        ({"run": {"gates": [{"metric": "kl_mean"}]}}, "run.gates[0] has no bound"),
        (
            {"run": {"gates": [{"metric": "kl_mean", "max": 1}, {"metric": "kl_mean", "min": None}]}},
            "run.gates[1] has no bound",
        ),
    ],
    "a gate's min is larger than its max": (
        {"run": {"gates": [{"metric": "kl_mean", "min": 0.5, "max": 0}]}},
        "run.gates[0] has min 0.5, which is larger than its max 0",
    ),
    "a gate's rollbackTo needs action": [
        (
            {"run": {"gates": [{"metric": "kl_mean", "max": 1, "rollbackTo": "stage-1/step-5", **action}]}},
            "run.gates[0] has rollbackTo without action Rollback",
        )
        for action in ({}, {"action": "Stop"})
    ],
    "spec.storage.url must not contain '..'": [
        ({"run": {"storage": {"url": url}}}, f"run.storage.url is {url}: write the path without '..'")
        for url in ("/runs/../x", "/runs/x/..", "s3://b/../x")
    ],
    "spec.storage.url is a path: name its volume": [
        ({"run": {"storage": {"url": "/other/run"}}}, "the url must be a path below it"),
        ({"run": {"storage": {"claim": None}}}, "run.storage.claim names no volume"),
    ],
    "spec.storage.claim.mountPath is /, /tmp or /dev/shm": [
        (claim(path), f"claim.mountPath is {path}, where every pod has something else")
        for path in ("/tmp", "/tmp/", "/dev/shm", "/dev/shm/", "/")
    ],
    "spec.grpo.head and spec.grpo.workers have images": (
        {"run": {"grpo": {"head": {"image": "trainer:2"}}}},
        "run.grpo.head has the image trainer:2",
    ),
    "spec.queueLabels names more than one queue": (
        {"run": {"queueLabels": {"kueue.x-k8s.io/queue-name": "a", "kai.scheduler/queue": "b"}}},
        "run.queueLabels has kueue.x-k8s.io/queue-name and kai.scheduler/queue",
    ),
    "spec.queueLabels has kueue.x-k8s.io/priority-class": (
        {"run": {"queueLabels": {"kueue.x-k8s.io/priority-class": "a"}}},
        "without kueue.x-k8s.io/queue-name",
    ),
    "spec.queueLabels has volcano.sh/queue-name": (
        {"run": {"queueLabels": {"volcano.sh/queue-name": "a"}}},
        "for Volcano KubeRay starts no job on a shared RayCluster: set run.grpo.cluster to per-stage",
    ),
    "spec.grpo.minWorkers needs": (
        {"run": {"grpo": {"minWorkers": 4, "cluster": "per-stage"}}},
        "run.grpo.minWorkers needs run.grpo.cluster shared",
    ),
    "spec.deadlines.workersSeconds must be less": (
        {"run": {"grpo": {"minWorkers": 4}, "deadlines": {"pendingSeconds": 600}}},
        "run.deadlines.workersSeconds (600 if you do not set it) must be less than pendingSeconds",
    ),
    **{
        f"a role's env has another {name} than": [
            ({"run": {"sft": {"pods": {"env": {name: value}}}}}, f"run.sft.pods.env.{name} is {value}")
            for value in ("http://b", "")
        ]
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    },
    "metadata.name must have at most": ({"run": {"name": "1a"}}, "run.name is"),
}
"""Beginning of a rule's message, the values that break it, and what Helm says of them."""
OF_PODS: dict[str, list[tuple[Values, str]]] = {
    "a volume has the name of one that every pod": [
        ({"volumes": [{**DATA, "name": name}]}, f"has a volume called {name}") for name in ("scratch", "run", "shared-memory")
    ],
    "two volumes have one name": [
        ({"volumes": [DATA, DATA]}, "volumes has two volumes called data"),
        ({"volumes": [{"emptyDir": {}}]}, "volumes has an entry without name"),
    ],
    "a volume is mounted at /tmp": [(mounted(path), f"mounts data at {path}") for path in ("/tmp", "/tmp/")],
    "two volumes are mounted at one path": [
        (mounted("/a", "/a/"), "mounts data at /a/, where something else is mounted already"),
        (mounted("/a") | {"volumeMounts": [{"name": "data"}]}, "volumeMounts has an entry without mountPath"),
    ],
    "a volume is mounted at spec.storage.claim.mountPath": [
        (mounted(path), f"mounts data at {path}") for path in ("/runs", "/runs/")
    ],
    "volumeMounts name a volume that volumes do not have": [
        ({"volumeMounts": mounted("/a")["volumeMounts"], **own}, "names the volume data, which") for own in NO_VOLUMES
    ],
    "a volume is mounted at /dev/shm": [({**mounted("/dev/shm/"), "sharedMemory": "1Gi"}, "mounts data at /dev/shm/")],
    "a queue's label is in the labels of pods": [({"labels": {"kai.scheduler/queue": "a"}}, "labels has kai.scheduler/queue")],
    "a label of pods begins with one of": [
        ({"labels": {f"{prefix}x": "a"}}, f"labels has {prefix}x, which tells which run") for prefix in OWN_LABELS
    ],
    **{
        f"{name} is set by KubeRay": [
            ({"env": {name: "x"}}, f"env has {name}, which KubeRay sets"),
            (
                {"envValueFrom": {name: {"secretKeyRef": {"name": "a", "key": "b"}}}},
                f"envValueFrom has {name}, which KubeRay sets",
            ),
        ]
        for name in RAY_AUTH
    },
    **{
        f"{name} has no scheme": [({"env": {name: value}}, f"env.{name} is no address") for value in ("s3.example:9000", " ")]
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    },
    **{
        f"env has {name} and {name.lower()}": [
            ({"env": {name: "http://a", name.lower(): other}}, f"env has {name} and {name.lower()} with different values")
            for other in ("http://b", "")
        ]
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    },
}
"""The same for the pods of any role."""
OF_A_CHANGE = (
    "spec.storage cannot be changed",
    "spec.restarts can only grow",
    "stages that have begun cannot be changed",
)
"""Rules between a run and what it was before, which Helm does not know."""


def messages(schema: Any) -> Iterator[str]:
    """What each rule of a schema says."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        for below in schema.values():
            yield from messages(below)


def test_no_rule_of_the_definition_is_left_out() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    said = set(messages(schema))
    known = [*OF_A_RUN, *OF_PODS, *OF_A_CHANGE]
    assert sorted(message for message in said if not message.startswith(tuple(known))) == [], "add them to a table above"
    assert [one for one in known if not any(message.startswith(one) for message in said)] == [], "there is no such rule"


RUN_CASES = [
    (f"{rule} {number}", *case)
    for rule, cases in OF_A_RUN.items()
    for number, case in enumerate(cases if isinstance(cases, list) else [cases])
]
POD_CASES = [(f"{rule} {number}", *case) for rule, cases in OF_PODS.items() for number, case in enumerate(cases)]


@pytest.mark.parametrize(("values", "line"), [case[1:] for case in RUN_CASES], ids=[case[0] for case in RUN_CASES])
def test_values_that_the_definition_would_refuse_are_refused_by_helm(values: Values, line: str) -> None:
    assert line in refusal(values)


@pytest.mark.parametrize(("own", "line"), [case[1:] for case in POD_CASES], ids=[case[0] for case in POD_CASES])
def test_pods_that_the_definition_would_refuse_are_refused_by_helm(own: Values, line: str) -> None:
    for path, values in (("run.pods", {"pods": own}), ("run.grpo.workers", {"grpo": {"workers": own}})):
        said = refusal({"run": values})
        assert line in said and f" {path}." in said


def test_a_role_with_other_volumes_needs_those_of_its_mounts() -> None:
    for own in ([], [{**DATA, "name": "other"}]):
        said = refusal({"run": {"pods": mounted("/data"), "evaluate": {"pods": {"volumes": own}}}})
        assert "run.evaluate.pods.volumeMounts names the volume data" in said
    assert the(
        manifests({"run": {"pods": mounted("/data"), "evaluate": {"pods": {"volumes": [], "volumeMounts": []}}}}), "PTSTRun"
    )


def test_labels_of_all_pods_count_among_those_of_a_run() -> None:
    def labels(kind: str, count: int) -> dict[str, str]:
        return {f"{kind}-{number}": "a" for number in range(count)}

    many = {"commonLabels": labels("common", 30), "podLabels": labels("pod", 30)}
    assert "run.pods.labels has 65 labels with those of commonLabels" in refusal(
        merge(many, {"run": {"pods": {"labels": labels("own", 5)}}})
    )
    spec = the(manifests(merge(many, {"run": {"pods": {"labels": labels("own", 4)}}})), "PTSTRun")["spec"]
    assert len(spec["pods"]["labels"]) == 64


def test_a_recipe_of_a_config_map_takes_the_place_of_the_chart_s_own() -> None:
    for more in ({}, {"recipe": None}):
        spec = the(manifests({"run": {"recipeFrom": {"configMap": "recipes"}, **more}}), "PTSTRun")["spec"]
        assert "recipe" not in spec and spec["recipeFrom"] == {"configMap": "recipes"}


def test_a_slash_at_the_end_of_a_mount_changes_nothing() -> None:
    for ours, theirs in (("/data/", "/data/"), ("/data", "/data/"), ("/data/", "/data")):
        values = merge(claim(theirs), {"claim": {"mountPath": ours}})
        assert the(manifests(values), "PTSTRun")["spec"]["storage"]["claim"]["mountPath"] == "/data"


def test_unequal_stages_that_a_person_means_and_gates_that_agree_render() -> None:
    gates = [
        {"metric": "kl_mean", "min": None, "max": 1, "action": "Rollback", "rollbackTo": "stage-1/step-5"},
        {"metric": "reward_mean", "min": 0.5, "max": 0.5},
    ]
    run = {"allowUnequalStages": True, "recipe": {"stages": stages((8, 2), (8, 4))}, "gates": gates}
    spec = the(manifests({"run": run}), "PTSTRun")["spec"]
    assert [gate.get("min", "none") for gate in spec["gates"]] == ["none", 0.5]
    assert Spec.model_validate(spec).gates[1].max == 0.5 and set(spec["recipe"]) <= set(recipe_schema()["properties"])
