"""The device that a process computes on."""

from __future__ import annotations

import os

import torch

from visionr1.recipe.schema import Recipe


def device_of(recipe: Recipe) -> torch.device:
    """Where this process computes: its own GPU of those that it sees (LOCAL_RANK; else the first), or the CPU.

    The GPU becomes the current one, so that no two ranks of a node begin on the same one.
    """
    if not recipe.rollout.on_gpu(torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
