"""The device that a process computes on, and what it can do at most."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import torch

from visionr1.capacity.cards import card_of_driver
from visionr1.capacity.work import Peak
from visionr1.recipe.schema import Recipe

_MATRIX: Final = 768
_COPIED: Final = 16 << 20
_SECONDS: Final = 0.1


def device_of(recipe: Recipe) -> torch.device:
    """Where this process computes: its own GPU of those that it sees (LOCAL_RANK; else the first), or the CPU.

    The GPU becomes the current one, so that no two ranks of a node begin on the same one.
    """
    if not recipe.rollout.on_gpu(torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def device_peak(device: torch.device, dtype: str) -> Peak | None:
    """Published figures of a known GPU in bfloat16; measured float32 figures of a CPU, with this process's threads.

    None for another GPU or dtype: no ratio is better than one against a guess.
    """
    if device.type == "cpu":
        return _measured() if dtype == "float32" else None
    name = torch.cuda.get_device_name(device)
    card = card_of_driver(name) if dtype == "bfloat16" else None
    return None if card is None else Peak(name, card.flops, card.bandwidth)


def _measured() -> Peak:
    """The fastest of repeated matrix products and copies; other processes on the machine make it smaller."""
    one_MM, product_MM = torch.rand(_MATRIX, _MATRIX), torch.empty(_MATRIX, _MATRIX)
    source_N, target_N = torch.rand(_COPIED), torch.empty(_COPIED)
    flops = 2 * _MATRIX**3 / _fastest(lambda: torch.mm(one_MM, one_MM, out=product_MM))
    bandwidth = 2 * source_N.nbytes / _fastest(lambda: target_N.copy_(source_N))
    return Peak("cpu, measured", flops, bandwidth)


def _fastest(act: Callable[[], object]) -> float:
    """Seconds of the fastest call within _SECONDS, after one to warm up."""
    act()
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        begun = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - begun)
    return best
