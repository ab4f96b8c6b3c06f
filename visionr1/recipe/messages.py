"""Writes each mistake in a recipe as one line for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from visionr1.recipe.schema import Recipe

Place = tuple[int | str, ...]

_WORDING: Final = {
    "bool_type": "{value} is not true or false",
    "finite_number": "{value} is not a finite number",
    "float_type": "{value} is not a number",
    "greater_than": "{value} is too small; it must be larger than {gt}",
    "greater_than_equal": "{value} is too small; it must be at least {ge}",
    "int_from_float": "{value} is not a whole number",
    "json_invalid": "nested too deeply for a recipe",
    "int_type": "{value} is not a whole number",
    "less_than": "{value} is too large; it must be less than {lt}",
    "less_than_equal": "{value} is too large; it must be at most {le}",
    "literal_error": "{value} is not allowed; choose {expected}",
    "string_pattern_mismatch": "{value} is not allowed; use up to 40 lower-case letters, digits and '-', no '-' at either end",
    "string_type": "{value} is not text",
    "string_too_long": "{value} is too long; it may have {max_length} characters",
    "too_long": "{value} has {actual_length} entries; it must have at most {max_length}",
    "tuple_type": "{value} is not a list",
    "value_error": "{error}",
}
"""What is wrong and what is allowed, by pydantic's error type. The names in braces come from the error's context."""


def dotted(place: Place) -> str:
    """The place ("stages", 0, "steps") as messages and `--set` write it: stages.0.steps."""
    return ".".join(str(part) for part in place)


def describe(error: ErrorDetails) -> str:
    """One line: the dotted path, the value, and what is allowed there."""
    place = error["loc"]
    text = _reason(error)
    return f"{dotted(place)}: {text}" if place else text


def _reason(error: ErrorDetails) -> str:
    kind, place = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return f"unknown key; {_advice(place)}"
    if kind == "missing":
        return f"missing; {_meaning(place)}"
    if kind == "model_type":
        return f"{shown(error['input'])} is not a group of keys; it has {_listed(_keys(place))}"
    wording = _WORDING.get(kind)
    if wording is None:
        return error["msg"]
    return wording.format(value=shown(error["input"]), **error.get("ctx", {}))


def shown(value: Any) -> str:
    """A value for a message: JSON of at most 60 characters, without characters that control a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if text.isprintable() else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _advice(place: Place) -> str:
    key = str(place[-1])
    close = get_close_matches(key, _keys(place[:-1]), n=1)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [path for path in _all_paths(Recipe) if path.rpartition(".")[2] == key]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"allowed here: {_listed(_keys(place[:-1]))}"


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _meaning(place: Place) -> str:
    part, key = _part_at(place[:-1]), place[-1]
    field = part.model_fields.get(str(key)) if part else None
    return f"meaning: {field.description}" if field else "the list is too short"


def _keys(place: Place) -> list[str]:
    part = _part_at(place)
    return list(part.model_fields) if part else []


def _part_at(place: Place) -> type[BaseModel] | None:
    part: type[BaseModel] | None = Recipe
    for name in place:
        if isinstance(name, str):
            field = part.model_fields.get(name) if part else None
            part = _part_in(field.annotation) if field else None
    return part


def _part_in(annotation: Any) -> type[BaseModel] | None:
    """The mapping that a field has: the field itself, or the one inside `X | None` or a list of X."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _all_paths(part: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        yield f"{above}{name}"
        below = _part_in(field.annotation)
        if below:
            in_list = "0." if name == "stages" else ""
            yield from _all_paths(below, f"{above}{name}.{in_list}")
