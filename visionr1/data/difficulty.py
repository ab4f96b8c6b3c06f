"""Which rows have the difficulty that a recipe asks for, by the share of right samples that a cold start has measured."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from visionr1.data.badrow import BadRow
from visionr1.data.sources import Table
from visionr1.errors import BadInput
from visionr1.recipe.source import Difficulty


def within(difficulty: Difficulty, tables: Sequence[Table], ids: Iterable[str]) -> array[int]:
    """Places of the rows with a share from `least` to `most`; a row that is not listed is left out.

    Args:
        tables: what `difficulty.path` holds: rows with `id` and `solved`.
        ids: of all rows, in order.

    Raises:
        BadInput: a line is damaged, or no row is left.
    """
    chosen = {row_id for row_id, solved in _lines(tables) if difficulty.least <= solved <= difficulty.most}
    places = array("q", (place for place, row_id in enumerate(ids) if row_id in chosen))
    if not places:
        between = f"between {difficulty.least:g} and {difficulty.most:g}"
        raise BadInput(f"{difficulty.path} lists no row of this source with a share {between}; correct path, least or most")
    return places


def _lines(tables: Sequence[Table]) -> Iterable[tuple[str, float]]:
    for table in tables:
        for place in range(table.size):
            try:
                line: Any = table.cells(place)
            except BadRow as error:
                raise BadInput(str(error)) from None
            row_id, solved = line.get("id"), line.get("solved")
            if not isinstance(row_id, str) or isinstance(solved, bool) or not isinstance(solved, int | float):
                raise BadInput(f"{table.name}#{place} has no id and solved, as a cold start writes them; correct path")
            yield row_id, solved
