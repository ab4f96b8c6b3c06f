"""How near a worker's step comes to what its device can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visionr1.capacity.model import ModelSizes
from visionr1.capacity.work import Peak, Work, efficiency, model_work, peak_values
from visionr1.model.load import DTYPES
from visionr1.model.pack import PromptTensors
from visionr1.recipe.schema import Recipe
from visionr1.rollout.types import Group


@dataclass(frozen=True)
class Sampled:
    """A group with its prompt as the trainer takes it."""

    prompt: PromptTensors
    group: Group


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

    def rollout(self, sampled: Sequence[Sampled], seconds: float) -> dict[str, Any]:
        """Of sampling these groups."""
        work = self._work.rollout(*_sizes(sampled), self._recipe.rollout.max_sequences)
        return efficiency({"rollout": (work, seconds)}, self._peak)

    def update(self, sampled: Sequence[Sampled], seconds: float) -> dict[str, Any]:
        """Of training on these groups."""
        return efficiency({"update": (self._update(sampled), seconds)}, self._peak)

    def update_flops(self, sampled: Sequence[Sampled]) -> list[float]:
        """Of training on each of these groups."""
        return [self._update([one]).flops for one in sampled]

    def _update(self, sampled: Sequence[Sampled]) -> Work:
        return self._work.update(
            *_sizes(sampled),
            reference=self._recipe.algorithm.kl_beta > 0,
            vision_trained=not self._recipe.optimiser.freeze_vision_tower,
        )


def _sizes(sampled: Sequence[Sampled]) -> tuple[list[int], list[list[int]], list[int]]:
    """Tokens of each prompt, of each of its completions, and patches of each picture."""
    prompts = [one.prompt for one in sampled]
    pictures = [int(grid.prod()) for prompt in prompts if prompt.images for grid in prompt.images.grid_thw_I3]
    answers = [[len(completion.token_ids) for completion in one.group.completions] for one in sampled]
    return [len(prompt.token_ids) for prompt in prompts], answers, pictures
