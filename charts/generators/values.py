"""What the chart says about its values, from the comments of values.yaml: values.schema.json and README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ptst_operator.crd import spec_schema

from generators import CHART, made_from
from generators.alerts import load_alerts

Schema = dict[str, Any]

_LINE = re.compile(r"^( *)([A-Za-z]+):(?: (.*))?$")
_HINT = re.compile(r"^\(([^)]*)\) ")


@dataclass(frozen=True)
class Value:
    """One documented value: its dotted path, the hint of its type and its description."""

    path: str
    hint: str
    text: str


def documented(text: str) -> Iterator[Value]:
    """The values of values.yaml with a `# --` comment before them, in order."""
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif match := _LINE.match(line):
            indent = len(match[1])
            above = [one for one in above if one[0] < indent] + [(indent, match[2])]
            if comment:
                reported = " ".join(comment)
                hint = _HINT.match(reported)
                path = ".".join(name for _, name in above)
                yield Value(path, hint[1] if hint else "", reported[hint.end() :] if hint else reported)
            comment = []
        else:
            comment = []


def schema(defaults: Schema, values: list[Value]) -> Schema:
    """values.schema.json: no unknown key anywhere, a type and a description for every value."""
    known = {value.path: value for value in values}
    made = _group(defaults, "", known)
    made["properties"]["global"] = {
        "type": ["object", "null"],
        "description": "Of an umbrella chart: the imageRegistry of images that name no registry, and imagePullSecrets.",
        "properties": {
            "imageRegistry": {"type": ["string", "null"], "description": "Such as registry.corp.example."},
            "imagePullSecrets": {
                "type": ["array", "null"],
                "items": {"type": ["string", "object"]},
                "description": "Secrets for the registries of all images, as names or as in a pod.",
            },
        },
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of visionr1-ptst", **made}


def _group(node: Schema, path: str, known: dict[str, Value]) -> Schema:
    properties = {}
    needed = []
    for key, default in node.items():
        here = f"{path}.{key}" if path else key
        assert here in known, f"values.yaml: {here} has no `# --` comment"
        if here == "run" or _is_needed(known[here].hint, default):
            needed.append(key)
        if here == "run":
            properties[key] = _run(known)
        else:
            value = known[here]
            made = _group(default, here, known) if value.hint == "group" else _typed(value.hint, default)
            properties[key] = {**made, "description": value.text}
    return {"type": "object", "additionalProperties": False, "required": needed, "properties": properties}


def _is_needed(hint: str, default: Any) -> bool:
    """Whether null, which takes the default away, is a mistake. It is none for a list or mapping, which is then empty."""
    return hint == "group" or bool(default) and hint.partition(" of ")[0] not in _EMPTY


_EMPTY: Final = ("strings", "labels", "variables", "objects", "list", "alerts")
"""Hints of lists and mappings."""
_NAME: Final = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL: Final = f"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_NAME}$"
_LABEL_VALUE: Final = {"pattern": f"^({_NAME})?$"}
_VARIABLE: Final = "^[-._a-zA-Z][-._a-zA-Z0-9]*$"


def _keyed(pattern: str, values: Schema) -> Schema:
    """A mapping with such keys. Helm names another place than theirs for a mistake in `propertyNames`."""
    return {"type": "object", "patternProperties": {pattern: values}, "additionalProperties": False}


_TYPES: Final[dict[str, Schema]] = {
    "strings": {"type": "object", "additionalProperties": {"type": "string"}},
    "labels": _keyed(_LABEL, {"type": "string", **_LABEL_VALUE}),
    "variables": _keyed(_VARIABLE, {"type": "string"}),
    "objects": _keyed(_VARIABLE, {"type": "object"}),
    "list": {"type": "array", "items": {"type": "object"}},
    "list of ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "list of strings": {"type": "array", "items": {"type": "string"}},
    "list of namespaces": {"type": "array", "items": {"type": "string", "pattern": r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|\*)$"}},
    "list of blocks": {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]+$"}},
    "object": {"type": "object"},
    "number": {"type": "number", "minimum": 0},
    "count": {"type": "integer", "minimum": 0},
}
"""Schemas of the hints that need nothing else. Kubernetes refuses other names, labels and ports, too, but later."""
_KEYS: Final[dict[str, tuple[str, Schema]]] = {
    **dict.fromkeys(("labels", "nodeSelector", "queueLabels"), (_LABEL, _LABEL_VALUE)),
    **dict.fromkeys(("env", "envValueFrom"), (_VARIABLE, {})),
}
"""Pattern of the keys, and what the values have in addition, by the name of a mapping in the run."""


def _typed(hint: str, default: Any) -> Schema:
    kind, _, rest = hint.partition(": ")
    if kind == "enum":
        return {"type": "string", "enum": rest.split("|")}
    if kind == "alerts":
        return _alerts()
    if kind in _TYPES:
        return _TYPES[kind]
    if isinstance(default, bool):
        return {"type": "boolean"}
    if isinstance(default, int):
        return {"type": "integer", "minimum": 1}
    assert isinstance(default, str), f"no type for {default!r}: give a hint in the comment"
    return {"type": "string"}


_ALERT: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "enabled": {"type": "boolean", "description": "false leaves the alert out."},
        "severity": {"type": "string", "description": "Its label of this name."},
        "for": {"type": "string", "description": "How long its expression must be true, such as 10m."},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "description": "More labels of the alert."},
    },
}


def _alerts() -> Schema:
    """One group for each alert that there is."""
    changes = {one.name: {**_ALERT, "description": f"Changes of {one.name}."} for one in load_alerts()}
    return {"type": "object", "additionalProperties": False, "properties": changes}


def _run(known: dict[str, Value]) -> Schema:
    """The run's values are the spec of the custom resource, and two of the chart's."""
    made = _json_schema(spec_schema())
    own = {
        "enabled": {"type": "boolean", "description": known["run.enabled"].text},
        "name": {"type": "string", "maxLength": 33, "description": known["run.name"].text},
    }
    needed = [*own, *made["required"]]
    return {**made, "description": known["run"].text, "required": needed, "properties": {**own, **made["properties"]}}


def _json_schema(node: Schema) -> Schema:
    """A structural schema of Kubernetes as a strict JSON Schema."""
    made = {
        key: value for key, value in node.items() if not key.startswith("x-") and key not in ("nullable", "default", "format")
    }
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if made.get(exclusive) is True:
            made[exclusive] = made.pop(limit)
    if "properties" in node:
        made["properties"] = {name: _json_schema(below) for name, below in node["properties"].items()}
        for name in made["properties"].keys() & _KEYS.keys():
            (pattern, more), mapping = _KEYS[name], made["properties"][name]
            keyed = _keyed(pattern, {**mapping["additionalProperties"], **more})
            made["properties"][name] = {**mapping, **keyed, "type": mapping["type"]}
        made["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    if isinstance(node.get("additionalProperties"), dict):
        made["additionalProperties"] = _json_schema(node["additionalProperties"])
    if "items" in node:
        # Nothing in a list is a default that null could take away.
        made["items"] = {**_json_schema(node["items"]), "type": node["items"]["type"]}
    # Helm takes null for "without this default", so any value may be null.
    if "type" in made and "enum" not in made:
        made["type"] = [made["type"], "null"]
    elif "enum" in made:
        made.pop("type", None)
        made["enum"] = [*made["enum"], None]
    return made


def readme(defaults: Schema, values: list[Value]) -> str:
    """README.md with the table of values."""
    rows = []
    for value in values:
        if value.hint == "group":
            continue
        default: Any = defaults
        for key in value.path.split("."):
            default = default[key]
        shown = "see values.yaml" if value.path == "run" else f"`{json.dumps(default)}`"
        rows.append(f"| `{value.path}` | {value.text} | {shown} |")
    template = (CHART / "README.md.in").read_text(encoding="utf-8")
    text = template.replace("@VALUES@", "\n".join(["| value | meaning | default |", "|---|---|---|", *rows]))
    return f"<!-- {made_from('README.md.in and values.yaml')} -->\n{text}"
