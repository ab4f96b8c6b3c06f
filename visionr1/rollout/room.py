"""Room on a Ray cluster for actors that all must be there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from visionr1.errors import Stopped, Unreachable

SECONDS: Final = 1800
"""For machines that are still on their way."""
_LOOK_SECONDS: Final = 0.5


def reserve(bundles: list[dict[str, float]], wanted_by: str, should_stop: Callable[[], bool] = lambda: False) -> PlacementGroup:
    """A place for each bundle of resources, on as few machines as possible.

    Args:
        wanted_by: for messages, such as `evaluation.workers`.

    Raises:
        Unreachable: the cluster has no room within SECONDS.
        Stopped: asked to stop before there was room.
    """
    group = placement_group(bundles, strategy="PACK")
    deadline = time.monotonic() + SECONDS
    while not group.wait(_LOOK_SECONDS):
        if should_stop():
            remove_placement_group(group)
            raise Stopped(f"stopped while Ray made room for {wanted_by}")
        if time.monotonic() > deadline:
            remove_placement_group(group)
            raise Unreachable(
                f"{wanted_by}: Ray has had no room for {' + '.join(map(str, bundles))} in {SECONDS} s; "
                f"it has {ray.cluster_resources()}; add machines or ask for less"
            )
    return group
