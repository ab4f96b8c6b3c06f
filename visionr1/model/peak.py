"""What the device under this process can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch

from visionr1.model.work import Peak

_GPUS: Final = (
    ("H100 PCIe", 756e12, 2.04e12),
    ("H100", 989e12, 3.35e12),
    ("H800", 989e12, 3.35e12),
    ("H200", 989e12, 4.8e12),
    ("H20", 148e12, 4.0e12),
    ("A100-SXM4-40GB", 312e12, 1.555e12),
    ("A100", 312e12, 2.039e12),
    ("A800", 312e12, 2.039e12),
    ("L40S", 362e12, 0.864e12),
)
"""Part of the name that CUDA gives, dense bfloat16 FLOP/s and byte/s as NVIDIA's data sheets publish them; first match."""

_MATRIX: Final = 768
_COPIED: Final = 16 << 20
_SECONDS: Final = 0.1


def device_peak(device: torch.device, dtype: str) -> Peak | None:
    """Published figures of a known GPU in bfloat16; measured float32 figures of a CPU, with this process's threads.

    None for another GPU or dtype: no ratio is better than one against a guess.
    """
    if device.type == "cpu":
        return _measured() if dtype == "float32" else None
    name = torch.cuda.get_device_name(device)
    for part, flops, bandwidth in _GPUS:
        if part in name and dtype == "bfloat16":
            return Peak(name, flops, bandwidth)
    return None


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
