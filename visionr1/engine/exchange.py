"""Bytes between ranks, sent as tensors. Torch's own calls for objects would unpickle whatever somebody has sent."""

from __future__ import annotations

import torch
import torch.distributed as dist


def from_rank_0(data: bytes, device: torch.device) -> bytes:
    """Rank 0's bytes, on every rank; collective. What the other ranks give does not matter."""
    size = torch.tensor([len(data)], device=device)
    dist.broadcast(size, 0)
    sent = data if dist.get_rank() == 0 else bytes(int(size))
    values_N = _tensor(sent, device)
    dist.broadcast(values_N, 0)
    return _bytes(values_N)


def from_all(data: bytes, device: torch.device) -> list[bytes]:
    """The bytes of each rank, by rank, on every rank; collective."""
    world = dist.get_world_size()
    sizes_R = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world)]
    dist.all_gather(sizes_R, torch.tensor([len(data)], device=device))
    longest = max(int(size) for size in sizes_R)
    padded_RN = [torch.zeros(longest, dtype=torch.uint8, device=device) for _ in range(world)]
    dist.all_gather(padded_RN, _tensor(data.ljust(longest, b"\0"), device))
    return [_bytes(values_N[: int(size)]) for values_N, size in zip(padded_RN, sizes_R, strict=True)]


def _tensor(data: bytes, device: torch.device) -> torch.Tensor:
    return (
        torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
        if data
        else torch.zeros(0, dtype=torch.uint8, device=device)
    )


def _bytes(values_N: torch.Tensor) -> bytes:
    return values_N.cpu().numpy().tobytes()
