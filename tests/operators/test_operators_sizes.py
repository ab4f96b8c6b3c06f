"""What pods ask for: GPUs from the recipe, CPUs and memory from the plan, for every role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes.utils.quantity import parse_quantity
from ptst_operator.children import job, pytorchjob, raycluster
from ptst_operator.run import ResolvedRun
from ptst_operator.sizes import size_faults
from site_of_a_run import Site, condition, without_coldstart
from test_operators_children import owner, phase

BIG = [{"max_completion_tokens": 8192, "group_size": 8, "steps": 4, "tensor_parallel": 8}]


def large(**changes: Any) -> ResolvedRun:
    """The 72B preset of the chart: its last stage needs 8 GPUs for one engine."""
    recipe = {"preset": "vision-r1", "model": {"base": "Qwen/Qwen2.5-VL-72B-Instruct"}, "stages": BIG}
    return owner(recipe=recipe, **{"grpo": {"workersPerPod": 8}, "sft": {"nodes": 8}, **changes})


def pods(run: ResolvedRun) -> dict[str, dict[str, Any]]:
    """The pod of each role."""
    cluster = raycluster.build(run, "x")["spec"]
    return {
        "sft": pytorchjob.build(run, "x", phase(run, "sft"))["spec"]["pytorchReplicaSpecs"]["Worker"]["template"],
        "head": cluster["headGroupSpec"]["template"],
        "worker": cluster["workerGroupSpecs"][0]["template"],
        "evaluate": job.build(run, "x", phase(run, "evaluate"))["spec"]["template"],
    }


def resources(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]["resources"]
    return found


def gpus(run: ResolvedRun, name: str = "nvidia.com/gpu") -> dict[str, int | None]:
    return {role: resources(pod)["limits"].get(name) for role, pod in pods(run).items()}


def test_the_evaluation_gets_the_gpus_of_the_last_stage_s_engine() -> None:
    assert gpus(large()) == {"sft": 8, "head": None, "worker": 8, "evaluate": 8}
    assert gpus(owner(recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8}))["evaluate"] == 1


def scored(workers: int, **changes: Any) -> dict[str, Any]:
    """The evaluation's pod of the paper's recipe with so many engines."""
    recipe = {"preset": "vision-r1", "evaluation": {"workers": workers}, **changes.pop("recipe", {})}
    return pods(owner(recipe=recipe, **{"grpo": {"workersPerPod": 8}, **changes}))["evaluate"]


def shared_memory(pod: dict[str, Any]) -> list[str]:
    return [one["emptyDir"]["sizeLimit"] for one in pod["spec"]["volumes"] if one["name"] == "shared-memory"]


def test_the_evaluation_gets_gpus_cpus_and_memory_for_all_of_its_engines() -> None:
    def wanted(workers: int) -> tuple[Any, ...]:
        found = resources(scored(workers, pods={"image": "t:1", "sharedMemory": "8Gi"}))
        sizes = [int(parse_quantity(found[part]["memory"])) - 8 * 2**30 for part in ("requests", "limits")]
        cpus = [int(found[part]["cpu"]) for part in ("requests", "limits")]
        return found["limits"]["nvidia.com/gpu"], *cpus, *sizes

    for workers in (2, 8, 16):
        assert wanted(workers) == tuple(workers * one for one in wanted(1)), workers
    both = resources(scored(2, recipe={"stages": BIG}))
    assert both["limits"]["nvidia.com/gpu"] == 16, "two engines on 8 GPUs each"
    cpu = resources(scored(3, recipe={"rollout": {"device": "cpu"}}))
    assert cpu["requests"]["cpu"] == "1.5" and cpu["limits"]["cpu"] == "12" and "nvidia.com/gpu" not in cpu["limits"]


def test_ray_in_the_evaluation_s_pod_has_shared_memory() -> None:
    pod = scored(8)
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    assert shared_memory(pod) == ["9Gi"] and {"name": "shared-memory", "mountPath": "/dev/shm"} in mounts
    assert parse_quantity(resources(pod)["requests"]["memory"]) >= 9 * 2**30 + 8 * 6 * 2**30, "it is memory of the pod"
    assert shared_memory(scored(1)) == [], "one engine needs no Ray"
    assert shared_memory(scored(8, pods={"image": "t:1", "sharedMemory": "64Gi"})) == ["64Gi"]
    own = {"volumes": [{"name": "own", "emptyDir": {}}], "volumeMounts": [{"name": "own", "mountPath": "/dev/shm/"}]}
    assert shared_memory(scored(8, pods={"image": "t:1", **own})) == [], "two volumes in one place are refused"


@pytest.mark.parametrize("part", ["limits", "requests"])
def test_more_gpus_than_the_recipe_needs_are_kept(part: str) -> None:
    run = large(evaluate={"pods": {"resources": {part: {"nvidia.com/gpu": 16}}}})
    assert resources(pods(run)["evaluate"])["limits"]["nvidia.com/gpu"] == 16
    assert "nvidia.com/gpu" not in resources(pods(run)["evaluate"])["requests"], "another number than the limit is refused"
    assert size_faults(run.spec, run.recipe) == []


def test_fewer_gpus_than_the_recipe_needs_are_refused_in_one_line() -> None:
    few = {"resources": {"limits": {"nvidia.com/gpu": 4}}}
    run = large(evaluate={"pods": few}, grpo={"workersPerPod": 8, "workers": few})
    worker, evaluate = size_faults(run.spec, run.recipe)
    more = owner(recipe={"preset": "vision-r1", "evaluation": {"workers": 5}}, grpo={"workersPerPod": 8}, evaluate={"pods": few})
    assert "4 nvidia.com/gpu for a pod that needs 5" in size_faults(more.spec, more.recipe)[0]
    assert evaluate == (
        "spec.evaluate.pods.resources: 4 nvidia.com/gpu for a pod that needs 8: it has evaluation.workers engines, each divided "
        "over the GPUs of the last stage's (tensor_parallel); leave the number out, or give 8 or more"
    )
    assert worker.startswith("spec.grpo.workers.resources: 4 nvidia.com/gpu for a pod that needs 8: a pod has as many workers")


def test_a_run_with_too_few_gpus_says_so_and_starts_nothing(tmp_path: Path) -> None:
    recipe = without_coldstart(preflight="warn", rollout={"device": "cuda", "workers": 2})["recipe"]
    recipe["stages"] = [{**one, "tensor_parallel": 2} for one in recipe["stages"]]
    site = Site(tmp_path, recipe=recipe, evaluate={"pods": {"resources": {"limits": {"nvidia.com/gpu": 1}}}})
    valid = condition(site.look(3), "RecipeValid")
    assert valid.status == "False" and "1 nvidia.com/gpu for a pod that needs 2" in valid.message
    assert not site.cluster.made


def test_gpus_for_all_pods_go_only_to_those_that_have_work_for_them() -> None:
    run = large(pods={"image": "t:1", "resources": {"limits": {"nvidia.com/gpu": 8}}})
    assert gpus(run) == {"sft": 8, "head": None, "worker": 8, "evaluate": 8}


@pytest.mark.parametrize(
    "name",
    [
        *("nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-3g.40gb", "amd.com/gpu", "habana.ai/gaudi"),
        "huawei.com/Ascend910",
    ],
)
def test_ray_counts_gpus_of_any_name_by_the_recipe(name: str) -> None:
    run = large(pods={"image": "t:1", "gpuResource": name, "sharedMemory": "64Gi"})
    assert gpus(run, name) == {"sft": 8, "head": None, "worker": 8, "evaluate": 8}
    spec = raycluster.build(run, "x")["spec"]
    head, workers = (one["rayStartParams"] for one in (spec["headGroupSpec"], spec["workerGroupSpecs"][0]))
    assert (head["num-gpus"], head["num-cpus"], workers["num-gpus"], workers["num-cpus"]) == ("0", "0", "8", "8")
    for one, role in ((head, "head"), (workers, "worker")):
        store, memory = int(one["object-store-memory"]), int(one["memory"])
        assert 75 * 2**20 < store <= 32 * 2**30, "it lies in /dev/shm"
        assert memory + store == int(parse_quantity(resources(pods(run)[role])["limits"]["memory"]))


def test_gpus_of_another_name_than_gpu_resource_are_a_mistake() -> None:
    run = large(pods={"image": "t:1", "resources": {"limits": {"amd.com/gpu": 8}}})
    assert size_faults(run.spec, run.recipe)[0] == (
        "spec.sft.pods: resources name amd.com/gpu, but the GPUs are nvidia.com/gpu: set gpuResource to amd.com/gpu"
    )


def no_amount(where: str, shown: str) -> str:
    return f"{where}: {shown} is no amount from 0 to 2^60; write it as 4 or 64Gi"


@pytest.mark.parametrize(
    ("odd", "line"),
    [
        *(
            ({"limits": {"memory": memory}}, no_amount("limits.memory", memory))
            for memory in ("much", "64 GB", "1e999999999", "1e99", "inf", "nan", "-1", "1Ei", "64Gib")
        ),
        ({"requests": {"cpu": True}}, no_amount("requests.cpu", "True")),
        ({"requests": {"cpu": None}}, no_amount("requests.cpu", "None")),
        ({"limits": {"nvidia.com/gpu": 2**60}}, no_amount("limits.nvidia.com/gpu", str(2**60))),
        ({"limits": {"rdma/\x1b[2J": "x"}}, no_amount("limits.rdma/\\x1b[2J", "x")),
        ({"claims": [{"name": "gpu"}]}, "claims is unknown: a container has requests and limits"),
        ({"limits": None}, "limits must be names with amounts, such as {memory: 64Gi}, not None"),
        ({"limits": "8Gi"}, "limits must be names with amounts, such as {memory: 64Gi}, not 8Gi"),
    ],
    ids=str,
)
def test_resources_that_cannot_be_counted_are_refused_in_one_line(odd: dict[str, Any], line: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), grpo={"workersPerPod": 2, "head": {"resources": odd}})
    assert condition(site.look(), "RecipeValid").message == f"spec.grpo.head.resources: {line}"
    assert site.cluster.made == []


@pytest.mark.parametrize("amount", [0, 4, 0.5, "500m", "1.5Gi", "1e3", "5.", "1E"])
def test_quantities_of_kubernetes_are_taken_as_they_are(amount: Any) -> None:
    run = large(grpo={"workersPerPod": 8, "head": {"resources": {"limits": {"rdma/hca": amount}}}})
    assert resources(pods(run)["head"])["limits"]["rdma/hca"] == amount


def test_an_init_container_s_odd_resources_are_left_to_the_api_server() -> None:
    run = large(pods={"image": "t:1", "initContainers": [{"name": "x", "image": "x:1", "resources": "8Gi"}]})
    assert pods(run)["head"]["spec"]["initContainers"][0]["resources"] == "8Gi"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_container_asks_for_cpus_and_memory_and_has_limits(device: str) -> None:
    recipe = {"preset": "vision-r1", "stages": BIG, "rollout": {"device": device}}
    helper = {"name": "helper", "image": "h:1"}
    run = owner(recipe=recipe, grpo={"workersPerPod": 8}, pods={"image": "t:1", "initContainers": [helper]})
    for role, pod in pods(run).items():
        for one in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
            for part in ("requests", "limits"):
                assert {"cpu", "memory"} <= one["resources"][part].keys(), f"{role}: a quota would refuse it"
            for key in ("cpu", "memory"):
                asked, most = (parse_quantity(one["resources"][part][key]) for part in ("requests", "limits"))
                assert 0 < asked <= most, role


def test_memory_is_what_is_planned_and_all_of_the_shared_memory() -> None:
    without, having = (large(pods={"image": "t:1", **more}) for more in ({}, {"sharedMemory": "64Gi"}))
    for role in ("sft", "worker", "evaluate"):
        base, more = (parse_quantity(resources(pods(run)[role])["requests"]["memory"]) for run in (without, having))
        assert more - base == 64 * 2**30, role
    assert parse_quantity(resources(pods(without)["worker"])["requests"]["memory"]) >= 100 * 2**30, "72B rests on the host"


def test_what_the_user_names_is_the_user_s_alone() -> None:
    run = large(pods={"image": "t:1", "resources": {"requests": {"cpu": "200"}, "limits": {"memory": "8Gi"}}})
    found = resources(pods(run)["worker"])
    assert found["requests"] == {"cpu": "200"} and found["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 8}
