"""The chart's values: presets are runs that the operator accepts, every value is described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ptst_operator.spec import Spec, resolve_recipe

from visionr1.recipe import phases
from visionr1.recipe.document import merge

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/visionr1-ptst"
PRESETS = sorted((CHART / "presets").glob("*.yaml"))


def without_null(node: Any) -> Any:
    """As Helm merges: a null takes the chart's default away."""
    return {key: without_null(value) for key, value in node.items() if value is not None} if isinstance(node, dict) else node


def values(preset: Path | None, **run: Any) -> dict[str, Any]:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    changed = merge(defaults, yaml.safe_load(preset.read_text())) if preset else defaults
    made: dict[str, Any] = without_null(merge(changed, {"run": run}))
    return made


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda path: path.stem if path else "values")
def test_every_preset_is_a_run_that_the_operator_accepts(preset: Path | None) -> None:
    made = values(preset)
    jsonschema.validate(made, json.loads((CHART / "values.schema.json").read_text()))
    run = {key: value for key, value in made["run"].items() if key not in ("enabled", "name")}
    spec = Spec.model_validate(run)
    assert spec.storage.claim and spec.storage.claim.mount_path == made["claim"]["mountPath"]
    assert phases(resolve_recipe(spec, made["run"]["name"]))


@pytest.mark.parametrize(
    ("run", "path"),
    [
        ({"recipe": {"stages": [{"max_completion_tokens": 8, "group_size": 2, "step": 1}]}}, "run.recipe.stages.0"),
        ({"recipe": {"optimiser": {"learning_rat": 1}}}, "run.recipe.optimiser"),
        ({"sft": {"node": 4}}, "run.sft"),
        ({"pods": {"nodeSelecter": {}}}, "run.pods"),
        ({"deadlines": {"stopSeconds": 0}}, "run.deadlines.stopSeconds"),
        ({"holdBefore": ["stage-0"]}, "run.holdBefore.0"),
        ({"pods": {"imagePullPolicy": "always"}}, "run.pods.imagePullPolicy"),
        ({"sft": {"pods": {"scratch": "10 GB"}}}, "run.sft.pods.scratch"),
    ],
)
def test_a_mistake_anywhere_in_the_values_is_refused_at_its_place(run: dict[str, Any], path: str) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(values(None, **run)))
    assert [".".join(str(part) for part in error.absolute_path) for error in errors] == [path]


def test_every_value_is_described() -> None:
    def silent(node: dict[str, Any], path: str) -> list[str]:
        """Below a node; what an item of a list is, the list itself says."""
        found = [f"{path}.{name}" for name, below in node.get("properties", {}).items() if not below.get("description")]
        below = {f"{path}.{name}": one for name, one in node.get("properties", {}).items()}
        for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
            below |= {path + mark: node[key]} if isinstance(node.get(key), dict) else {}
        return found + [one for where, inner in below.items() for one in silent(inner, where)]

    assert silent(json.loads((CHART / "values.schema.json").read_text()), "") == []
