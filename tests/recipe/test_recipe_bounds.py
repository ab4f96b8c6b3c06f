"""No value of a recipe is larger than makes sense, and a recipe that is far from one is refused at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from ptst_operator.crd import spec_schema
from ptst_operator.spec import Spec, resolve_recipe

from visionr1.errors import BadInput
from visionr1.recipe import json_schema, parse_recipe


def without_bound(schema: Any, path: str) -> Iterator[str]:
    """Paths of the numbers without a largest value."""
    if isinstance(schema, list):
        for item in schema:
            yield from without_bound(item, path)
    if not isinstance(schema, dict):
        return
    number = schema.get("type") in ("integer", "number") and "enum" not in schema and "const" not in schema
    if number and not {"maximum", "exclusiveMaximum"} & schema.keys():
        yield path
    if schema.get("type") == "array" and "maxItems" not in schema and "prefixItems" not in schema:
        yield path
    for key, below in schema.items():
        yield from without_bound(below, f"{path}.{key}" if key not in ("properties", "$defs", "anyOf", "items") else path)


def test_every_number_and_list_of_a_recipe_has_a_maximum() -> None:
    assert list(without_bound(json_schema(), "recipe")) == []


def test_every_number_of_a_spec_has_a_maximum() -> None:
    # Lists of a pod's own fields are bounded by what the API server takes, as are all objects.
    pods = {path for path in without_bound(spec_schema(), "spec") if ".pods." in path or ".head." in path or ".workers." in path}
    assert set(without_bound(spec_schema(), "spec")) - pods == {"spec.gates.min", "spec.gates.max"}
    assert not [path for path in pods if path.endswith(("runAsUser", "fsGroup"))]


@pytest.mark.parametrize(
    "change",
    [
        "sft: {processes: 100000000}",
        "rollout: {workers: 100000000}",
        "stages: [{max_completion_tokens: 100000000000, group_size: 4}]",
        "stages: [{max_completion_tokens: 10, group_size: 100000000}]",
        "algorithm: {kl_beta: 1e300}",
        "algorithm: {prompts_per_step: 1000000}",
        f"model: {{base: {'x' * 30_000}}}",
        f"stages: [{', '.join(['{max_completion_tokens: 10, group_size: 4}'] * 33)}]",
    ],
)
def test_a_value_beyond_all_sense_is_one_line(change: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_recipe(f"preset: demo\n{change}\n", "r.yaml")
    (line,) = str(caught.value).splitlines()
    assert len(line) < 300 and line.startswith("r.yaml: ")


def test_a_huge_recipe_is_refused_at_once_and_briefly() -> None:
    text = "\n".join(f"unknown_{number}: 1" for number in range(60_000))
    begun = time.process_time()
    with pytest.raises(BadInput, match="longer than 64 KiB, which no recipe is"):
        parse_recipe(text, "recipeFrom")
    assert time.process_time() - begun < 0.1


def test_of_many_mistakes_the_first_ones_are_told() -> None:
    text = "preset: demo\n" + "\n".join(f"unknown_{number}: 1" for number in range(1000))
    with pytest.raises(BadInput) as caught:
        parse_recipe(text, "recipeFrom")
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "recipeFrom: 980 more mistakes; correct these first"


def test_the_operator_reads_a_refused_recipe_once() -> None:
    text = "preset: demo\n" + "\n".join(f"unknown_{number}: {'x' * 30}" for number in range(1000))
    spec = Spec.model_validate({"recipeFrom": {"configMap": "c"}, "storage": {"url": "s3://b/r"}, "pods": {"image": "i"}})
    seconds = []
    for _ in range(2):
        begun = time.process_time()
        with pytest.raises(BadInput, match="more mistakes"):
            resolve_recipe(spec, "run", text)
        seconds.append(time.process_time() - begun)
    assert seconds[1] < seconds[0] / 10


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PATH", "WANDB_API_KEY", "visionr1_key", "VISIONR1_"])
def test_a_recipe_cannot_send_another_secret_to_a_teacher(name: str) -> None:
    with pytest.raises(BadInput, match=f"coldstart.reasoner.api_key_env: '{name}' is not a variable for API keys: take one that"):
        parse_recipe(f"preset: demo\ncoldstart: {{reasoner: {{api_key_env: {name}}}}}\n", "r.yaml")


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "VISIONR1_TEACHER_KEY"])
def test_a_teacher_s_key_may_have_these_names(name: str) -> None:
    parse_recipe(f"preset: demo\ncoldstart: {{reasoner: {{api_key_env: {name}}}}}\n", "r.yaml")
