"""How many steps, and how fast: pure functions of the recipe and the number of samples."""

from __future__ import annotations

import math

from visionr1.recipe.schema import SFT


def total_steps(sft: SFT, samples: int) -> int:
    """Optimiser steps of `epochs` passes, at least 1, cut by `max_steps`."""
    steps = max(1, int(sft.epochs * samples / sft.global_batch_size))
    return steps if sft.max_steps is None else min(steps, sft.max_steps)


def learning_rate(sft: SFT, step: int, total: int) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then a cosine down to 0; `step` counts from 1."""
    warmup = math.ceil(sft.warmup_ratio * total)
    if step <= warmup:
        return sft.learning_rate * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return sft.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
