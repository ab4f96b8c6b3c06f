"""Children: what is made of a run."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ptst_operator.children import job, pytorchjob, raycluster, rayjob, trainjob
from ptst_operator.children.kind import ChildKind, PlannedChild
from ptst_operator.children.table import KINDS, kind_of, kinds_of
from ptst_operator.run import ResolvedRun, recipe_hash
from ptst_operator.spec import Spec, resolve_recipe
from schedules import SPEC

from visionr1.errors import BadInput
from visionr1.recipe import phases
from visionr1.rundir.layout import stop_key

OWNED = {"name": "x", "uid": "u", "ownerReferences": [{"controller": True, "uid": "run-uid"}]}


def owner(**changes: Any) -> ResolvedRun:
    spec = Spec.model_validate({**SPEC, **changes})
    return ResolvedRun("run", "default", "run-uid", spec, resolve_recipe(spec, "run"))


def phase(run: ResolvedRun, name: str) -> Any:
    return next(one for one in phases(run.recipe) if one.name == name)


def test_sft_is_a_pytorchjob_of_workers_that_know_where_to_meet() -> None:
    run = owner(sft={"nodes": 4}, recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8})
    made = pytorchjob.build(run, "run-sft-0", phase(run, "sft"))
    replicas = made["spec"]["pytorchReplicaSpecs"]
    assert {role: one["replicas"] for role, one in replicas.items()} == {"Worker": 4}, "a Master brings an init container"
    assert "elasticPolicy" not in made["spec"], "one worker's end would be the job's"
    assert made["spec"]["nprocPerNode"] == "8", "the CRD wants a string"
    assert made["spec"]["runPolicy"] == {"cleanPodPolicy": "Running", "backoffLimit": 0}
    container = replicas["Worker"]["template"]["spec"]["containers"][0]
    assert (container["name"], container["resources"]["limits"]["nvidia.com/gpu"]) == ("pytorch", 8)
    decided = recipe_hash(run.recipe)
    assert container["command"] == ["visionr1", "sft", "--run", "s3://bucket/run", "--recipe-sha256", decided]
    variables = {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"]}
    assert variables["PET_MASTER_ADDR"] == "run-sft-0-worker-0"
    assert variables["PET_NODE_RANK"] == "metadata.labels['training.kubeflow.org/replica-index']"
    one_node = owner()
    alone = pytorchjob.build(one_node, "run-sft-0", phase(one_node, "sft"))
    assert alone["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 1


def test_sft_as_a_trainjob_has_the_same_pods_by_a_runtime_of_its_own() -> None:
    run = owner(sft={"nodes": 4}, recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8})
    runtime, made = trainjob.build(run, "run-sft-0", phase(run, "sft"))
    assert (runtime["kind"], made["kind"]) == ("TrainingRuntime", "TrainJob"), "in this order: one without the other is refused"
    for one in (runtime, made):
        meta = one["metadata"]
        assert (meta["name"], [owned["uid"] for owned in meta["ownerReferences"]]) == ("run-sft-0", ["run-uid"])
    assert made["spec"] == {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "run-sft-0"},
        "trainer": {"numNodes": 4, "numProcPerNode": 8},
    }
    assert runtime["spec"]["mlPolicy"] == {"torch": {}}, "it is Trainer's part to tell torchrun where the nodes meet"
    (nodes,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert (nodes["name"], nodes["template"]["metadata"]["labels"]) == (
        "node",
        {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"},
    )
    assert nodes["template"]["spec"]["backoffLimit"] == 0, "attempts are counted in the run's status"
    pod = nodes["template"]["spec"]["template"]
    assert pod["spec"].pop("restartPolicy") == "Never"
    other = pytorchjob.build(run, "run-sft-0", phase(run, "sft"))["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    assert pod["spec"]["containers"][0].pop("name") == "node" and other["spec"]["containers"][0].pop("name") == "pytorch"
    env = other["spec"]["containers"][0]["env"]
    env[:] = [one for one in env if not one["name"].startswith("PET_")]
    assert pod == other


def test_a_value_may_hold_a_variable_from_a_secret() -> None:
    """Kubernetes puts a variable in the place of $(NAME) only if it is defined before."""
    source = {"secretKeyRef": {"name": "proxy", "key": "password"}}
    env = {"HTTPS_PROXY": "http://me:$(PASSWORD)@proxy:3128"}
    run = owner(pods={"image": "trainer:1", "env": env, "envValueFrom": {"PASSWORD": source}})
    pod = pytorchjob.build(run, "run-sft-0", phase(run, "sft"))["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    names = [one["name"] for one in pod["spec"]["containers"][0]["env"]]
    assert names.index("PASSWORD") < names.index("HTTPS_PROXY")


def test_the_cluster_has_a_place_for_each_worker_and_a_head_without_work() -> None:
    run = owner(recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8})
    spec = raycluster.build(run, "run-ray-0")["spec"]
    (group,) = spec["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (8, 8, 8)
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 8
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["resources"]["limits"].keys() == {"cpu", "memory"}, "the head needs no GPU"
    started = [one["rayStartParams"] for one in (spec["headGroupSpec"], group)]
    assert [(one["num-cpus"], one["num-gpus"]) for one in started] == [("0", "0"), ("8", "8")]
    assert spec["authOptions"] == {"mode": "token"}
    head_env = {one["name"]: one["value"] for one in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]}
    assert head_env["RAY_JOB_STOP_WAIT_TIME_S"] == "60", "the driver's time to commit is deadlines.stopSeconds"
    cpu = owner()
    (slots,) = raycluster.build(cpu, "run-ray-0")["spec"]["workerGroupSpecs"]
    assert (slots["rayStartParams"]["num-cpus"], slots["rayStartParams"]["num-gpus"]) == ("2", "0")
    assert slots["template"]["spec"]["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory"}


def test_a_node_without_its_raylet_is_noticed_in_a_minute_and_ended_at_once() -> None:
    spec = raycluster.build(owner(), "run-ray-0")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert not {"dashboard-agent-listen-port"} & group["rayStartParams"].keys(), "KubeRay then takes 52365"
        (container,) = group["template"]["spec"]["containers"]
        alive, started = container["livenessProbe"], container["startupProbe"]
        assert alive["httpGet"] == started["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert alive["periodSeconds"] * alive["failureThreshold"] == 60
        assert started["periodSeconds"] * started["failureThreshold"] == 600, "an image may be slow to load"
        assert alive["terminationGracePeriodSeconds"] < group["template"]["spec"]["terminationGracePeriodSeconds"]


def test_a_ray_pod_ends_when_its_driver_has_and_the_head_last() -> None:
    spec = raycluster.build(owner(), "run-ray-0")["spec"]
    head, worker = (one["template"]["spec"] for one in (spec["headGroupSpec"], spec["workerGroupSpecs"][0]))
    for pod, place in ((head, "head"), (worker, "worker")):
        assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["python", "-m", "visionr1.grpo.leave", place]
        assert pod["shareProcessNamespace"], "as the first process of its own, KubeRay's shell would ignore SIGTERM"
    assert head["terminationGracePeriodSeconds"] > worker["terminationGracePeriodSeconds"] >= 60, "deadlines.stopSeconds"


def test_every_child_s_command_names_the_recipe_that_was_decided_on() -> None:
    run = owner()
    for kind in KINDS.values():
        for one in phases(run.recipe):
            if one.kind in kind.phases:
                made = json.dumps(kind.build(run, PlannedChild(f"run-{one.name}-0", one, "run-ray-0", "base")))
                assert re.search(f'--recipe-sha256(", "| ){recipe_hash(run.recipe)}', made), kind.name


def test_a_stage_is_a_rayjob_on_the_cluster_that_stays() -> None:
    run = owner()
    spec = rayjob.build(run, "run-stage-2-0", phase(run, "stage-2"), "run-ray-0", "stage-1/step-4")["spec"]
    decided = recipe_hash(run.recipe)
    assert spec["entrypoint"] == f"visionr1 grpo --run s3://bucket/run --recipe-sha256 {decided} --stage 2"
    assert spec["clusterSelector"] == {"ray.io/cluster": "run-ray-0"}
    assert not {"suspend", "backoffLimit", "shutdownAfterJobFinishes"} & spec.keys(), (
        "KubeRay refuses them with a clusterSelector"
    )


def test_a_stage_may_bring_a_cluster_of_its_own_and_give_it_back() -> None:
    job_ = rayjob.build(owner(), "run-stage-1-0", phase(owner(), "stage-1"), None, "sft/step-3")["spec"]
    assert "clusterSelector" not in job_ and job_["shutdownAfterJobFinishes"] is True
    decided = recipe_hash(owner().recipe)
    command = f"visionr1 grpo --run s3://bucket/run --recipe-sha256 {decided} --stage 1 --stop-when "
    assert job_["entrypoint"] == command + stop_key(owner().uid, "run-stage-1-0")
    shared = raycluster.build(owner(), "run-ray-0")["spec"]
    own = job_["rayClusterSpec"]
    for pod in (own["headGroupSpec"]["template"], own["workerGroupSpecs"][0]["template"]):
        assert pod["metadata"]["labels"].pop("visionr1.io/attempt") == "run-stage-1-0", "how its pods are found once it has ended"
    assert own == shared
    assert rayjob.head_of({"status": {"rayClusterStatus": {"head": {"podIP": "10.0.0.7"}}}}) == "10.0.0.7"
    assert rayjob.head_of({"status": {"rayClusterStatus": {}}}) is None


def test_a_queue_finds_what_brings_pods_and_nothing_else() -> None:
    run = owner(queueLabels={"kueue.x-k8s.io/queue-name": "team-a"})
    sft, stage, score = (phase(run, name) for name in ("sft", "stage-1", "evaluate"))
    asked = {
        "sft": pytorchjob.build(run, "x", sft),
        "runtime": trainjob.build(run, "x", sft)[0],
        "trainjob": trainjob.build(run, "x", sft)[1],
        "evaluate": job.build(run, "x", score),
        "cluster": raycluster.build(run, "x"),
        "own": rayjob.build(run, "x", stage, None, "sft/step-3"),
        "shared": rayjob.build(run, "x", stage, "run-ray-0", "sft/step-3"),
    }
    queues = {name: one["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") for name, one in asked.items()}
    assert queues.pop("runtime") is None, "it brings no pods"
    assert queues == {
        "sft": "team-a",
        "trainjob": "team-a",
        "evaluate": "team-a",
        "cluster": "team-a",
        "own": "team-a",
        "shared": None,
    }
    assert not [one for one in asked.values() if "suspend" in one["spec"]], "that is the queue's to set"


@pytest.mark.parametrize("role", ["sft", "head", "worker", "evaluate"])
def test_every_pod_asks_for_what_restricted_allows_and_for_what_its_user_said(role: str) -> None:
    shared = {
        "image": "trainer@sha256:0",
        "env": {"NCCL_IB_HCA": "mlx5"},
        "sharedMemory": "8Gi",
        "labels": {"team": "a"},
        "tolerations": [{"operator": "Exists"}],
        "runAsUser": 2000,
        "resources": {"requests": {"cpu": "1"}},
    }
    own = {"pods": {"nodeSelector": {"zone": role}}}
    run = owner(
        pods=shared,
        sft=own,
        evaluate=own,
        grpo={"workersPerPod": 2, "head": own["pods"], "workers": own["pods"]},
        storage={"url": "/runs/run", "claim": {"name": "runs"}},
    )
    cluster = raycluster.build(run, "run-ray-0")["spec"]
    pod = {
        "sft": lambda: pytorchjob.build(run, "n", phase(run, "sft"))["spec"]["pytorchReplicaSpecs"]["Worker"]["template"],
        "head": lambda: cluster["headGroupSpec"]["template"],
        "worker": lambda: cluster["workerGroupSpecs"][0]["template"],
        "evaluate": lambda: job.build(run, "n", phase(run, "evaluate"))["spec"]["template"],
    }[role]()
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["terminationGracePeriodSeconds"] == (90 if role == "head" else 60)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsUser"] == 2000
    assert (container["image"], spec["nodeSelector"]) == ("trainer@sha256:0", {"zone": role})
    assert {"name": "NCCL_IB_HCA", "value": "mlx5"} in container["env"]
    assert {"name": "run", "mountPath": "/runs"} in container["volumeMounts"]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in spec["volumes"]
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"]["visionr1.io/run"] == "run", "policies and monitors go by it"


def test_a_namespace_that_gives_ids_itself_is_left_to_do_so() -> None:
    def ids(**pods: Any) -> dict[str, Any]:
        run = owner(pods={"image": "trainer:1", **pods})
        context = job.build(run, "n", phase(run, "evaluate"))["spec"]["template"]["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        return {key: context[key] for key in ("runAsUser", "runAsGroup", "fsGroup") if key in context}

    assert ids() == {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    assert ids(runAsUser=2000, fsGroup=3000) == {"runAsUser": 2000, "runAsGroup": 2000, "fsGroup": 3000}
    assert ids(runAsUser=0) == {}
    assert ids(runAsUser=0, fsGroup=3000) == {"fsGroup": 3000}


def test_workers_that_do_not_fill_their_pods_are_a_mistake_with_a_line_about_it() -> None:
    with pytest.raises(BadInput, match=r"spec.grpo.workersPerPod: 3 does not divide the recipe's rollout.workers \(2\)"):
        owner(grpo={"workersPerPod": 3})


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_of_the_table_builds_and_reads_what_it_says(kind: ChildKind) -> None:
    run = owner()
    for one in (one for one in phases(run.recipe) if one.kind in kind.phases):
        made = kind.build(run, PlannedChild("run-x-0", one, None, "sft/step-3"))
        known = {resource.kind: resource.version for resource in (*kind.brings, kind.resource)}
        assert all(known[manifest["kind"]] == manifest["apiVersion"] for manifest in made)
        assert (made[-1]["kind"], made[-1]["metadata"]["name"]) == (kind.name, "run-x-0")
        seen = kind.read({**made[-1], "metadata": {**made[-1]["metadata"], "uid": "u"}})
        assert (seen.phase, seen.uid, seen.run_uid) == ("Pending", "u", "run-uid")


def test_teachers_with_workers_get_a_cluster_of_their_own_and_others_a_job() -> None:
    def coldstart(**teachers: Any) -> dict[str, Any]:
        rollout = {**SPEC["recipe"].get("rollout", {}), "device": "cuda"}
        return {**SPEC["recipe"], "rollout": rollout, "coldstart": {"problems": {"path": "s3://b/p.parquet"}, **teachers}}

    describer = {"base_url": None, "model": "Qwen/Qwen2.5-VL-72B-Instruct", "workers": {"count": 4, "tensor_parallel": 8}}
    reasoner = {"base_url": None, "model": "owner/small", "workers": {"count": 2}}
    run = owner(
        recipe=coldstart(describer=describer, reasoner=reasoner), coldstart={"workers": {"nodeSelector": {"gpu": "h200"}}}
    )
    outside = owner(recipe=coldstart(describer={"base_url": "http://a/v1"}, reasoner={"base_url": "http://b/v1"}))
    assert kind_of(outside, phase(outside, "coldstart")).name == "Job"
    assert kind_of(run, phase(run, "coldstart")) is rayjob.KIND
    (made,) = rayjob.KIND.build(run, PlannedChild("run-coldstart-0", phase(run, "coldstart"), None, ""))
    assert made["spec"]["shutdownAfterJobFinishes"] and made["metadata"]["labels"]["visionr1.io/role"] == "coldstart"
    key = stop_key("run-uid", "run-coldstart-0")
    assert re.fullmatch(rf"visionr1 coldstart --run \S+ --recipe-sha256 \S+ --stop-when {key}", made["spec"]["entrypoint"])
    cluster = made["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in head.get("resources", {}).get("limits", {})
    gpus = {
        group["groupName"]: (
            group["replicas"],
            group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"],
        )
        for group in cluster["workerGroupSpecs"]
    }
    assert gpus == {"describer": (4, 8), "reasoner": (2, 1)}
    for group in cluster["workerGroupSpecs"]:
        assert group["template"]["metadata"]["labels"]["visionr1.io/phase"] == "coldstart"
        assert group["template"]["spec"]["nodeSelector"] == {"gpu": "h200"}
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] == 30, "it has nothing to commit"
        assert "lifecycle" not in group["template"]["spec"]["containers"][0], "the driver goes on without it"
    assert [group["rayStartParams"]["num-gpus"] for group in cluster["workerGroupSpecs"]] == ["8", "1"]
    assert {group["rayStartParams"]["num-cpus"] for group in cluster["workerGroupSpecs"]} == {"1"}


def test_every_phase_has_a_kind() -> None:
    assert {one.kind: [kind.name for kind in kinds_of(one.kind)] for one in phases(owner().recipe)} == {
        "coldstart": ["RayJob", "Job"],
        "sft": ["PyTorchJob", "TrainJob"],
        "grpo": ["RayJob"],
        "evaluate": ["Job"],
    }
