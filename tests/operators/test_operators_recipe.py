"""Where a run's recipe comes from: its spec, or a ConfigMap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schedules import STAGE
from site_of_a_run import Site, condition, without_coldstart

FROM = {"configMap": "recipes", "key": "recipe.yaml"}


def config_map(version: int, **recipe: Any) -> dict[str, Any]:
    made = {**without_coldstart()["recipe"], **recipe}
    return {"metadata": {"name": "recipes", "resourceVersion": str(version)}, "data": {"recipe.yaml": json.dumps(made)}}


def test_a_recipe_from_a_config_map_is_followed(tmp_path: Path) -> None:
    site = Site(tmp_path, recipe=None, recipeFrom=FROM)
    status = site.look()
    assert condition(status, "RecipeValid").message == (
        "spec.recipeFrom: there is no ConfigMap recipes; make it in the run's namespace"
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
    site.commit("sft", 3, final=True)
    site.look(2)
    site.cluster.ready()
    site.look(3)
    site.start_child()
    assert site.look().stages_begun == 1
    site.cluster.config_maps["recipes"] = config_map(2, stages=[{**STAGE, "steps": 3}, STAGE])
    assert "stages.0.steps: 4 in the run, 3 in this recipe" in condition(site.look(), "RecipeValid").message
    site.cluster.config_maps["recipes"] = config_map(3, stages=[STAGE, {**STAGE, "steps": 3}])
    assert condition(site.look(), "RecipeValid").status == "True", "the next one is free"
