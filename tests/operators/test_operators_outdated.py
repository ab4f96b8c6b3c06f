"""An attempt whose name is written down, but whose child is not there yet, while somebody changes the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from ptst_operator.api import ApiError
from site_of_a_run import Site, condition, without_coldstart


def test_an_attempt_that_does_not_fit_the_recipe_any_more_is_not_made(tmp_path: Path) -> None:
    """Its name is written down, its RayJob is refused, and somebody gives the recipe other workers."""
    site = Site(tmp_path, **without_coldstart(rollout={"workers": 4}))
    site.commit("sft", 3, final=True)
    site.look(2)
    site.cluster.ready()
    site.look()

    def refuse(call: str) -> None:
        if call == "apply":
            raise ApiError(403, "exceeded quota: count/rayjobs.ray.io")

    site.cluster.before_call = refuse
    with pytest.raises(ApiError):
        site.look()
    site.cluster.before_call = lambda call: None
    site.cluster.change_spec(**without_coldstart(rollout={"workers": 8}))
    status = site.look()
    reported = condition(status, "Progressing")
    assert (status.phase, reported.reason) == ("Stopping", "Outdated")
    assert "being ended: the recipe or the pods were changed before it began" in reported.message
    for _ in range(4):
        site.cluster.collect()
        site.cluster.ready()
        status = site.look()
    first, second = status.of("stage-1").attempts
    assert (first.exit_code, second.workers) == (3, 8), "a change of the recipe is no failure"
    (made,) = [one for (kind, _), one in site.cluster.objects.items() if kind == "RayCluster"]
    assert made["spec"]["workerGroupSpecs"][0]["replicas"] == 4


def test_an_attempt_with_its_own_cluster_is_not_made_with_workers_of_an_older_recipe(tmp_path: Path) -> None:
    own = {"workersPerPod": 2, "cluster": "per-stage"}
    site = Site(tmp_path, **without_coldstart(rollout={"workers": 4}), grpo=own)
    site.commit("sft", 3, final=True)
    site.look()
    site.cluster.change_spec(**without_coldstart(rollout={"workers": 8}))
    first, second = site.look(3).of("stage-1").attempts
    assert (first.exit_code, second.workers) == (3, 8)
    assert site.cluster.made == [("RayJob", "run-stage-1-1")]


def test_an_attempt_is_not_made_on_a_ray_cluster_of_older_pods(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    site.look(2)
    site.cluster.ready()
    site.look()
    site.cluster.change_spec(pods={"image": "trainer:2"})
    for _ in range(6):
        site.look()
        site.cluster.collect()
        site.cluster.ready()
    first, second = site.status.of("stage-1").attempts
    assert (first.exit_code, first.stopping is not None and first.stopping.reason) == (3, "Outdated")
    assert second.ended is None and site.status.cluster is not None and site.status.cluster.name == "run-ray-1"
    assert [name for kind, name in site.cluster.made if kind == "RayJob"] == ["run-stage-1-1"]
