"""How near a rank's step comes to what its device can do."""

from __future__ import annotations

from typing import Any

import torch

from visionr1.capacity.model import ModelSizes
from visionr1.capacity.work import efficiency, model_work, peak_values
from visionr1.model.device import device_peak
from visionr1.model.load import DTYPES
from visionr1.model.pack import PackedRow
from visionr1.recipe.schema import SFT, Model


class RankEffort:
    """Measures one rank's update against the roofline; values are keyed as in `visionr1.metrics`, none without a known peak.

    Args:
        sizes: of the policy.
    """

    def __init__(self, sft: SFT, model: Model, sizes: ModelSizes, device: torch.device):
        self._sft = sft
        self._work = model_work(sizes, DTYPES[model.dtype].itemsize)
        self._peak = device_peak(device, model.dtype)

    def peak_values(self) -> dict[str, Any]:
        """What the ratios refer to."""
        return peak_values(self._peak)

    def step(self, rows: list[PackedRow], seconds: float) -> dict[str, Any]:
        """Of one optimiser step on this rank's rows."""
        pictures = [int(grid.prod()) for row in rows if row.images for grid in row.images.grid_thw_I3]
        responses = [length for row in rows for length in row.sequence_N.bincount().tolist()]
        spans = [span.length for row in rows for span in row.spans.spans]
        prompts = [length - response for length, response in zip(spans, responses, strict=True)]
        trained = not self._sft.freeze_vision_tower
        work = self._work.update(prompts, [[length] for length in responses], pictures, reference=False, vision_trained=trained)
        return efficiency({"update": (work, seconds)}, self._peak)
