"""The custom resource's definition, made from the models of the spec, the status and the recipe.

`python -m ptst_operator.crd` prints it. A Kubernetes schema is *structural*: no $ref, a type everywhere, and
`nullable` in place of null. The recipe has no defaults here, because they would replace the values of its preset.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Final

import yaml

from ptst_operator.names import GROUP, KIND, PLURAL, VERSION
from ptst_operator.rules import ROLES, agreement, rule, with_pod_rules
from ptst_operator.spec import Spec
from ptst_operator.status import status_json_schema
from visionr1.recipe import json_schema
from visionr1.recipe.phases import COLDSTART_PHASE, EVALUATE_PHASE, SFT_PHASE, STAGE_PATTERN
from visionr1.recipe.values import MOST_STAGES

LONGEST_NAME: Final = 33
"""KubeRay refuses RayJobs with names of more than 47 characters, and `-evaluate-0` or `-stage-32-9999` come after the run's."""

VERSION_LABEL: Final = "app.kubernetes.io/version"
"""Of the program that made a definition."""

Schema = dict[str, Any]

_COLUMNS: Final = (
    ("Phase", "string", ".status.phase", 0),
    ("Stage", "string", ".status.stage", 0),
    ("Step", "integer", ".status.step", 0),
    ("Reward", "number", ".status.reward", 0),
    ("Length", "number", ".status.length", 0),
    ("Tok/s/GPU", "number", ".status.tokensPerSecondPerGpu", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("HoursLeft", "number", ".status.hoursLeft", 1),
    ("Truncated", "number", ".status.truncated", 1),
    ("KL", "number", ".status.kl", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Progressing")].reason', 1),
    ("Message", "string", '.status.conditions[?(@.type=="Progressing")].message', 1),
)


def definition() -> Schema:
    """The CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "labels": {VERSION_LABEL: metadata.version("visionr1-ptst")}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": PLURAL,
                "singular": "ptstrun",
                "kind": KIND,
                "listKind": f"{KIND}List",
                "shortNames": ["ptst"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
                        for name, kind, path, priority in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _run_schema()},
                }
            ],
        },
    }


def spec_schema() -> Schema:
    """The structural schema of `spec`."""
    schema = _of_model(Spec.model_json_schema(by_alias=True), defaults=True)
    properties = schema["properties"]
    properties["recipe"] = {**recipe_schema(), "description": properties["recipe"]["description"]}
    properties["holdBefore"]["items"]["pattern"] = f"^({COLDSTART_PHASE}|{SFT_PHASE}|{STAGE_PATTERN}|{EVALUATE_PHASE})$"
    properties["gates"]["items"]["x-kubernetes-validations"] = [
        rule("has(self.min) || has(self.max)", "a gate needs min, max or both"),
        rule("!has(self.min) || !has(self.max) || self.min <= self.max", "a gate's min is larger than its max"),
        rule(
            "!has(self.rollbackTo) || (has(self.action) && self.action == 'Rollback')",
            "a gate's rollbackTo needs action: Rollback",
        ),
    ]
    properties["storage"]["x-kubernetes-validations"] = [
        rule("self == oldSelf", "spec.storage cannot be changed: to use another place, create a new run"),
        rule("!self.url.matches('(^|/)[.][.](/|$)')", "spec.storage.url must not contain '..'"),
        rule(
            "self.url.startsWith('s3://') || (has(self.claim) && self.url.startsWith(self.claim.mountPath.endsWith('/') ? "
            "self.claim.mountPath : self.claim.mountPath + '/'))",
            "spec.storage.url is a path: name its volume in spec.storage.claim, with a mountPath above that path",
        ),
    ]
    schema["x-kubernetes-validations"] = [
        rule(
            "has(self.recipe) != has(self.recipeFrom)",
            "set one of spec.recipe (the recipe itself) and spec.recipeFrom (a ConfigMap with it)",
        ),
        rule("has(self.pods.image)", "spec.pods.image is missing: set it to the trainer image"),
        rule("self.restarts >= oldSelf.restarts", "spec.restarts can only grow: raise it by one to let a failed run try again"),
        rule(
            "self.allowUnequalStages || !has(self.recipe) || !has(self.recipe.stages) || self.recipe.stages.all(s, "
            "s.max_completion_tokens * s.group_size == "
            "self.recipe.stages[0].max_completion_tokens * self.recipe.stages[0].group_size)",
            "PTST keeps max_completion_tokens x group_size the same in all stages (4096 x 16 = 8192 x 8 = 16384 x 4); "
            "set spec.allowUnequalStages to true if you mean it",
        ),
        *agreement(),
    ]
    properties["pods"] = with_pod_rules(properties["pods"])
    for part, role in ROLES:
        roles = properties[part]["properties"]
        roles[role] = with_pod_rules(roles[role])
    return schema


def recipe_schema() -> Schema:
    """The structural schema of a recipe file, without what the operator sets itself: name and the metrics' address."""
    document = json_schema()
    schema = structural({key: value for key, value in document.items() if key != "$schema"}, document["$defs"], defaults=False)
    del schema["properties"]["name"]
    for key in ("host", "port", "enabled"):
        del schema["properties"]["metrics"]["properties"][key]
    return schema


def structural(node: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    """A JSON Schema of pydantic's as a structural schema."""
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return structural(
            {**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions, defaults=defaults
        )
    if "anyOf" in node:
        (choice,) = (one for one in node["anyOf"] if one != {"type": "null"})
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return {**structural({**choice, **rest}, definitions, defaults=defaults), "nullable": True}
    made: Schema = {key: node[key] for key in _KEPT if key in node}
    if "type" not in node:
        made["x-kubernetes-int-or-string"] = True
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in node:
            made |= {limit: node[exclusive], exclusive: True}
    if defaults and isinstance(node.get("default"), bool | int | float | str):
        made["default"] = node["default"]
    if "properties" in node:
        made["properties"] = {
            name: structural(below, definitions, defaults=defaults) for name, below in node["properties"].items()
        }
    elif node.get("type") == "object":
        values = node["additionalProperties"]
        made |= (
            {"x-kubernetes-preserve-unknown-fields": True}
            if values is True
            else {"additionalProperties": structural(values, definitions, defaults=defaults)}
        )
    items = node.get("items") or (node["prefixItems"][0] if "prefixItems" in node else None)
    if items:
        # The API server would write a default into each entry, and Argo CD, which compares whole lists, would see a change.
        made["items"] = structural(items, definitions, defaults=False)
    return made


_KEPT: Final = (
    *("description", "enum", "format", "maxItems", "maxLength", "maximum", "minItems", "minLength"),
    *("minimum", "pattern", "required", "type"),
)


def _of_model(document: Schema, *, defaults: bool) -> Schema:
    return structural(document, document.get("$defs", {}), defaults=defaults)


def _run_schema() -> Schema:
    status = _of_model(status_json_schema(), defaults=False)
    # A status of an older operator may lack keys that the models have defaults for.
    status["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    status["properties"]["phases"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    return {
        "type": "object",
        "description": "One run of the Vision-R1 recipe: cold start, SFT, GRPO in stages (PTST), evaluation.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": status,
        },
        "x-kubernetes-validations": [
            rule(
                f"size(self.metadata.name) <= {LONGEST_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                f"metadata.name must have at most {LONGEST_NAME} lower-case letters, digits and '-', with a letter first: "
                "the names of Ray jobs are made from it",
            ),
            rule(_frozen_stages(), "stages that have begun cannot be changed; you may change or add later stages"),
        ],
    }


def _frozen_stages() -> str:
    """Stages that have begun are unchanged. CEL has no range(), so the indices are written out."""
    indices = ", ".join(str(index) for index in range(MOST_STAGES))
    begun = "oldSelf.status.stagesBegun"
    old, new = "oldSelf.spec.recipe.stages", "self.spec.recipe.stages"
    return (
        f"!has(oldSelf.status) || !has({begun}) || {begun} == 0 || !has(oldSelf.spec.recipe) || !has({old}) || "
        f"!has(self.spec.recipe) || (has({new}) && size({new}) >= {begun} && "
        f"[{indices}].all(i, i >= {begun} || i >= size({old}) || {new}[i] == {old}[i]))"
    )


def to_yaml(manifest: Schema) -> str:
    """YAML for the chart, without aliases."""
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
    return str(yaml.dump(manifest, Dumper=dumper, sort_keys=False, width=120, allow_unicode=True))


if __name__ == "__main__":
    print(to_yaml(definition()), end="")
