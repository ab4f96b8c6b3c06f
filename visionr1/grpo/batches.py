"""The prompts of a stage, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionr1.data.rows import Row
from visionr1.data.sampler import PromptSampler
from visionr1.grpo.lengths import Lengths
from visionr1.rollout.types import Reply


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Attributes:
        expected: completion tokens to expect of each row; None if nothing is known.
        place: the sampler's state after them.
    """

    rows: list[Row]
    expected: list[float] | None
    place: Mapping[str, Any]


class Batches:
    """Draws rows, and remembers how long their completions were.

    Args:
        rows: all that the sampler counts.
        lengths: what `Batches.state` had under that key, {} for a beginning.
        size: rows of a batch.
    """

    def __init__(self, rows: Sequence[Row], sampler: PromptSampler, lengths: Mapping[str, float], size: int) -> None:
        self._rows, self._sampler, self._size = rows, sampler, size
        self._lengths = Lengths(lengths)

    def draw(self) -> Batch:
        """The next batch."""
        rows = [self._rows[index] for index in self._sampler.next(self._size)]
        return Batch(rows, self._lengths.expected(rows), self._sampler.state)

    def note(self, batch: Batch, groups: Sequence[Sequence[Reply]]) -> None:
        """Remembers how long a batch's completions were."""
        self._lengths.note(batch.rows, groups)

    def state(self, batch: Batch) -> dict[str, Any]:
        """What to commit after the step of this batch; the next batch may be drawn already."""
        return {"sampler": batch.place, "lengths": self._lengths.state}
