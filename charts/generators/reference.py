"""The reference pages of docs/: every field of a recipe and of a PTSTRun, from the schemas that check them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import yaml
from ptst_operator.crd import definition

from generators import CHART, made_from
from visionr1.recipe import Recipe, preset_names

Schema = dict[str, Any]

_FIELDS: Final = """\
`[]` is an entry of a list. A required field must be set if its group is. A group like an earlier one names it.
"""
_RECIPE: Final = """
# Reference: the recipe

This page lists every field of a recipe file, which is also `spec.recipe` of a [PTSTRun](reference-ptstrun.md). The default holds
if neither file nor preset sets the field. `visionr1 recipe show vision-r1` prints a preset with every value. Unknown keys are
refused. `visionr1 recipe schema` prints a JSON Schema for editors.

"""
_PTSTRUN: Final = """
# Reference: PTSTRun

This page lists every field of the custom resource `{kind}` (`{group}/{version}`, short name `ptst`). On a cluster,
`kubectl explain ptst.spec --recursive` shows the same. The fields of `spec.recipe` are those of
[the recipe](reference-recipe.md), without `name` and the address of the metrics: the operator sets these.
[The platform](platform.md) says what the operator does.

"""
_RIGHTS: Final = """
## The operator's rights

Its Role, in its own namespace and nowhere else (or in each namespace of `operator.watchNamespaces`):

| API group | resources | verbs |
|---|---|---|
"""
_ROLE: Final = CHART / "templates/operator/rbac.yaml"
_HEAD: Final = "| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n"
_LIMITS: Final = {
    "minimum": "at least {:.12g}",
    "exclusiveMinimum": "more than {:.12g}",
    "maximum": "at most {:.12g}",
    "exclusiveMaximum": "less than {:.12g}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "pattern": "`{}`",
}


def recipe_page() -> str:
    """docs/reference-recipe.md, as Markdown."""
    schema = Recipe.model_json_schema()
    preset = {"type": "string", "enum": preset_names(), "description": "Start from this preset; the other keys change it."}
    fields = {"properties": {"preset": preset, **schema["properties"]}}
    rows = "".join(_rows(fields, "", schema["$defs"], {}))
    return f"<!-- {made_from('visionr1/recipe/schema.py')} -->{_RECIPE}{_FIELDS}" + "\n" + _HEAD + rows


def ptstrun_page() -> str:
    """docs/reference-ptstrun.md, as Markdown."""
    crd = definition()["spec"]
    (version,) = crd["versions"]
    run = version["schema"]["openAPIV3Schema"]
    fields = run["properties"]["spec"]["properties"]
    # The recipe has a page of its own.
    spec = {**run["properties"]["spec"], "properties": {**fields, "recipe": {**fields["recipe"], "properties": {}}}}
    # The pods of each role have the same rules.
    rules = "".join(f"- {message}\n" for message in dict.fromkeys(one["message"] for one in _rules(run)))
    text = f"<!-- {made_from('operators/ptst_operator')} -->"
    text += _PTSTRUN.format(kind=crd["names"]["kind"], group=crd["group"], version=version["name"]) + _FIELDS
    text += f"\n## spec\n\n{_HEAD}" + "".join(_rows(spec, "spec", {}, {}))
    text += f"\nThe API server also refuses these, with this message:\n\n{rules}"
    text += f"\n## status\n\n{_HEAD}" + "".join(_rows(run["properties"]["status"], "status", {}, {}))
    return text + _RIGHTS + "".join(_rights())


def _rights() -> Iterator[str]:
    """A row for each rule of the operator's Role, which the template writes on one line."""
    for line in _ROLE.read_text(encoding="utf-8").splitlines():
        if "verbs:" in line:
            (rule,) = yaml.safe_load(line)
            groups, resources, verbs = (", ".join(rule[key]) for key in ("apiGroups", "resources", "verbs"))
            yield f"| {groups or 'core'} | {resources} | {verbs} |\n"


def _rows(node: Schema, path: str, definitions: Schema, seen: dict[str, str]) -> Iterator[str]:
    """A row for each field below a node, in the schema's order; `seen` has the paths of groups by their fields."""
    for name, below in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        field = _resolved(below, definitions)
        items = _resolved(field.get("items") or field.get("prefixItems", [{}])[0], definitions)
        group, place = (items, f"{here}[]") if "properties" in items else (field, here)
        first = seen.setdefault(json.dumps(group["properties"]), place) if group.get("properties") else place
        meaning = field.get("description", "") + (f" Fields as in `{first}`." if first != place else "")
        default = "required" if name in node.get("required", ()) else _default(field)
        cells = (f"`{here}`", _type(field, items), default, _bounds(field), meaning.replace("<", "&lt;"))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
        if first == place:
            yield from _rows(group, place, definitions, seen)


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """A node without references; a choice between a type and null is the type, which may be null."""
    if "anyOf" in node:
        (choice,) = (one for one in node["anyOf"] if one != {"type": "null"})
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _resolved({**choice, **rest, "nullable": True}, definitions)
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**definitions[node["$ref"].removeprefix("#/$defs/")], **rest}
    return node


def _type(field: Schema, items: Schema) -> str:
    kind = field.get("type", "integer or string")
    if "enum" in field:
        kind = ", ".join(f"`{one}`" for one in field["enum"])
    elif kind == "array":
        kind = f"list of {items['type']}s"
    elif kind == "object" and not field.get("properties"):
        values = field.get("additionalProperties")
        kind = f"mapping to {values['type']}s" if isinstance(values, dict) else "mapping"
    return f"{kind}, null" if field.get("nullable") else kind


def _default(field: Schema) -> str:
    value = field.get("default")
    if isinstance(value, dict):
        # What the fields' own rows do not say.
        value = {key: one for key, one in value.items() if "default" not in field.get("properties", {}).get(key, {})}
    return "" if value is None or value == {} else f"`{json.dumps(value)}`"


def _bounds(field: Schema) -> str:
    # A structural schema says with a limit that it is exclusive; JSON Schema has that kind of limit under another name.
    strict = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
    reported = []
    for key, words in _LIMITS.items():
        value = field.get(key)
        if value is not None and value is not True:
            reported.append(_LIMITS[strict[key]].format(value) if field.get(strict.get(key, "")) is True else words.format(value))
    return ", ".join(reported)


def _rules(node: Schema) -> Iterator[Schema]:
    """All rules of a schema, the outer ones first."""
    yield from node.get("x-kubernetes-validations", [])
    for below in [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]:
        yield from _rules(below)
