"""Whatever the texts of a recipe and a spec are, a look at the run ends: with a child, or with a line in the condition."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from schedules import RECIPE
from site_of_a_run import Site, condition

from visionr1.recipe import load_recipe

NASTY = (
    "",
    "\0",
    "a" * 5000,
    "/",
    "..",
    "*",
    "[",
    "**x",
    "/etc",
    "~nobody/x",
    "a:b",
    "s3://",
    "\x1b[2J",
    "\n",
    "x/y",
    "é" * 300,
    "-",
)
AMOUNTS = ("1e999999999", "inf", "nan", "9" * 5000, "-1")
"""As numbers, some would take for ever."""


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all texts, and of all that is null and may be one."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from leaves(below, (*path, key))
    elif isinstance(node, list):
        for place, below in enumerate(node):
            yield from leaves(below, (*path, place))
    elif isinstance(node, str) or node is None:
        yield path


def changed(node: Any, path: tuple[Any, ...], value: str) -> Any:
    made = copy.deepcopy(node)
    below = made
    for key in path[:-1]:
        below = below[key]
    below[path[-1]] = value
    return made


def whole_recipe(preset: str) -> dict[str, Any]:
    """Every value of a recipe, but those that the operator sets itself."""
    made = load_recipe(preset).model_dump(mode="json")
    del made["name"]
    made["metrics"] = {}
    return {"preset": preset, **made}


RECIPE_TEXTS = [("demo", path) for path in leaves(whole_recipe("demo"))]
ON_GPUS = [("vision-r1", ("model", "base")), ("vision-r1", ("model", "revision")), ("vision-r1", ("reward", "function"))]
"""What a run is planned with, which one on CPUs is not."""
SPEC: dict[str, Any] = {
    "pods": {
        **dict.fromkeys(("image", "gpuResource", "priorityClassName"), "x"),
        **dict.fromkeys(("schedulerName", "runtimeClassName", "serviceAccountName"), "x"),
        "imagePullPolicy": "Always",
        "sharedMemory": "1Gi",
        "scratch": "1Gi",
        **{key: {"a": "b"} for key in ("env", "labels", "annotations", "nodeSelector")},
        "resources": {
            "requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"},
            "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"},
        },
    },
    "queueLabels": {"a": "b"},
    "gates": [{"metric": "kl_mean", "max": 1.0, "action": "Rollback", "rollbackTo": "stage-1/step-1"}],
    "holdBefore": ["sft"],
    "recipeFrom": {"configMap": "x", "key": "recipe.yaml"},
}


def looked_at(folder: Path, **spec: Any) -> None:
    site = Site(folder, **spec)
    reported = condition(site.look(), "RecipeValid")
    assert reported.status == "True" or all(line and line.isprintable() for line in reported.message.split("\n"))


@pytest.mark.parametrize(("preset", "path"), [*RECIPE_TEXTS, *ON_GPUS], ids=str)
def test_a_text_of_the_recipe(preset: str, path: tuple[Any, ...], tmp_path: Path) -> None:
    for number, text in enumerate(NASTY):
        recipe = changed(whole_recipe(preset), path, text)
        looked_at(tmp_path / str(number), recipe=recipe, grpo={"workersPerPod": 2 if preset == "demo" else 8})


@pytest.mark.parametrize("path", list(leaves(SPEC)), ids=lambda path: ".".join(map(str, path)))
def test_a_text_of_the_spec(path: tuple[Any, ...], tmp_path: Path) -> None:
    for number, text in enumerate((*NASTY, *AMOUNTS)):
        made = changed(SPEC, path, text)
        source = {"recipe": None} if path[0] == "recipeFrom" else {"recipe": RECIPE, "recipeFrom": None}
        looked_at(tmp_path / str(number), **{key: made[key] for key in made if key != "recipeFrom" or path[0] == key} | source)
