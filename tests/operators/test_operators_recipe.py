"""Where a run's recipe comes from: its spec, or a ConfigMap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from schedules import SPEC, STAGE
from site_of_a_run import Site, at_step_2, condition, without_coldstart

from visionr1.errors import BadInput
from visionr1.recipe import Recipe, load_recipe, parse_recipe, to_yaml
from visionr1.recipe.reads import evaluation_settings
from visionr1.rundir.recipe import read_recipe
from visionr1.rundir.scores import Scores

FROM = {"configMap": "recipes", "key": "recipe.yaml"}


def config_map(version: int, **recipe: Any) -> dict[str, Any]:
    made = {**without_coldstart()["recipe"], **recipe}
    return {"metadata": {"name": "recipes", "resourceVersion": str(version)}, "data": {"recipe.yaml": json.dumps(made)}}


def test_a_recipe_from_a_config_map_is_followed(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom=FROM)
    status = site.look()
    assert condition(status, "RecipeValid").message == (
        "spec.recipeFrom: there is no ConfigMap recipes; create it in the run's namespace"
    )
    site.cluster.config_maps["recipes"] = {**config_map(1), "data": {"other.yaml": ""}}
    assert "recipes has no recipe.yaml" in condition(site.look(), "RecipeValid").message
    site.cluster.config_maps["recipes"] = config_map(2)
    assert condition(site.look(2), "RecipeValid").status == "True"
    assert site.cluster.made == [("PyTorchJob", "run-sft-0")]
    site.start_child()
    site.look()
    site.commit("sft", 1, final=False)
    site.cluster.config_maps["recipes"] = config_map(3, seed=2)
    status = site.look()
    assert "seed: 1 in the run, 2 in this recipe" in condition(status, "RecipeValid").message
    assert len(site.cluster.processes) == 1, "what runs goes on"
    site.cluster.config_maps["recipes"] = config_map(4, stages=[STAGE] * 3)
    assert condition(site.look(), "RecipeValid").status == "True"
    assert "stages" in site.store.read_bytes("recipe.yaml").decode()


def test_a_mistake_in_a_config_map_is_said_by_its_place(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom=FROM)
    site.cluster.config_maps["recipes"] = config_map(1, algorithm={"prompts_per_step": 15})
    assert condition(site.look(), "RecipeValid").message.startswith("recipeFrom: algorithm.prompts_per_step (15)")
    site.cluster.config_maps["recipes"] = config_map(2, stages=[STAGE, {**STAGE, "group_size": 4}])
    assert "set spec.allowUnequalStages" in condition(site.look(), "RecipeValid").message
    site.cluster.change_spec(allowUnequalStages=True)
    assert condition(site.look(), "RecipeValid").status == "True", "a person means it"
    site.cluster.config_maps["recipes"] = {**config_map(3), "data": {"recipe.yaml": "- what\n- is this"}}
    assert condition(site.look(), "RecipeValid").status == "False"


def test_a_stage_that_has_begun_without_a_checkpoint_is_frozen_in_a_config_map_too(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom=FROM)
    site.cluster.config_maps["recipes"] = config_map(1)
    site.begin_stage_1()
    assert site.look().stages_begun == 1
    site.cluster.config_maps["recipes"] = config_map(2, stages=[{**STAGE, "steps": 3}, STAGE])
    assert "stages.0.steps: 4 in the run, 3 in this recipe" in condition(site.look(), "RecipeValid").message
    site.cluster.config_maps["recipes"] = config_map(3, stages=[STAGE, {**STAGE, "steps": 3}])
    assert condition(site.look(), "RecipeValid").status == "True", "the next one is free"


@pytest.mark.parametrize("cluster", ["shared", "per-stage"])
@pytest.mark.parametrize("mistake", ["no such ConfigMap", "not a recipe", "of another run"])
def test_a_run_whose_recipe_is_refused_can_be_suspended(mistake: str, cluster: str, tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom=FROM, grpo={"cluster": cluster, "workersPerPod": 2})
    site.cluster.config_maps["recipes"] = config_map(1)
    site.begin_stage_1()
    site.commit("stage-1", 2, final=False)
    assert site.look().phase == "Running"
    match mistake:
        case "no such ConfigMap":
            del site.cluster.config_maps["recipes"]
        case "not a recipe":
            site.cluster.config_maps["recipes"] = {**config_map(2), "data": {"recipe.yaml": "- what"}}
        case _:
            site.cluster.config_maps["recipes"] = config_map(2, seed=2)
    assert site.look().phase == "Running"
    site.cluster.change_spec(suspend=True)
    status = site.look(3)
    assert (status.phase, condition(status, "RecipeValid").status) == ("Stopping", "False")
    site.commit("stage-1", 3, final=False)
    site.end_child(3)
    for _ in range(4):
        site.look()
        site.cluster.collect()
    site.now += SPEC["deadlines"]["stopSeconds"]
    for _ in range(3):
        site.look()
        site.cluster.collect()
    stopped = site.look()
    assert (stopped.phase, stopped.of("stage-1").committed_step) == ("Suspended", 3)
    assert not site.cluster.children() and not site.cluster.processes
    assert condition(stopped, "RecipeValid").reason == "Invalid" and site.look() == stopped, "nothing is written again and again"
    site.cluster.change_spec(suspend=False)
    assert site.look(3).phase == "Suspended" and not site.cluster.children(), "it waits for its recipe"
    site.cluster.config_maps["recipes"] = config_map(3)
    status = site.look(2)
    assert (status.phase, condition(status, "RecipeValid").status) == ("Pending", "True")


@pytest.mark.parametrize("written", ["seed: 2", "stages: []", "- what", "\x00"])
def test_what_pods_have_written_over_the_recipe_keeps_nobody_from_suspending_the_run(written: str, tmp_path: Path) -> None:
    site = at_step_2(tmp_path)
    site.store.write_bytes("recipe.yaml", f"preset: demo\n{written}\n".encode())
    site.cluster.change_spec(suspend=True, **without_coldstart(seed=2))
    before = len(site.status.phases)
    status = site.look(3)
    assert (status.phase, condition(status, "RecipeValid").status, len(status.phases)) == ("Stopping", "False", before)


def test_pods_act_on_the_recipe_that_was_decided_on_and_on_no_other(tmp_path: Path) -> None:
    """Who writes to the run directory could else send a pod's secrets to a server of their own, or run code of their own."""
    site = at_step_2(tmp_path)
    decided = site.status.recipe_hash
    site.store.write_bytes("recipe.yaml", to_yaml(load_recipe("demo", ["seed=7", "reward.function=planted.py:f"])).encode())
    assert read_recipe(site.store, decided).seed == 1
    key = f"recipes/{decided}.json"
    site.store.write_bytes(key, site.store.read_bytes(key).replace(b'"seed":1', b'"seed":7'))
    with pytest.raises(BadInput, match=f"{decided}.json: somebody has changed it: its SHA-256 is not its name"):
        read_recipe(site.store, decided)
    site.look()
    assert read_recipe(site.store, decided).seed == 1, "the operator has put it back"
    Path(str(site.store.local_path(key))).unlink()
    with pytest.raises(BadInput, match=f"there is no {key}, though it was decided on"):
        read_recipe(site.store, decided)
    site.look()
    assert read_recipe(site.store, decided).seed == 1


