"""The wording of the three requests: text files, the package's or your own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from visionr1.data.regular import open_file
from visionr1.errors import BadInput

_FIELD: Final = re.compile(r"\{(question|answer|description|thinking process)\}")
FIELDS: Final = {
    "pseudo_cot": ({"question", "answer"}, set()),
    "description": ({"question", "thinking process"}, set()),
    "description_alone": ({"question"}, set()),
    "anchored": (set(), set()),
    "reasoning": ({"description", "question"}, {"answer"}),
}
"""Fields that a template must have, and that it may have."""


@dataclass(frozen=True)
class Templates:
    """One text a step; `{question}` and the like are filled in, all other braces are plain text."""

    pseudo_cot: str
    description: str
    description_alone: str
    """Without a pseudo-CoT."""
    anchored: str
    """What is added to a description's request that must say where things are."""
    reasoning: str

    def digests(self) -> dict[str, str]:
        """The SHA-256 of each, by name."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in vars(self).items()}


def load_templates(folder: str | None) -> Templates:
    """The package's templates, each replaced by `<folder>/<name>.txt` if that exists.

    Raises BadInput for a folder without any of them, and for a template with missing or foreign fields.
    """
    own = Path(folder).expanduser() if folder else None
    if own and not any((own / f"{name}.txt").exists() for name in FIELDS):
        raise BadInput(f"coldstart.prompts_dir {own} has none of {', '.join(f'{name}.txt' for name in FIELDS)}")
    return Templates(**{name: _load(name, own) for name in FIELDS})


def _load(name: str, own: Path | None) -> str:
    file = own / f"{name}.txt" if own else None
    if file is None or not file.exists():
        return (files("visionr1.data.coldstart") / "prompts" / f"{name}.txt").read_text("utf-8")
    try:
        with open_file(file) as opened:
            text = opened.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 text ({error})") from None
    found = set(_FIELD.findall(text))
    required, optional = FIELDS[name]
    if missing := required - found:
        raise BadInput(f"{file} lacks {_braced(missing)}; add it where the text belongs")
    if foreign := found - required - optional:
        raise BadInput(f"{file} has {_braced(foreign)}, which step {name} does not know; remove it")
    return text


def _braced(fields: set[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in sorted(fields))


def fill(template: str, fields: Mapping[str, str | None]) -> str:
    """The template with its fields; the lines of a field that is None are left out.

    Every field is filled once, so `{answer}` in the text of a question stays as it is.
    """
    lines = [line for line, names in _lines(template) if all(fields[name] is not None for name in names)]
    return _FIELD.sub(lambda match: fields[match[1]] or "", "\n".join(lines)).strip()


@cache
def _lines(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each line of a template with the fields in it; there are few templates, and each is filled for every problem."""
    return tuple((line, tuple(_FIELD.findall(line))) for line in template.splitlines())
