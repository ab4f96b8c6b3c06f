"""The recipe that a run directory holds: what every phase of the run reads first."""

from __future__ import annotations

from visionr1.errors import BadInput
from visionr1.recipe import Recipe, parse_recipe
from visionr1.storage.layout import RECIPE
from visionr1.storage.store import NotFound, Store


def read_recipe(store: Store) -> Recipe:
    """The recipe of a run directory. Raises BadInput if there is none, or it is not one."""
    try:
        text = store.read_bytes(RECIPE).decode(errors="replace")
    except NotFound:
        raise BadInput(f"{store.url}: no {RECIPE} here, so this is not a run directory; start one with visionr1 run") from None
    return parse_recipe(text, f"{store.url}/{RECIPE}")