@pytest.mark.parametrize("name", ["../secrets/keys", "a/../../pods", "x?watch=true", "x#", "..", "X", ""])
def test_the_name_of_a_config_map_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom={"configMap": name})
    site.cluster.config_maps[name] = config_map(1)
    reported = condition(site.look(), "RecipeValid")
    assert reported.status == "False" and reported.message.startswith("spec.recipeFrom.configMap: ")


def test_a_reward_of_one_s_own_needs_the_hash_of_its_file(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(reward={"function": "/reward/mine.py:f"}))
    reported = condition(site.look(), "RecipeValid")
    assert reported.message.endswith("set it to what sha256sum mine.py shows") and not site.cluster.made
    site.cluster.change_spec(**without_coldstart(reward={"function": "/reward/mine.py:f", "sha256": "0" * 64}))
    assert condition(site.look(), "RecipeValid").status == "True"


def test_a_suspended_run_takes_nothing_from_a_directory_of_another_recipe(tmp_path: Path) -> None:
    site = at_step_2(tmp_path)
    other = Site(tmp_path, suspend=True, **without_coldstart(seed=2))
    status = other.look(3)
    assert "seed: 1 in the run, 2 in this recipe" in condition(status, "RecipeValid").message and not status.phases
    assert site.look().phase == "Running"


def test_a_run_that_never_had_a_recipe_is_told_so_though_it_is_to_be_suspended(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom=FROM, suspend=True)
    assert "there is no ConfigMap recipes" in condition(site.look(), "RecipeValid").message


def test_a_value_that_sft_could_not_use_is_corrected_and_the_run_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(model={"base": "a/wrong"}))
    site.look(2)
    site.start_child()
    site.look()
    site.cluster.change_spec(**without_coldstart(model={"base": "demo"}))
    message = condition(site.look(), "RecipeValid").message
    assert 'model.base: "a/wrong" in the run, "demo" in this recipe; sft is at work with it: suspend the run' in message
    site.cluster.change_spec(**without_coldstart(model={"base": "a/wrong"}))
    site.end_child(64)
    assert site.look(2).phase == "Failed"
    site.cluster.change_spec(restarts=1, **without_coldstart(model={"base": "demo"}))
    status = site.look(3)
    assert condition(status, "RecipeValid").status == "True"
    assert status.stage == "sft" and len(status.of("sft").attempts) == 2
    assert "base: demo" in site.store.read_bytes("recipe.yaml").decode()


