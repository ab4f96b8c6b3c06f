"""How fast: pure functions of the recipe and the number of steps."""

from __future__ import annotations

import math

from visionr1.recipe.schema import SFT


def learning_rate(sft: SFT, step: int, total: int) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then a cosine down to 0; `step` counts from 1."""
    warmup = math.ceil(sft.warmup_ratio * total)
    if step <= warmup:
        return sft.learning_rate * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return sft.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
