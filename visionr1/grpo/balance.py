"""Which worker trains on which groups, so that no rank of an update waits long for another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, int]
"""The rank that sampled a group, and the group's place among its own."""

CLOSE = 0.02
"""Loads that differ by less than this part of the mean count as equal: then a group stays where it is."""


def balanced(flops: Sequence[NDArray[np.float64]]) -> list[list[Place]]:
    """For each rank, the groups that it trains on: its own first, then those of others by rank. Every rank has at least one.

    The largest group first, each goes to the rank with least so far, or stays with its own rank if that has hardly more.

    Args:
        flops: FLOPs that the update needs for each group of each rank; at least one group per rank.
    """
    close = CLOSE * float(sum(own.sum() for own in flops)) / len(flops)
    loads = [0.0] * len(flops)
    parts: list[list[Place]] = [[] for _ in flops]
    places = [(rank, place) for rank, own in enumerate(flops) for place in range(len(own))]
    for rank, place in sorted(places, key=lambda at: (-flops[at[0]][at[1]], at)):
        least = min(range(len(loads)), key=lambda one: (loads[one], one))
        stays = flops[rank][place] == 0 or loads[rank] <= loads[least] + close
        chosen = rank if stays else least
        parts[chosen].append((rank, place))
        loads[chosen] += float(flops[rank][place])
    for rank, part in enumerate(parts):
        if not part:
            back = min((at for other in parts if len(other) > 1 for at in other), key=lambda at: (flops[at[0]][at[1]], at))
            next(other for other in parts if back in other).remove(back)
            part.append(back)
        part.sort(key=lambda at: (at[0] != rank, at))
    return parts
