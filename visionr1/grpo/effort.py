"""How near a worker's step comes to what its device can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visionr1.capacity.model import ModelSizes
from visionr1.capacity.work import Peak, efficiency, model_work, peak_values
from visionr1.model.load import DTYPES
from visionr1.model.pack import PromptTensors
from visionr1.recipe.schema import Recipe
from visionr1.rollout.types import Group


class WorkerEffort:
    """Measures one worker's parts of the step against the roofline; values are keyed as in `visionr1.metrics`.

    Tensor-parallel peers share the engine's work: each is taken to do its own groups' part.

    Args:
        sizes: of the policy.
        peak: None where it is not known; then there are no values.
    """

    def __init__(self, recipe: Recipe, sizes: ModelSizes, peak: Peak | None):
        self._recipe = recipe
        self._work = model_work(sizes, DTYPES[recipe.model.dtype].itemsize)
        self._peak = peak

    def peak_values(self) -> dict[str, Any]:
        """What the ratios refer to."""
        return peak_values(self._peak)

    def sync(self, seconds: float) -> dict[str, Any]:
        """Of handing the weights to the engine."""
        return efficiency({"weight_sync": (self._work.sync(), seconds)}, self._peak)

    def step(
        self, prompts: Sequence[PromptTensors], groups: Sequence[Group], rollout_seconds: float, update_seconds: float
    ) -> dict[str, Any]:
        """Of the rollout and the update of this worker's groups; `prompts` are the groups' own."""
        asked = [len(prompt.token_ids) for prompt in prompts]
        answers = [[len(completion.token_ids) for completion in group.completions] for group in groups]
        pictures = [int(grid.prod()) for prompt in prompts if prompt.images for grid in prompt.images.grid_thw_I3]
        rollout = self._work.rollout(asked, answers, pictures, self._recipe.rollout.max_sequences)
        update = self._work.update(
            asked,
            answers,
            pictures,
            reference=self._recipe.algorithm.kl_beta > 0,
            vision_trained=not self._recipe.optimiser.freeze_vision_tower,
        )
        return efficiency({"rollout": (rollout, rollout_seconds), "update": (update, update_seconds)}, self._peak)