def test_evaluation_with_other_values_is_done_again_and_its_scores_are_kept_apart(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    recipe = without_coldstart()["recipe"]
    site.commit("sft", 3, final=True)
    for number in range(1, 1 + len(recipe["stages"])):
        site.commit(f"stage-{number}", 4 * number, final=True)
    last = f"stage-{len(recipe['stages'])}"
    step = 4 * len(recipe["stages"])
    warm = Scores(site.store, evaluation_settings(resolved(recipe)))
    warm.write(last, step, {"accuracy": 0.5}, [])
    assert site.look(2).phase == "Succeeded" and site.cluster.made == []
    site.cluster.change_spec(**without_coldstart(evaluation={"temperature": 0.0}))
    status = site.look(2)
    assert (status.phase, status.stage, site.cluster.made) == ("Pending", "evaluate", [("Job", "run-evaluate-0")])
    cold = Scores(site.store, evaluation_settings(resolved(without_coldstart(evaluation={"temperature": 0.0})["recipe"])))
    assert cold.folder != warm.folder
    site.start_child()
    cold.write(last, step, {"accuracy": 0.25}, [])
    site.look()
    site.end_child(0)
    assert site.look(3).phase == "Succeeded"
    site.cluster.change_spec(**without_coldstart())
    assert site.look(3).phase == "Succeeded" and len(site.cluster.made) == 1, "the first scores are still there"
    site.cluster.change_spec(**without_coldstart(evaluation={"temperature": 0.0}, seed=2))
    assert "seed: 1 in the run, 2 in this recipe; sft has used it" in condition(site.look(), "RecipeValid").message


def test_an_evaluation_that_the_recipe_has_no_more_is_ended_before_anything_else_begins(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    for number in (1, 2):
        site.commit(f"stage-{number}", 4 * number, final=True)
    site.look(2)
    site.start_child()
    assert site.look().stage == "evaluate" and len(site.cluster.processes) == 1
    site.cluster.change_spec(**without_coldstart(data={"held_out": None}))
    told = condition(site.look(2), "Progressing")
    assert (told.reason, told.message.count("the recipe has no evaluate any more")) == ("Outdated", 1)
    site.cluster.change_spec(**without_coldstart(data={"held_out": None}, stages=[STAGE] * 3))
    site.look(2)
    assert not any(kind == "RayCluster" for kind, _ in site.cluster.objects), "the evaluation's pod may still run"
    site.cluster.collect()
    assert site.look(3).stage == "stage-3"
    assert [one.ended is not None for one in site.status.of("evaluate").attempts] == [True]


def resolved(recipe: dict[str, Any]) -> Recipe:
    return parse_recipe(json.dumps({"name": "run", **recipe}), "spec.recipe")


def failed(folder: Path) -> Site:
    """A run with a recipe from a ConfigMap that has failed for good."""
    site = Site(folder, recipe=None, recipeFrom=FROM)
    site.cluster.config_maps["recipes"] = config_map(1)
    site.look(2)
    site.start_child()
    site.end_child(64)
    assert site.look(3).phase == "Failed"
    return site


def test_a_run_that_is_over_does_not_need_its_config_map(tmp_path: Path) -> None:
    """Tools such as Flux and Argo CD remove what is no longer in a repository."""
    site = failed(tmp_path)
    before, good = site.status, site.cluster.config_maps.pop("recipes")
    assert site.look(2) == before
    site.cluster.change_spec(restarts=1)
    assert "there is no ConfigMap recipes" in condition(site.look(2), "RecipeValid").message, "now it is needed"
    site.cluster.config_maps["recipes"] = good
    assert site.look(2).phase == "Pending"


def test_a_config_map_that_was_wrong_for_a_moment_leaves_no_mark_on_a_run_that_is_over(tmp_path: Path) -> None:
    site = failed(tmp_path)
    stalled = condition(site.status, "Stalled")
    site.cluster.config_maps["recipes"] = {**config_map(2), "data": {"recipe.yaml": "- what"}}
    assert condition(site.look(), "RecipeValid").status == "False"
    site.cluster.config_maps["recipes"] = config_map(3)
    status = site.look(2)
    assert (status.phase, condition(status, "RecipeValid").status) == ("Failed", "True")
    assert condition(status, "Stalled") == stalled
    assert len(site.cluster.made) == 1
