"""Recipe text and plain values: safe YAML, merging, and `--set` overrides."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import yaml

from visionr1.errors import BadInput

Document = dict[str, Any]

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_LONGEST_KEY = 60
_DEEPEST = 100
"""Lists and mappings inside one another. Not left to Python's limit of recursion, which libraries raise."""
_WHOLE = r"[-+]?(?:0|[1-9][0-9]*)"
_PLAIN: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _WHOLE, list("-+0123456789")),
    ("float", rf"(?:{_WHOLE}(?:\.[0-9]*)?|[-+]?\.[0-9]+)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
)
"""What text without quotes means, other than itself: its kind, its form, and the characters that it can begin with."""


class _Loader(yaml.SafeLoader):
    """Reads 5e-6 as a number, and a date and 010 as text. Refuses aliases, tags, and text that cannot be written to a file."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            problem = "a recipe has no aliases (*name): write the value out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        tag = getattr(event, "tag", None)
        if tag is not None:
            problem = f"a recipe has no tags (!name): remove {tag!a}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if isinstance(event, yaml.ScalarEvent) and _UNUSABLE.search(event.value):
            problem = "a text has a NUL character or a lone surrogate in it: remove it"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if self._depth > _DEEPEST:
            raise RecursionError
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML writes U+0085 as it is, and then reads it as the end of a line.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if "\x85" in data else None)


# The rules of YAML 1.2 in place of PyYAML's, in which 010 is 8, 1:30 is 90, 1_000 is 1000 and yes is true. What is no number
# here, such as 010, is a text, and no number of a recipe may be a text.
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), list(_first))
# The dumper quotes every text that this loader, or one with PyYAML's rules, would read as something else.
_Dumper.yaml_implicit_resolvers = {
    first: [*_Loader.yaml_implicit_resolvers.get(first, []), *yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])]
    for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
}
_Dumper.add_representer(str, _Dumper.represent_str)


def parse_mapping(text: str, where: str) -> Document:
    """Read one YAML mapping; `where` names the text in messages.

    Raises BadInput for text that is not YAML, not a mapping, or gives a key twice.
    """
    value = _parse(text, where)
    if not isinstance(value, dict):
        raise BadInput(f"{where}: not a recipe: write keys and values, such as `preset: vision-r1`")
    return value


def to_text(document: Document) -> str:
    """Write a mapping as YAML, keys in the given order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def merge(base: Document, changes: Document) -> Document:
    """Lay `changes` over `base`: mappings are merged key by key, lists and single values are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def override(document: Document, assignment: str, prepared: Callable[[Document], Document]) -> tuple[Document, str]:
    """Apply one `path.to.key=value`, with the value as YAML. Returns the new mapping and the path.

    `prepared` gets a mapping that holds the new value alone, in its place, and may change it.

    Raises BadInput if there is no such path.
    """
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadInput(f"--set {assignment}: write it as path.to.key=value, such as stages.0.steps=5")
    value = _parse(text, f"--set {assignment}")
    alone = prepared(reduce(lambda below, key: {key: below}, reversed(keys), value))
    return _replaced(document, keys, reduce(lambda above, key: above[key], keys, alone), assignment, ""), path.strip()


def _replaced(node: Any, keys: list[str], value: Any, assignment: str, above: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    here = f"{above}.{key}" if above else key
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            places = f"0 to {len(node) - 1}" if node else "no entries"
            raise BadInput(f"--set {assignment}: {here} does not exist; {above} has {places}")
        index = int(key)
        return [*node[:index], _replaced(node[index], rest, value, assignment, here), *node[index + 1 :]]
    if node is None and key.isdecimal():
        raise BadInput(f"--set {assignment}: {above} is empty; give the whole list, such as {above}=[...]")
    if node is not None and not isinstance(node, dict):
        raise BadInput(f"--set {assignment}: {above} is a single value and has nothing below it")
    below = node or {}
    return {**below, key: _replaced(below.get(key), rest, value, assignment, here)}


def _parse(text: str, where: str) -> Any:
    try:
        # Raises for characters that YAML does not allow.
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        repeated = _repeated_keys(node, "")
        if repeated:
            raise BadInput("\n".join(f"{where}: {line}" for line in repeated))
        value = loader.construct_document(node)
        json.dumps(value)  # Raises for a number that is too long to write.
        return value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadInput(f"{where}{place}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadInput(f"{where}: nested too deeply for a recipe") from None


def _repeated_keys(node: yaml.Node, above: str) -> list[str]:
    if isinstance(node, yaml.SequenceNode):
        return [line for place, item in enumerate(node.value) for line in _repeated_keys(item, f"{above}{place}.")]
    if not isinstance(node, yaml.MappingNode):
        return []
    lines: list[str] = []
    first_line: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or len(key.value) > _LONGEST_KEY or not key.value.isprintable():
            lines.append(f"line {line}: a key must be a single word")
            continue
        if key.value in first_line:
            lines.append(f"{above}{key.value}: given twice, on lines {first_line[key.value]} and {line}; keep one")
        first_line.setdefault(key.value, line)
        lines.extend(_repeated_keys(value, f"{above}{key.value}."))
    return lines
