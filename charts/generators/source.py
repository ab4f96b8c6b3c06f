"""Reads a YAML file that people edit, and says clearly what is wrong in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from visionr1.errors import BadInput
from visionr1.recipe.document import parse_mapping

NAME: Final = re.compile(r"@(\w+)@")
"""A name in a text that something else takes the place of."""


_WORDING: Final = {"extra_forbidden": "unknown key", "missing": "missing", "model_type": "not a group of keys"}
"""Our words for pydantic's, by type of error."""


class Part(BaseModel):
    """A group of keys: an unknown key, a missing one or a value of another type is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


AnyPart = TypeVar("AnyPart", bound=Part)


def read(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises BadInput for text that is not YAML, not a mapping, or gives a key twice."""
    return parse_mapping(path.read_text(encoding="utf-8"), path.name)


def checked(model: type[AnyPart], keys: Any, where: str) -> AnyPart:
    """The keys as a part. Raises BadInput with a line for each mistake: file and place, then what is wrong."""
    try:
        return model.model_validate(keys)
    except ValidationError as error:
        raise BadInput("\n".join(_line(where, one) for one in error.errors())) from None


def _line(where: str, mistake: ErrorDetails) -> str:
    words = (where, ".".join(map(str, mistake["loc"])), _WORDING.get(mistake["type"], mistake["msg"]))
    return ": ".join(word for word in words if word)
