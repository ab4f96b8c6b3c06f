"""How long completions will be, judged by those so far, and which engine samples which prompts, so that none waits long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from visionr1.data.rows import Row
from visionr1.rollout.types import Reply

MOST_PROMPTS = 20_000
"""Prompts to remember, the newest ones: they are part of a checkpoint's manifest, which has a limit of its own."""


class Lengths:
    """Mean completion tokens of each prompt in its newest rollout.

    Args:
        state: what `state` was when the checkpoint was committed; {} for none.
    """

    def __init__(self, state: Mapping[str, float]) -> None:
        self._mean = dict(state)

    @property
    def state(self) -> dict[str, float]:
        """All that is remembered, by the rows' ids."""
        return dict(self._mean)

    def expected(self, rows: Sequence[Row]) -> list[float] | None:
        """Tokens to expect of each row; the mean for rows that are new. None if all of them are new."""
        known = [self._mean[row.id] for row in rows if row.id in self._mean]
        if not known:
            return None
        mean = sum(known) / len(known)
        return [self._mean.get(row.id, mean) for row in rows]

    def note(self, rows: Sequence[Row], groups: Sequence[Sequence[Reply]]) -> None:
        """Remembers a rollout."""
        for row, group in zip(rows, groups, strict=True):
            self._mean.pop(row.id, None)  # to the end: the newest stay
            self._mean[row.id] = round(sum(len(reply.token_ids) for reply in group) / len(group), 1)
        for row_id in list(self._mean)[: max(0, len(self._mean) - MOST_PROMPTS)]:
            del self._mean[row_id]


def spread(n_rows: int, expected: Sequence[float] | None, engines: int) -> list[np.ndarray]:
    """For each engine, the indices of its rows in the order in which it is asked: as many for each engine.

    With expected tokens, every engine begins with its longest row, and the sums are nearly equal: the longest row first, each
    row goes to the engine that has least. Without, rows keep their order.
    """
    size = n_rows // engines
    if expected is None:
        return list(np.arange(size * engines).reshape(engines, size))
    parts: list[list[int]] = [[] for _ in range(engines)]
    sums = [0.0] * engines
    for index in sorted(range(size * engines), key=lambda index: (-expected[index], index)):
        engine = min((one for one in range(engines) if len(parts[one]) < size), key=lambda one: (sums[one], one))
        parts[engine].append(index)
        sums[engine] += expected[index]
    return [np.array(part) for part in parts]
