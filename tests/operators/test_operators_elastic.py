"""A stage that may begin with fewer workers than asked for: when it does, with how many, and what is written down of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ptst_operator.children import raycluster
from ptst_operator.children.raycluster import WorkerPod, is_whole, read_worker_pods, scaled
from ptst_operator.elastic import fewest, worker_counts
from ptst_operator.forecast import faults
from ptst_operator.run import ResolvedRun
from ptst_operator.sizes import resources_of
from ptst_operator.spec import Spec, resolve_recipe
from pydantic import ValidationError
from schedules import SPEC
from site_of_a_run import Site, condition, without_coldstart

from visionr1.errors import BadInput
from visionr1.recipe import Recipe
from visionr1.rundir.recipe import read_recipe

WORKERS = {"rollout": {"workers": 8}}  # a step has 16 prompts


def grpo(least: int, **changes: Any) -> dict[str, Any]:
    return {"workersPerPod": 2, "minWorkers": least, **changes}


def spec_of(least: int | None, per_pod: int = 2, **recipe: Any) -> Spec:
    own = {"workersPerPod": per_pod} | ({} if least is None else {"minWorkers": least})
    return Spec.model_validate({**SPEC, "grpo": own, "recipe": {**without_coldstart()["recipe"], **WORKERS, **recipe}})


def waiting(folder: Path, least: int = 4, ready: int = 3, **changes: Any) -> Site:
    """A run whose first stage waits: `ready` of the four worker pods of its RayCluster are ready."""
    deadlines = {"workersSeconds": 100, "stopSeconds": 60}
    site = Site(folder, **without_coldstart(**WORKERS), **{"grpo": grpo(least), "deadlines": deadlines} | changes)
    site.commit("sft", 3, final=True)
    site.look(2)
    scale(site)
    for _ in range(ready):
        node_comes(site)
    site.look()
    return site


def with_fewer(folder: Path) -> Site:
    """A run whose first stage trains with four of eight workers."""
    site = waiting(folder)
    site.now += 100
    site.look(2)
    scale(site)
    site.look(2)
    site.start_child()
    assert site.look().phase == "Running"
    return site


def scale(site: Site) -> None:
    site.cluster.workers.scale(site.cluster.ray_clusters())


def node_comes(site: Site) -> None:
    site.cluster.workers.node_comes("run-ray-0")
    scale(site)


def node_goes(site: Site) -> None:
    site.cluster.workers.node_goes("run-ray-0")
    scale(site)


def group_of(site: Site) -> dict[str, Any]:
    (group,) = site.cluster.objects["RayCluster", "run-ray-0"]["spec"]["workerGroupSpecs"]
    return dict(group)


def driver_recipe(site: Site, job: str) -> Recipe:
    """What the pods of a RayJob act on, read as they read it."""
    words = site.cluster.objects["RayJob", job]["spec"]["entrypoint"].split()
    return read_recipe(site.store, words[words.index("--recipe-sha256") + 1])


def progressing(site: Site) -> str:
    return str(condition(site.status, "Progressing").message)


@pytest.mark.parametrize(
    ("least", "per_pod", "recipe", "counts"),
    [
        (None, 2, {}, (8,)),
        (8, 2, {}, (8,)),
        (4, 2, {}, (8, 4)),
        (3, 2, {}, (8, 4)),
        (1, 2, {}, (8, 4, 2)),
        (1, 1, {}, (8, 4, 2, 1)),
        (1, 1, {"algorithm": {"prompts_per_step": 24}}, (8, 6, 4, 3, 2, 1)),
        (1, 1, {"algorithm": {"prompts_per_step": 24}, "stages": [{"max_completion_tokens": 8, "group_size": 2}] * 2}, None),
    ],
)
def test_the_numbers_that_a_stage_may_begin_with(
    least: int | None, per_pod: int, recipe: dict[str, Any], counts: tuple[int, ...] | None
) -> None:
    spec = spec_of(least, per_pod, **recipe)
    found = worker_counts(spec, resolve_recipe(spec, "run"))
    assert found == (counts or (8, 6, 4, 3, 2, 1))


def test_every_number_is_one_that_the_recipe_takes() -> None:
    stages = [{"max_completion_tokens": 8, "group_size": 2, "tensor_parallel": 2}, {"max_completion_tokens": 8, "group_size": 2}]
    spec = spec_of(1, 1, stages=stages, algorithm={"prompts_per_step": 24, "updates_per_batch": 6})
    recipe = resolve_recipe(spec, "run")

    def taken(count: int) -> bool:
        try:
            Recipe.model_validate(json.loads(recipe.model_dump_json()) | {"rollout": {"workers": count}})
        except ValidationError:
            return False
        return True

    assert worker_counts(spec, recipe) == tuple(count for count in range(8, 0, -1) if taken(count)) == (8, 6, 4, 2)
    assert fewest(spec, recipe).rollout.workers == 2


@pytest.mark.parametrize(
    ("least", "message"),
    [
        (9, "spec.grpo.minWorkers: 9 is more than the recipe's rollout.workers (8)"),
        (
            5,
            "spec.grpo.minWorkers: from 5 to 7 there is no number of workers that divides algorithm.prompts_per_step (8) and is "
            "a multiple of workersPerPod (2) and of every stage's tensor_parallel; the recipe allows 2, 4",
        ),
    ],
)
def test_a_number_that_cannot_work_is_refused_in_one_line(least: int, message: str) -> None:
    with pytest.raises(BadInput) as error:
        resolve_recipe(spec_of(least), "run")
    assert str(error.value) == message


def test_what_would_not_fit_on_so_few_gpus_is_refused() -> None:
    recipe: dict[str, Any] = {
        "preset": "vision-r1",
        "model": {"base": "Qwen/Qwen2.5-VL-72B-Instruct"},
        "sft": None,
        "coldstart": None,
    }
    recipe |= {"rollout": {"workers": 64}}
    for least, fits in ((64, True), (8, False)):
        spec = Spec.model_validate({**SPEC, "grpo": {"workersPerPod": 8, "minWorkers": least}, "recipe": recipe})
        lines = faults(spec, resolve_recipe(spec, "run"))
        assert (not lines) == fits, lines
        assert all(line.endswith("(with 8 workers, which spec.grpo.minWorkers allows)") for line in lines)


def test_memory_is_planned_for_the_fewest_workers() -> None:
    """With eight of 64 GPUs each pod has eight times its share of the optimiser's states on its host."""

    def gib(least: int | None) -> int:
        grpo = {"workersPerPod": 8} | ({} if least is None else {"minWorkers": least})
        spec = Spec.model_validate({**SPEC, "grpo": grpo, "recipe": {"preset": "vision-r1", "rollout": {"workers": 64}}})
        requests = resources_of(spec, resolve_recipe(spec, "run"), "worker")["requests"]
        return int(requests["memory"].removesuffix("Gi"))

    assert gib(None) == gib(64) < gib(32) < gib(8)


