"""Other numbers of a set than its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def means(groups: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """The share of right ones in each group that has any."""
    return {name: sum(values) / len(values) for name, values in groups.items() if values}
