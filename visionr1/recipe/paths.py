"""Paths in a recipe: `~` and `$NAME` are written out, and relative ones get the folder that they are relative to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from visionr1.errors import BadInput
from visionr1.recipe.document import Document

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_ADDRESS: Final = re.compile(r"[a-z0-9]+://")
_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_SOURCES: Final = (("data", "train"), ("data", "held_out"), ("coldstart", "problems"), ("sft", "data"))


def is_hub_name(text: str) -> bool:
    """Whether a text can be the name of a Hugging Face model: owner/name."""
    return _HUB_NAME.fullmatch(text) is not None


def whole_paths(document: Document, folder: Path, source: str) -> Document:
    """The same recipe with every path in full: `~` and `$NAME` written out, relative paths below `folder`.

    Addresses (`s3://`, `hf://`, `demo://`) keep their form. `model.base: owner/name` is a folder if there is one, else a
    Hugging Face name. `source` names the recipe in messages.

    Raises:
        BadInput: a variable is not set.
    """

    def whole(path: str, where: str) -> str:
        text = written_out(path, where)
        return text if _ADDRESS.match(text) else str(folder / text)

    def base(name: str, where: str) -> str:
        text = written_out(name, where)
        return text if text == "demo" or (is_hub_name(text) and not os.path.isdir(folder / text)) else str(folder / text)

    def reward(function: str, where: str) -> str:
        path, colon, name = function.rpartition(":")
        return f"{whole(path, where)}:{name}" if colon and path else function

    document = _changed(document, ("model", "base"), base, f"{source}:")
    document = _changed(document, ("coldstart", "prompts_dir"), whole, f"{source}:")
    document = _changed(document, ("reward", "function"), reward, f"{source}:")
    benchmarks = document.get("evaluation")
    listed = benchmarks.get("benchmarks") if isinstance(benchmarks, dict) else None
    for number in range(len(listed) if isinstance(listed, list) else 0):
        for name in ("path", "image_root"):
            document = _changed(document, ("evaluation", "benchmarks", number, name), whole, f"{source}:")
    for place in _SOURCES:
        document = _changed(document, (*place, "path"), whole, f"{source}:")
        document = _changed(document, (*place, "image_root"), whole, f"{source}:")
    return document


def _changed(node: Any, keys: tuple[str | int, ...], change: Callable[[str, str], str], above: str) -> Any:
    """The document with one text changed; what is not there, or no text, stays as it is."""
    if not keys:
        return change(node, above) if isinstance(node, str) and node else node
    here = f"{above} {keys[0]}" if above.endswith(":") else f"{above}.{keys[0]}"
    if isinstance(node, list) and isinstance(keys[0], int):
        place = keys[0]
        return [*node[:place], _changed(node[place], keys[1:], change, here), *node[place + 1 :]]
    if not isinstance(node, dict) or keys[0] not in node:
        return node
    return {**node, keys[0]: _changed(node[keys[0]], keys[1:], change, here)}


def written_out(path: str, where: str) -> str:
    """A path or address with `~` and `$NAME` (or `${NAME}`) written out; `where` names its place in messages.

    Raises:
        BadInput: a variable is not set.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise BadInput(f"{where}: {path}: the variable {name} is not set: set it, or write the path out")
        return os.environ[name]

    return os.path.expanduser(_VARIABLE.sub(value, path))