def test_a_stage_waits_for_its_deadline_and_says_until_when(tmp_path: Path) -> None:
    site = waiting(tmp_path)
    assert progressing(site) == (
        "stage-1 waits for its RayCluster to be ready; 6 of 8 workers are ready, 4 are enough from 1970-01-12T13:48:20Z "
        "(grpo.minWorkers)"
    )
    site.now += 90
    site.look()
    assert [kind for kind, _ in site.cluster.made] == ["RayCluster"] and group_of(site)["replicas"] == 4


def test_all_workers_in_time_are_all_workers(tmp_path: Path) -> None:
    site = waiting(tmp_path)
    node_comes(site)
    status = site.look(2)
    assert status.of("stage-1").attempts[-1].workers == 8 and status.cluster is not None and status.cluster.reduced_for is None
    assert driver_recipe(site, "run-stage-1-0").rollout.workers == 8
    assert "workers" not in progressing(site)


def test_after_the_deadline_it_begins_with_the_largest_number_that_the_recipe_allows(tmp_path: Path) -> None:
    """Six workers are ready, but 16 prompts are not shared out by six."""
    site = waiting(tmp_path)
    waits = [name for name, ready in site.cluster.workers.pods["run-ray-0"].items() if not ready]
    site.now += 100
    site.look(2)
    group = group_of(site)
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
    assert set(waits) < set(group["scaleStrategy"]["workersToDelete"]) and len(group["scaleStrategy"]["workersToDelete"]) == 2
    scale(site)
    assert list(site.cluster.workers.pods["run-ray-0"].values()) == [True, True], "those that are ready stay"
    status = site.look(2)
    attempt = status.of("stage-1").attempts[-1]
    assert (attempt.name, attempt.workers) == ("run-stage-1-0", 4)
    assert site.cluster.made == [("RayCluster", "run-ray-0"), ("RayJob", "run-stage-1-0")], "the RayCluster stays"
    assert driver_recipe(site, "run-stage-1-0").rollout.workers == 4
    assert read_recipe(site.store).rollout.workers == 8, "the run still wants eight"
    site.start_child()
    site.look()
    assert progressing(site) == "stage-1 runs as RayJob run-stage-1-0 with 4 of 8 workers"
    (event,) = [one for one in site.cluster.events if one.reason == "FewerWorkers"]
    assert event.message == (
        "run-stage-1-0 begins with 4 of 8 workers: the others were not ready within deadlines.workersSeconds"
    )


def test_fewer_than_the_least_are_waited_for(tmp_path: Path) -> None:
    site = waiting(tmp_path, ready=1)
    site.now += 10_000
    site.look(3)
    assert [kind for kind, _ in site.cluster.made] == ["RayCluster"]
    assert progressing(site).endswith("; 2 of 8 workers are ready, 4 are enough (grpo.minWorkers)")
    node_comes(site)
    site.look(2)
    scale(site)
    assert site.look(2).of("stage-1").attempts[-1].workers == 4, "at once, when there are enough"


