"""The custom resource's definition: as the models say, structural, and small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from ptst_operator.crd import definition, spec_schema
from ptst_operator.rules import ROLES
from ptst_operator.spec import Pods, Spec

from visionr1.recipe.schema import Stage


def nodes(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_the_stage_of_a_run_is_the_recipe_s_stage() -> None:
    stage = spec_schema()["properties"]["recipe"]["properties"]["stages"]["items"]
    assert set(stage["properties"]) == set(Stage.model_fields)
    assert stage["required"] == ["max_completion_tokens", "group_size"]


def test_no_pods_of_the_spec_are_left_out_of_the_roles() -> None:
    """The rules of the definition and the chart's admission policy hold for ROLES."""
    parts = {part: getattr(field.annotation, "model_fields", {}) for part, field in Spec.model_fields.items()}
    there = {(part, role) for part, below in parts.items() for role, field in below.items() if field.annotation is Pods}
    assert set(ROLES) == there and len(ROLES) == len(there)


def test_every_field_says_what_it_is() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    silent = [path for path, node in nodes(schema, "") if not node.get("description") and not path.endswith(("[]", ".metadata"))]
    assert silent == []


def test_the_schema_is_structural() -> None:
    """No references, unions or null: the API server would refuse it or drop fields."""
    for path, node in nodes(definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], ""):
        assert not {"$ref", "anyOf", "allOf", "prefixItems", "title", "const"} & node.keys(), path
        assert ("type" in node) != ("x-kubernetes-int-or-string" in node), path


def test_kubectl_get_shows_how_a_run_is() -> None:
    spec = definition()["spec"]
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["ptst"], ["all"]), "kubectl get ptst, kubectl get all"
    columns = spec["versions"][0]["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if not column.get("priority")]
    assert narrow == ["Phase", "Stage", "Step", "Reward", "Length", "Tok/s/GPU", "Age"]
    wide = [column["name"] for column in columns if column.get("priority")]
    assert wide == ["HoursLeft", "Truncated", "KL", "Reason", "Message"]
    status = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    shown = {column["jsonPath"].removeprefix(".status."): column["type"] for column in columns}
    reported = {path for path in shown if path.startswith("conditions")}
    assert reported == {f'conditions[?(@.type=="Progressing")].{key}' for key in ("reason", "message")}
    del shown[".metadata.creationTimestamp"]
    assert {path: status[path]["type"] for path in shown.keys() - reported} == {
        path: shown[path] for path in shown.keys() - reported
    }


def test_no_default_hides_a_preset() -> None:
    recipe = spec_schema()["properties"]["recipe"]
    assert [path for path, node in nodes(recipe) if "default" in node] == []


def test_no_default_is_written_into_the_entries_of_a_list() -> None:
    """Argo CD compares a list of a custom resource as a whole: with such a default, a run with gates would never be in sync."""
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert [path for path, node in nodes(schema, "") if "[]" in path and "default" in node] == []


def test_it_fits_kubectl_apply() -> None:
    """`kubectl apply` keeps the whole object as JSON in an annotation of at most 262,144 bytes."""
    assert len(json.dumps(definition(), separators=(",", ":"))) < 200_000


def test_the_operator_never_loads_a_trainer() -> None:
    code = "import sys, ptst_operator.main; print(sorted({'torch', 'numpy', 'ray', 'vllm', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.strip() == "[]", done.stderr
