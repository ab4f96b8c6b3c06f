"""Chains of thought that say nearly the same as one before them."""

from __future__ import annotations

from typing import Final

from rensa import RMinHash, RMinHashDeduplicator

_PERMUTATIONS: Final = 128
_SEED: Final = 1
_NGRAM: Final = 5


class Duplicates:
    """The chains so far, by MinHash of their runs of five words; `threshold` is the share of runs that two have in common."""

    def __init__(self, threshold: float) -> None:
        self._seen = RMinHashDeduplicator(threshold=threshold, num_perm=_PERMUTATIONS, use_lsh=True, seed=_SEED)

    def add(self, row_id: str, thought: str) -> str | None:
        """The id of an earlier chain that this one nearly repeats; None, and the chain is remembered, if there is none."""
        words = thought.lower().split()
        hashed = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        runs = zip(*(words[place:] for place in range(_NGRAM)), strict=False) if len(words) > _NGRAM else (words,)
        hashed.update([*map(" ".join, runs)])
        if self._seen.add(row_id, hashed):
            return None
        return min(self._seen.get_duplicates(hashed), default="one before it")
