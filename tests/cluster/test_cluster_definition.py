"""The definition and the chart before a real API server: schemas, rules, admission."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import Cluster, tool
from generators.alerts import fill
from kubernetes import config
from ptst_operator.api import Api, ApiError
from ptst_operator.children import job, pytorchjob, raycluster
from ptst_operator.crd import spec_schema
from ptst_operator.rules import OWN_LABELS
from ptst_operator.run import ResolvedRun
from ptst_operator.spec import Spec, resolve_recipe
from ptst_operator.status import Status, status_patch
from ptst_run import run

from visionr1.recipe import phases
from visionr1.recipe.document import merge

CHART = Path(__file__).parents[2] / "charts/visionr1-ptst"
PRESETS = ["values", *sorted(path.stem for path in (CHART / "presets").glob("*.yaml"))]


def stage(tokens: int, group: int, steps: int = 100) -> dict[str, int]:
    return {"max_completion_tokens": tokens, "group_size": group, "steps": steps}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no image": (run(pods={}), "spec.pods.image is missing: set it to the trainer image"),
    "a path without a claim": (run(storage={"url": "/runs/run"}), "name its volume in spec.storage.claim"),
    "a path beside the claim": (
        run(storage={"url": "/other/run", "claim": {"name": "c", "mountPath": "/runs"}}),
        "name its volume in spec.storage.claim",
    ),
    "credentials in the address": (run(storage={"url": "s3://key:secret@bucket/run"}), "should match"),
    "a long name": (run("a" * 34), "metadata.name must have at most 33"),
    "a name that begins with a digit": (run("1a"), "with a letter first"),
    "unequal stages": (
        run(recipe={"stages": [stage(4096, 16), stage(8192, 16)]}),
        "PTST keeps max_completion_tokens x group_size",
    ),
    "a stage without a group": (run(recipe={"stages": [{"max_completion_tokens": 8}]}), "group_size: Required value"),
    "a group of one": (run(recipe={"stages": [stage(8, 1)]}), "should be greater than or equal to 2"),
    "no stage of that name": (run(holdBefore=["stage-0"]), "spec.holdBefore[0]"),
    "an unknown key": (run(suspended=True), 'unknown field "spec.suspended"'),
    "an unknown key of the recipe": (run(recipe={"optimiser": {"learning_rat": 1}}), "learning_rat"),
    "text for a number": (run(recipe={"optimiser": {"learning_rate": "small"}}), "must be of type number"),
    "an unknown preset": (run(recipe={"preset": "vision-r2"}), "supported values"),
    "a gate without a bound": (run(gates=[{"metric": "kl_mean"}]), "a gate needs min, max or both"),
    "a gate upside down": (run(gates=[{"metric": "kl_mean", "min": 2, "max": 1}]), "a gate's min is larger than its max"),
    "a gate that goes back and does not": (
        run(gates=[{"metric": "kl_mean", "max": 1, "rollbackTo": "stage-1/step-5"}]),
        "a gate's rollbackTo needs action: Rollback",
    ),
    "a gate that goes back to no checkpoint": (
        run(gates=[{"metric": "kl_mean", "max": 1, "action": "Rollback", "rollbackTo": "../sft/step-1"}]),
        "should match",
    ),
    "no recipe": (run(recipe=None), "set one of spec.recipe (the recipe itself) and spec.recipeFrom (a ConfigMap with it)"),
    "two recipes": (run(recipeFrom={"configMap": "recipes"}), "set one of spec.recipe (the recipe itself) and spec.recipeFrom"),
    "two queues": (
        run(queueLabels={"kueue.x-k8s.io/queue-name": "a", "kai.scheduler/queue": "b"}),
        "spec.queueLabels names more than one queue",
    ),
    "a priority without a queue": (
        run(queueLabels={"kueue.x-k8s.io/priority-class": "high"}),
        "without kueue.x-k8s.io/queue-name: Kueue ignores the run",
    ),
    "Volcano and a shared cluster": (
        run(queueLabels={"volcano.sh/queue-name": "a"}),
        "for Volcano KubeRay starts no job on a shared RayCluster: set spec.grpo.cluster to per-stage",
    ),
    "fewer workers in a queue": (
        run(grpo={"minWorkers": 4}, queueLabels={"kueue.x-k8s.io/queue-name": "a"}),
        "spec.grpo.minWorkers needs grpo.cluster: shared and no queueLabels",
    ),
    "fewer workers of a RayJob": (
        run(grpo={"minWorkers": 4, "cluster": "per-stage"}),
        "spec.grpo.minWorkers needs grpo.cluster: shared",
    ),
    "fewer workers after the end": (
        run(grpo={"minWorkers": 4}, deadlines={"pendingSeconds": 600}),
        "must be less than pendingSeconds, which ends the attempt",
    ),
    "a queue of pods": (
        run(sft={"pods": {"labels": {"kueue.x-k8s.io/queue-name": "a"}}}),
        "put it in spec.queueLabels",
    ),
    "two versions in one RayCluster": (
        run(grpo={"head": {"image": "trainer:2-cpu"}}),
        "spec.grpo.head and spec.grpo.workers have images of different versions",
    ),
    "a volume with a name that is taken": (
        run(pods={"image": "trainer:1", "volumes": [{"name": "scratch", "emptyDir": {}}]}),
        "a volume has the name of one that every pod of a run has",
    ),
    "two values for one proxy": (
        run(pods={"image": "trainer:1", "env": {"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}}),
        "env has HTTPS_PROXY and https_proxy with different values",
    ),
    "two S3 services": (
        run(
            pods={"image": "trainer:1", "env": {"AWS_ENDPOINT_URL": "https://a"}},
            sft={"pods": {"env": {"AWS_ENDPOINT_URL": "https://b"}}},
        ),
        "a role's env has another AWS_ENDPOINT_URL than spec.pods.env",
    ),
    "S3 without a scheme": (
        run(pods={"image": "trainer:1", "env": {"AWS_ENDPOINT_URL_S3": "s3.example:9000"}}),
        "AWS_ENDPOINT_URL_S3 has no scheme, which S3's libraries need: write http:// or https:// before the host",
    ),
    "Ray without a token": (
        run(pods={"image": "x", "env": {"RAY_AUTH_MODE": "disabled"}}),
        "RAY_AUTH_MODE is set by KubeRay, so that Ray asks for a token: remove it",
    ),
    "Ray without a token, by a ConfigMap": (
        run(pods={"image": "x", "envValueFrom": {"RAY_AUTH_MODE": {"configMapKeyRef": {"name": "theirs", "key": "mode"}}}}),
        "RAY_AUTH_MODE is set by KubeRay, so that Ray asks for a token: remove it",
    ),
    **{
        f"pods with a label of {prefix}": (
            run(grpo={"workers": {"labels": {f"{prefix}x": "theirs"}}}),
            "a label of pods begins with one of visionr1.io/, ray.io/",
        )
        for prefix in OWN_LABELS
    },
    "Ray with a known token": (run(grpo={"head": {"env": {"RAY_AUTH_TOKEN": "x"}}}), "RAY_AUTH_TOKEN is set by KubeRay"),
    "no time to stop": (run(deadlines={"stopSeconds": 0}), "should be greater than or equal to 1"),
}


@pytest.mark.parametrize(("manifest", "answer"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_answered_by_the_api_server(manifest: dict[str, Any], answer: str, cluster: Cluster, namespace: str) -> None:
    reported = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(manifest), check=False)
    assert answer in reported


def over_limits(schema: dict[str, Any], place: str = "spec") -> Iterator[tuple[str, str, Any]]:
    """Place, limit and a value beyond it, for every limit of a schema."""
    limits: dict[str, Any] = {
        "minimum": lambda limit: limit if schema.get("exclusiveMinimum") else limit - 1,
        "maximum": lambda limit: limit if schema.get("exclusiveMaximum") else limit + 1,
        "maxLength": lambda limit: "a" * (limit + 1),
        "enum": lambda limit: "no-such",
        "pattern": lambda limit: "!",
        "minItems": lambda limit: [0] * (limit - 1),
        "maxItems": lambda limit: [_least(schema["items"])] * (limit + 1),
    }
    yield from ((place, key, beyond(schema[key])) for key, beyond in limits.items() if key in schema)
    for name, below in schema.get("properties", {}).items():
        yield from over_limits(below, f"{place}.{name}")
    if "items" in schema:
        yield from over_limits(schema["items"], f"{place}[0]")


def _least(schema: dict[str, Any]) -> Any:
    """A value of its type."""
    return {"object": {}, "string": "sft", "number": 0, "integer": 0}[schema["type"]]


def _at(place: str, value: Any) -> Any:
    """The value, at its place below spec."""
    for part in reversed(re.findall(r"\.(\w+)|(\[0\])", place)):
        value = [value] if part[1] else {part[0]: value}
    return value


SAID = {
    "minimum": "should be greater than",
    "maximum": "should be less than",
    "maxLength": "Too long",
    "enum": "Unsupported value",
    "pattern": "should match",
    "minItems": "should have at least",
    "maxItems": "must have at most",
}


def test_every_limit_of_the_schema_is_answered_by_the_api_server(cluster: Cluster, namespace: str) -> None:
    """Each with a run of its own, in a line that names the field; kubectl itself would look at them before."""
    mistakes = {f"limit-{number}": mistake for number, mistake in enumerate(over_limits(spec_schema()))}
    assert {limit for _, limit, _ in mistakes.values()} == set(SAID)
    items = []
    for name, (place, _, value) in mistakes.items():
        made = run(name)
        items.append({**made, "spec": merge(made["spec"], _at(place, value))})
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    reported = cluster.kubectl(
        "-n", namespace, "create", "--dry-run=server", "--validate=false", "-f", "-", stdin=text, check=False
    )
    parts = re.split(r'"(limit-\d+)" is invalid: ', reported)
    answers = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name, (place, limit, _) in mistakes.items():
        answer = answers.get(name, "taken")
        assert re.search(rf"{re.escape(place)}: (?:(?!, spec\.).)*{SAID[limit]}", answer), f"{limit} of {place}: {answer}"


def test_what_agrees_is_taken(cluster: Cluster, namespace: str) -> None:
    """A head of the CPU image, one S3, one proxy, volumes at paths of their own."""
    env = {"AWS_ENDPOINT_URL": "https://a", "HTTPS_PROXY": "http://p", "https_proxy": "http://p"}
    data = {"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    made = run(
        pods={"image": "trainer:1", "env": env, **data},
        grpo={"head": {"image": "trainer:1-cpu"}, "workers": {"env": {"AWS_ENDPOINT_URL": "https://a"}}},
        queueLabels={"kueue.x-k8s.io/queue-name": "a", "kueue.x-k8s.io/priority-class": "high"},
    )
    assert "created" in cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(made))
    assert cluster.get("-n", namespace, "ptst", "run")["spec"]["pods"]["volumes"] == data["volumes"]


def test_a_stage_may_begin_with_fewer_workers(cluster: Cluster, namespace: str) -> None:
    made = run(grpo={"minWorkers": 4}, deadlines={"workersSeconds": 60, "pendingSeconds": 600})
    assert "created" in cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(made))
    deadlines = cluster.get("-n", namespace, "ptst", "run")["spec"]["deadlines"]
    assert deadlines == {"workersSeconds": 60, "pendingSeconds": 600, "stopSeconds": 600}


def test_stages_may_be_unequal_where_a_person_means_it(cluster: Cluster, namespace: str) -> None:
    meant = run(recipe={"stages": [stage(4096, 16), stage(8192, 16)]}, allowUnequalStages=True)
    assert "created" in cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(meant))


def test_what_has_begun_is_frozen_and_more_stages_are_welcome(cluster: Cluster, namespace: str) -> None:
    def patch(spec: dict[str, Any], *, subresource: str = "") -> str:
        words = ["-n", namespace, "patch", "ptst", "run", "--type", "merge", "-p", json.dumps(spec)]
        return cluster.kubectl(*words, *(["--subresource", subresource] if subresource else []), check=False)

    stages = [stage(4096, 16), stage(8192, 8)]
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(run(recipe={"preset": "vision-r1", "stages": stages})))
    assert "patched" in patch({"spec": {"recipe": {"stages": [stage(4096, 16, 50), stages[1]]}}}), "nothing has begun"
    assert "patched" in patch({"status": {"stagesBegun": 1, "phase": "Running"}}, subresource="status")
    begun = [stage(4096, 16, 50), stages[1]]
    assert "stages that have begun cannot be changed" in patch({"spec": {"recipe": {"stages": [stage(4096, 16, 60), stages[1]]}}})
    assert "stages that have begun cannot be changed" in patch({"spec": {"recipe": {"stages": []}}})
    assert "patched" in patch({"spec": {"recipe": {"stages": [begun[0], stage(8192, 8, 10), stage(16384, 4)]}}})
    assert "spec.storage cannot be changed" in patch({"spec": {"storage": {"url": "s3://bucket/other"}}})
    assert "patched" in patch({"spec": {"restarts": 2}})
    assert "spec.restarts can only grow" in patch({"spec": {"restarts": 1}})


def test_a_recipe_may_come_from_a_config_map_and_gates_may_go_back(cluster: Cluster, namespace: str) -> None:
    gate = {"metric": "kl_mean", "max": 1, "action": "Rollback", "rollbackTo": "stage-1/step-100"}
    made = run(recipe=None, recipeFrom={"configMap": "recipes"}, gates=[gate])
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(made))
    spec = cluster.get("-n", namespace, "ptst", "run")["spec"]
    assert spec["recipeFrom"] == {"configMap": "recipes", "key": "recipe.yaml"} and spec["gates"] == [gate]


def test_an_older_definition_is_told_and_not_written_to_again_and_again(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(run()))
    api = Api(namespace, config.new_client_from_config(str(cluster.admin)))
    made = api.get("PTSTRun", "run")
    assert made is not None
    with pytest.raises(ApiError, match=r'unknown field "status\.ofTomorrow"; the definition is older than the operator'):
        api.write_status(made, {"phase": "Running", "ofTomorrow": "x"})
    api.write_status(made, status_patch(Status(phase="Running", recipe_hash="x")))
    assert cluster.get("-n", namespace, "ptst", "run")["status"]["recipeHash"] == "x"


def test_kubectl_explains_every_value_of_a_stage(cluster: Cluster) -> None:
    reported = cluster.kubectl("explain", "ptst.spec.recipe.stages")
    assert "Length limit L_s" in reported and "Completions per prompt" in reported


def helm(*arguments: str) -> str:
    done = subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, env={**os.environ, "HOME": "/nowhere"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(preset: str, *more: str) -> list[dict[str, Any]]:
    chosen = [] if preset == "values" else ["-f", str(CHART / f"presets/{preset}.yaml")]
    text = helm("template", "ptst", str(CHART), "--namespace", "vision", *chosen, *more)
    return [one for one in yaml.safe_load_all(text) if one]


def test_helm_lints_the_chart() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_taken_by_the_api_server_under_restricted(preset: str, cluster: Cluster, namespace: str) -> None:
    """All that Helm renders, and the pods that the operator would make of it."""
    manifests = rendered(preset)
    (made,) = [one for one in manifests if one["kind"] == "PTSTRun"]
    spec = Spec.model_validate(made["spec"])
    owner = ResolvedRun(made["metadata"]["name"], namespace, "uid", spec, resolve_recipe(spec, made["metadata"]["name"]))
    pods = []
    for phase in phases(owner.recipe):
        if phase.kind == "sft":
            pods.append(pytorchjob.build(owner, "x", phase)["spec"]["pytorchReplicaSpecs"]["Worker"]["template"])
        elif phase.kind != "grpo":
            pods.append(job.build(owner, "x", phase)["spec"]["template"])
    ray = raycluster.build(owner, "x")["spec"]
    pods += [ray["headGroupSpec"]["template"], ray["workerGroupSpecs"][0]["template"]]
    deployment = next(one for one in manifests if one["kind"] == "Deployment")
    pods.append(deployment["spec"]["template"])
    for number, pod in enumerate(pods):
        pod["spec"].pop("serviceAccountName", None)
        manifests.append({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {**pod["metadata"], "name": f"pod-{number}"}})
    for one in manifests:
        one["metadata"].pop("namespace", None)
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    reported = cluster.kubectl("-n", namespace, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=items)
    assert reported.count("serverside-applied") == len(manifests)
    assert "Warning" not in reported


def test_the_platform_can_be_installed_without_a_run_and_without_extras() -> None:
    kinds = {one["kind"] for one in rendered("values", "--set", "run.enabled=false", "--set", "networkPolicy.enabled=false")}
    assert not kinds & {"PTSTRun", "NetworkPolicy", "PodMonitor", "PrometheusRule", "ConfigMap", "CustomResourceDefinition"}


@pytest.mark.parametrize(("backend", "missing"), [("auto", "neither PyTorchJob nor TrainJob"), ("trainjob", "no TrainJob")])
def test_the_notes_say_what_sft_waits_for(backend: str, missing: str) -> None:
    reported = helm("install", "ptst", str(CHART), "--dry-run=client", "--set", f"run.sft.backend={backend}")
    assert [line for line in reported.splitlines() if "SFT waits" in line and f"this cluster has {missing}." in line]


def monitoring(kind: str, *values: str) -> list[dict[str, Any]]:
    settings = [word for value in values for word in ("--set-json", f"monitoring.{value}")]
    return [one for one in rendered("values", *settings) if one["kind"] == kind]


def test_monitors_scrape_every_port_that_pods_name(namespace: str) -> None:
    monitors = monitoring("PodMonitor", "podMonitor.enabled=true", 'podMonitor.labels.release="prometheus"')
    assert [one["metadata"]["labels"]["release"] for one in monitors] == ["prometheus"] * 3
    scraped = {endpoint["port"] for one in monitors for endpoint in one["spec"]["podMetricsEndpoints"]}
    (made,) = [one for one in rendered("values") if one["kind"] == "PTSTRun"]
    spec = Spec.model_validate(made["spec"])
    owner = ResolvedRun("run", namespace, "uid", spec, resolve_recipe(spec, "run"))
    ray = raycluster.build(owner, "x")["spec"]
    pods = [ray["headGroupSpec"]["template"], ray["workerGroupSpecs"][0]["template"]]
    pods += [
        pytorchjob.build(owner, "x", phase)["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
        for phase in phases(owner.recipe)
        if phase.kind == "sft"
    ]
    named = {port["name"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
    # The others of a head are no metrics.
    assert named - scraped == {"gcs-server", "dashboard", "client"}
    assert {"run-metrics", "run-metrics-8", "metrics"} <= named


def test_alerts_have_the_thresholds_of_the_values() -> None:
    (made,) = monitoring("PrometheusRule", "rules.enabled=true")
    filled = yaml.safe_load(fill((CHART / "rules/visionr1-ptst.yaml.in").read_text(), namespace="vision"))
    assert json.loads(json.dumps(made["spec"]).replace("1.073741824e+09", "1073741824")) == filled
    (changed,) = monitoring("PrometheusRule", "rules.enabled=true", "rules.thresholds.truncatedRatio=0.125")
    alerts = {rule["alert"]: rule["expr"] for rule in changed["spec"]["groups"][0]["rules"]}
    assert "> 0.125 and" in alerts["VisionR1TruncationHigh"]


def test_dashboards_come_as_config_maps_that_the_sidecar_finds() -> None:
    made = monitoring("ConfigMap", "dashboards.enabled=true")
    assert {one["metadata"]["labels"]["grafana_dashboard"] for one in made} == {"1"}
    shown = {name: json.loads(text) for one in made for name, text in one["data"].items()}
    for path in (CHART / "dashboards").glob("*.json"):
        board, source = shown.pop(f"vision.ptst.{path.name}"), json.loads(path.read_text())
        assert board["title"] == source["title"].replace("Vision-R1 /", "Vision-R1 vision/ptst /")
        assert {**board, "uid": "", "title": ""} == {**source, "uid": "", "title": ""}
    assert shown == {}


def test_a_mistake_in_the_values_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [tool("helm"), "template", "ptst", str(CHART), "--set", "run.sft.node=4"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode != 0
    assert "run/sft" in done.stderr and "node" in done.stderr
