"""A key without a value is null: `env:` with all lines below it in comments. It is empty, or one line says that it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart import CHART, Manifest, Values, manifests, pod_templates, refusal, the

from visionr1.recipe.document import merge

ALL: Values = {
    "operator": {"replicas": 2},
    "doctor": {"enabled": True},
    "monitoring": {name: {"enabled": True} for name in ("podMonitor", "rules", "dashboards")},
}
NEEDED = "missing property"
NOISE = ("<nil>", "nil pointer", "error calling", "renders null", "BestEffort")


def paths(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of all values, groups and what is in them."""
    for key, below in node.items() if isinstance(node, dict) else ():
        yield (*above, key)
        yield from paths(below, (*above, key))


def nested(path: tuple[str, ...], value: Any) -> Values:
    for key in reversed(path):
        value = {key: value}
    made: Values = value
    return made


def nulls(node: Any, path: str = "") -> list[str]:
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] if node is None else [one for key, value in below for one in nulls(value, f"{path}.{key}")]


def why_not(values: Values) -> str:
    """What Helm says of these values; nothing if it renders them, and all is as Kubernetes takes it."""
    try:
        made = manifests(values, chart=CHART)
    except AssertionError as error:
        return str(error).partition("\nassert ")[0]
    return "\n".join(f"renders null at {one['kind']}{where}" for one in made for where in nulls(one)) + best_effort(made)


def best_effort(made: list[Manifest]) -> str:
    bare = [name for name, pod in pod_templates(made).items() for one in pod["spec"]["containers"] if not one.get("resources")]
    return f"BestEffort: {bare}" if bare else ""


DEFAULTS = list(paths(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.parametrize("part", sorted({path[0] for path in DEFAULTS}))
def test_each_value_may_be_null_or_is_asked_for_in_one_line(part: str) -> None:
    for path in [path for path in DEFAULTS if path[0] == part]:
        said = why_not(merge(ALL, nested(path, None)))
        if said:
            (line,) = [one for one in said.splitlines() if one.startswith("- at ") or "execution error" in one]
            assert len(said.strip().splitlines()) <= 4, said
            assert NEEDED not in line or line == f"- at '{'/'.join(('', *path[:-1]))}': {NEEDED} '{path[-1]}'", line
            assert not any(noise in said for noise in NOISE), said


@pytest.mark.parametrize(
    "values",
    [
        "operator:\n  env:\n  # AWS_REGION: eu-central-1\n  podAnnotations:\n",
        "podAnnotations:\npodLabels:\ncommonLabels:\n",
        "monitoring:\n  rules:\n    enabled: true\n    alertLabels:\n    alerts:\n  podMonitor: {enabled: true, relabelings: }\n",
        "admission: {serviceAccounts: , images: }\nproxy: {httpsProxy: 'http://a:1', noProxy: }\n",
        "run: {recipe: {model: , rollout: , coldstart: {describer: }}}",
        "run: {pods: {env: {A: }, labels: {a: }}, sft: {pods: {env: }}, coldstart: , queueLabels: }",
    ],
)
def test_what_may_be_empty_is_empty(values: str) -> None:
    made = manifests(yaml.safe_load(values))
    assert [where for one in made for where in nulls(one) if ".recipe." not in where] == []


def test_a_recipe_keeps_its_null_which_has_a_meaning() -> None:
    made = the(manifests({"run": {"recipe": {"sft": None}}}), "PTSTRun")
    assert made["spec"]["recipe"]["sft"] is None, "a run without SFT"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"run": {"pods": {"volumes": [None]}}}, "- at '/run/pods/volumes/0': got null, want object"),
        ({"run": {"recipe": {"stages": [None]}}}, "- at '/run/recipe/stages/0': got null, want object"),
        ({"operator": {"env": {"A": None}}}, "- at '/operator/env/A': got null, want string"),
        ({"global": {"imageRegistry": 5}}, "- at '/global/imageRegistry': got number, want "),
    ],
)
def test_an_item_of_a_list_is_no_default_that_null_could_take_away(values: Values, line: str) -> None:
    assert line in why_not(values)


def test_a_mount_without_its_path_is_named() -> None:
    mounts: Values = {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a"}]}
    assert "operator.volumeMounts has an entry without mountPath" in refusal({"operator": mounts})
    assert "run.pods.volumeMounts has an entry without mountPath" in refusal({"run": {"pods": mounts}})


def test_large_numbers_stay_whole() -> None:
    many = 1_000_000
    made = manifests({"operator": {"workers": many, "resyncSeconds": many}, "doctor": {"enabled": True, "deadlineSeconds": many}})
    (container,) = the(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {"--workers=1000000", "--resync=1000000"} <= set(container["args"])
    assert [one["spec"]["activeDeadlineSeconds"] for one in made if one["kind"] == "Job"].count(many) == 1