def test_without_min_workers_a_stage_waits_for_all(tmp_path: Path) -> None:
    site = waiting(tmp_path, grpo={"workersPerPod": 2})
    site.now += 10_000
    site.look(3)
    assert [kind for kind, _ in site.cluster.made] == ["RayCluster"] and group_of(site)["replicas"] == 4
    assert progressing(site) == "stage-1 waits for its RayCluster to be ready"


def test_the_next_attempt_asks_for_all_again_and_takes_what_is_there(tmp_path: Path) -> None:
    """A node has vanished in the middle of the stage. KubeRay still calls the RayCluster ready."""
    site = with_fewer(tmp_path)
    site.commit("stage-1", 2, final=False)
    site.look()
    node_goes(site)
    site.end_child(1)
    site.look(3)
    assert group_of(site)["replicas"] == 4 and "scaleStrategy" not in group_of(site)
    scale(site)
    assert "2 of 8 workers are ready" in (site.look(), progressing(site))[1]
    for _ in range(3):
        node_comes(site)
    status = site.look(2)
    attempt = status.of("stage-1").attempts[-1]
    assert (attempt.number, attempt.workers, attempt.from_step) == (1, 8, 2)
    assert status.cluster is not None and status.cluster.reduced_for is None
    assert driver_recipe(site, "run-stage-1-1").rollout.workers == 8


def test_a_node_that_stays_away_makes_the_next_attempt_smaller(tmp_path: Path) -> None:
    site = waiting(tmp_path)
    node_comes(site)
    site.look(2)
    site.start_child()
    site.look()
    node_goes(site)
    site.end_child(1)
    site.look(2)
    assert condition(site.status, "Progressing").reason == "WaitsForRetry"
    site.now += 20
    site.look(2)
    assert "6 of 8 workers are ready" in progressing(site), "a driver would wait for the lost one, although KubeRay says ready"
    site.now += 100
    site.look(2)
    scale(site)
    assert site.look(2).of("stage-1").attempts[-1].workers == 4


def test_a_kept_pod_that_is_lost_before_the_stage_begins_has_the_deadline_again(tmp_path: Path) -> None:
    site = waiting(tmp_path, least=2)
    site.now += 100
    site.look(2)
    scale(site)
    node_goes(site)
    status = site.look(2)
    assert status.cluster is not None and status.cluster.workers == 4 and len(site.cluster.made) == 1
    site.now += 105
    site.look(2)
    scale(site)
    assert site.look(2).of("stage-1").attempts[-1].workers == 2


def test_an_operator_that_is_replaced_goes_on_with_what_was_decided(tmp_path: Path) -> None:
    """Between the written number and the smaller RayCluster."""
    site = waiting(tmp_path)
    site.now += 100
    site.look()
    assert site.status.cluster is not None and site.status.cluster.workers == 4 and group_of(site)["replicas"] == 4
    site.replace_operator()
    site.look()
    assert group_of(site)["replicas"] == 2


def test_min_workers_that_are_taken_away_or_raised_count_for_the_next_attempt(tmp_path: Path) -> None:
    site = waiting(tmp_path)
    site.now += 100
    site.look(2)
    site.cluster.change_spec(grpo=grpo(8))
    site.look(2)
    assert site.status.cluster is not None and site.status.cluster.reduced_for is None and group_of(site)["replicas"] == 4
    other = waiting(tmp_path / "other")
    other.now += 100
    other.look(2)
    other.cluster.change_spec(grpo={"workersPerPod": 2})
    other.look()
    other.cluster.collect()
    other.look(2)
    assert other.cluster.made == [("RayCluster", "run-ray-0"), ("RayCluster", "run-ray-1")]


def test_a_smaller_cluster_keeps_ready_pods_and_names_the_others() -> None:
    spec = spec_of(2)
    run = ResolvedRun("run", "default", "run-uid", spec, resolve_recipe(spec, "run"))
    whole = raycluster.build(run, "run-ray-0")
    there = [WorkerPod("a", False), WorkerPod("b", True), WorkerPod("c", False), WorkerPod("d", True)]
    (group,) = scaled(whole, 2, there)["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["scaleStrategy"]) == (2, {"workersToDelete": ["a", "c"]})
    assert scaled(whole, 4, there) == whole


def test_pods_that_are_being_deleted_are_not_ready() -> None:
    def pod(name: str, kind: str, ready: str, **meta: str) -> dict[str, Any]:
        conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]
        return {"metadata": {"name": name, "labels": {"ray.io/node-type": kind}, **meta}, "status": {"conditions": conditions}}

    pods = [pod("h", "head", "True"), pod("a", "worker", "True"), pod("b", "worker", "False")]
    pods.append(pod("c", "worker", "True", deletionTimestamp="2026-11-29T00:00:00Z"))
    there = read_worker_pods(pods)
    assert there == (WorkerPod("a", True), WorkerPod("b", False), WorkerPod("c", False))
    spec = {"workerGroupSpecs": [{"replicas": 2}]}
    seen = raycluster.read({"metadata": {"uid": "u"}, "spec": spec, "status": {"state": "ready"}})
    assert seen.pods == 2 and is_whole(seen, None) and not is_whole(seen, there)
