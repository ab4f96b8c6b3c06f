"""How large the problems of a data set are, for planning."""

from __future__ import annotations

from typing import Final

from visionr1.data.badrow import BadRow
from visionr1.data.check import check_row
from visionr1.data.readers import load_problems
from visionr1.errors import BadInput
from visionr1.recipe.schema import Recipe
from visionr1.recipe.source import Source

LOOKED_AT: Final = 512
"""Rows that are looked at, spread over the whole set."""
TEMPLATE: Final = 30
"""Tokens of the chat template."""


def mean_tokens(recipe: Recipe, path: str, characters: float) -> tuple[float, float]:
    """Mean tokens of a problem with its pictures, and those of its pictures; bad rows and rows that are too long are left out.

    Args:
        characters: of a token of text, as no tokenizer is loaded.

    Raises:
        BadInput: the data cannot be read, or no row can be used.
    """
    rows = load_problems(Source(path=path))
    found: list[tuple[float, int]] = []
    for index in range(0, len(rows), max(1, len(rows) // LOOKED_AT)):
        try:
            row = rows[index]
            image = check_row(row, recipe.model.min_pixels, recipe.model.max_pixels)
        except BadRow:
            continue
        tokens = image + len(row.problem) / characters + TEMPLATE
        if tokens <= recipe.data.max_prompt_tokens:
            found.append((tokens, image))
    if not found:
        raise BadInput(f"{path}: none of the rows that were looked at can be used; visionr1 data check {path} says why")
    return sum(tokens for tokens, _ in found) / len(found), sum(image for _, image in found) / len(found)
