"""What the driver gives a worker at its start."""

from __future__ import annotations

from dataclasses import dataclass

from visionr1.grpo.start import StageStart
from visionr1.recipe.phases import StagePhase
from visionr1.recipe.schema import Recipe


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """One worker's part in a stage.

    `epoch` is the attempt's (see `FencedStore`); `place_on_node` counts the workers of its node from 0.
    """

    recipe: Recipe
    run_url: str
    epoch: int
    phase: StagePhase
    rank: int
    world_size: int
    master_address: str
    master_port: int
    start: StageStart
    place_on_node: int
