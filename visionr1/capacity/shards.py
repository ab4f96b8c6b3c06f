"""Which rank writes which weights of a checkpoint: whole tensors, in files of even size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LARGEST_SHARD: Final = 5 * 10**9
"""Bytes of a file of weights, unless one tensor is larger."""
SMALLEST_SHARD = 10**8
"""Bytes below which weights are not cut into more files for the sake of more ranks."""


@dataclass(frozen=True)
class Shard:
    """One file of weights.

    Attributes:
        file: its name, as Hugging Face names it.
        rank: who writes it.
        names: of its tensors.
        bytes: of its tensors together.
    """

    file: str
    rank: int
    names: tuple[str, ...]
    bytes: int


def weight_shards(sizes: Mapping[str, int], ranks: int) -> list[Shard]:
    """The files for tensors of so many bytes, in the order of their names; the same on every rank.

    There is a file for each rank where that makes them no smaller than SMALLEST_SHARD, and more where they would be larger than
    LARGEST_SHARD.
    """
    names = list(sizes)
    total = sum(sizes.values())
    count = max(1, min(ranks, total // SMALLEST_SHARD), -(-total // LARGEST_SHARD))
    while True:
        parts = _evenly([sizes[name] for name in names], count)
        if all(len(part) == 1 or sum(sizes[names[place]] for place in part) <= LARGEST_SHARD for part in parts):
            break
        count += 1
    filled = [tuple(names[place] for place in sorted(part)) for part in parts if part]
    weights = [sum(sizes[name] for name in part) for part in filled]
    owner = {place: rank for rank, places in enumerate(_evenly(weights, ranks)) for place in places}
    files = [f"model-{place + 1:05d}-of-{len(filled):05d}.safetensors" for place in range(len(filled))]
    if len(files) == 1:
        files = ["model.safetensors"]
    return [Shard(file, owner[place], filled[place], weights[place]) for place, file in enumerate(files)]


def _evenly(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Places in `sizes`, shared out among so many parts: the largest first, each to the part that has least."""
    shared: list[list[int]] = [[] for _ in range(parts)]
    filled = [0] * parts
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        least = filled.index(min(filled))
        shared[least].append(place)
        filled[least] += sizes[place]
    return shared
