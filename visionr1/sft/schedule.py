"""How fast: pure functions of the recipe and the number of steps."""

from __future__ import annotations

import math

from visionr1.recipe.phases import sft_draws, sft_steps
from visionr1.recipe.schema import SFT


def step_samples(sft: SFT, samples: int, step: int) -> int:
    """Samples of the global batch of a step, which counts from 1."""
    return min(sft.global_batch_size, sft_draws(sft, samples) - (step - 1) * sft.global_batch_size)


def what_is_made(sft: SFT, samples: int) -> str:
    """One line for people: how many steps and epochs there are."""
    steps = sft_steps(sft, samples)
    last = step_samples(sft, samples, steps)
    made = (steps - 1) * sft.global_batch_size + last
    smaller = f", the last of {last}" if last < sft.global_batch_size and steps > 1 else ""
    size = last if steps == 1 else sft.global_batch_size
    cut = f" of {sft.epochs:g}, because of sft.max_steps" if made < sft_draws(sft, samples) else ""
    return f"SFT: {samples} samples, {steps} steps of {size}{smaller}: {made / samples:.4g} epochs{cut}"


def learning_rate(sft: SFT, step: int, total: int) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then a cosine down to 0; `step` counts from 1."""
    warmup = math.ceil(sft.warmup_ratio * total)
    if step <= warmup:
        return sft.learning_rate * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return sft.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
