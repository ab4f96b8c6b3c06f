"""From a recipe file, a preset and `--set` overrides to a Recipe, and back to text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from visionr1.errors import BadInput
from visionr1.recipe.document import Document, merge, override, parse_mapping, to_text
from visionr1.recipe.messages import describe, dotted, shown
from visionr1.recipe.paths import whole_paths, written_out
from visionr1.recipe.schema import Recipe

_MOST_CHARACTERS: Final = 64 << 10
_MOST_ERRORS: Final = 20
_PRESETS = resources.files("visionr1.recipe") / "presets"


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a preset by its name, or a recipe file by its path. A path has a dot or a slash in it.

    A file may begin with `preset: NAME`; its other keys then change that preset: groups of keys are
    merged, lists are replaced. `overrides` are `path.to.key=value`, applied in order, last.

    Paths in a file are relative to its folder, those of a preset and of `overrides` to the current one. `~` and `$NAME` are
    written out.

    Raises BadInput with one line for each mistake.
    """
    if "." in source or "/" in source:
        file = Path(written_out(source, "the recipe's path"))
        document = whole_paths(_document(_read(file), source), file.absolute().parent, source)
        return _validated(document, source, overrides, Path.cwd())
    if source not in preset_names():
        raise BadInput(
            f"{source}: no such preset; {_nearest(source)} (for a recipe file, write a path with a dot or a slash: ./{source})"
        )
    return _validated(whole_paths(_preset(source), Path.cwd(), source), source, overrides, Path.cwd())


def parse_recipe(text: str, where: str, overrides: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """Read a recipe from the text of a file; `where` names it in messages.

    The text's paths stay as they are, and so do those of `overrides`, unless `folder` says what they are relative to.

    Raises BadInput.
    """
    return _validated(_document(text, where), where, overrides, folder)


def _document(text: str, where: str) -> Document:
    if len(text) > _MOST_CHARACTERS:
        raise BadInput(f"{where}: longer than {_MOST_CHARACTERS >> 10} KiB, which no recipe is; give the recipe file")
    return _with_preset(parse_mapping(text, where), where)


def to_yaml(recipe: Recipe) -> str:
    """The recipe with all its values, in the schema's order. `parse_recipe` reads it back unchanged."""
    return to_text(recipe.model_dump(mode="json"))


def preset_names() -> list[str]:
    """Names of the recipes in this package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset as it is written, comments included. Raises BadInput for an unknown name."""
    if name not in preset_names():
        raise BadInput(f"{name}: no such preset; {_nearest(name)}")
    return (_PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors and documentation."""
    schema = Recipe.model_json_schema()
    for name, part in schema["$defs"].items():
        # A file may leave out what its preset has. Entries of a list are always whole.
        if name != "Stage":
            part.pop("required", None)
    preset = {"type": "string", "enum": preset_names(), "description": "Start from this preset. The other keys change it."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": {"preset": preset, **schema["properties"]},
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {_nearest(path.stem)}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file (UTF-8)") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None


def _nearest(name: str) -> str:
    close = get_close_matches(name, preset_names(), n=1)
    hint = f"did you mean the preset {close[0]}? " if close else ""
    return f"{hint}presets: {', '.join(preset_names())}"


def _with_preset(document: Document, where: str) -> Document:
    if "preset" not in document:
        return document
    name = document["preset"]
    if name not in preset_names():
        raise BadInput(f"{where}: preset: {shown(name)} is not a preset; {_nearest(str(name))}")
    changes = {key: value for key, value in document.items() if key != "preset"}
    return merge(_preset(name), changes)


def _preset(name: str) -> Document:
    where = f"preset {name}"
    return _with_preset(parse_mapping(preset_text(name), where), where)


def _validated(document: Document, where: str, overrides: Sequence[str], folder: Path | None) -> Recipe:
    changed: dict[str, str] = {}
    for assignment in overrides:
        said = f"--set {assignment}"
        prepared = _as_it_is if folder is None else partial(whole_paths, folder=folder, source=said)
        document, path = override(document, assignment, prepared)
        changed[path] = said
    try:
        # Strict, as the Kubernetes API is: "8" is not 8, and true is not 1.
        return Recipe.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        lines = [f"{_origin(dotted(one['loc']), changed, where)}: {describe(one)}" for one in error.errors()[:_MOST_ERRORS]]
        if error.error_count() > _MOST_ERRORS:
            lines.append(f"{where}: {error.error_count() - _MOST_ERRORS} more mistakes; correct these first")
        raise BadInput("\n".join(lines)) from None


def _as_it_is(document: Document) -> Document:
    return document


def _origin(path: str, changed: dict[str, str], where: str) -> str:
    for prefix, assignment in changed.items():
        if path == prefix or path.startswith(f"{prefix}."):
            return assignment
    return where
