"""The device that a process computes on."""

from __future__ import annotations

import torch

from visionr1.recipe.schema import Recipe


def device_of(recipe: Recipe) -> torch.device:
    """Where this process computes: the GPU that it sees, or the CPU."""
    cuda = recipe.rollout.on_gpu(torch.cuda.is_available())
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
