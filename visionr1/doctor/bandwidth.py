"""How fast all processes of a node sum a tensor: `python -m visionr1.doctor.bandwidth`, once per GPU."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Final

import torch
import torch.distributed as dist

from visionr1.doctor.finding import Finding, bad, good, guarded

BYTES: Final = {"cuda": 512 << 20, "cpu": 8 << 20}
TIMES: Final = 5
LEAST: Final = {"cuda": 8e9, "cpu": 0.0}
"""byte/s under which something is wrong: PCIe 3 with 16 lanes reaches 10e9. A CPU has no such limit."""


def measure(rank: int, world: int, port: int, device: torch.device) -> Finding:
    """All-reduces a tensor a few times; collective.

    The bandwidth is that of the bus: of each byte, 2 (n - 1) / n bytes leave each of n processes.
    """
    store = f"tcp://127.0.0.1:{port}"
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=world)
    values_N = torch.ones(BYTES[device.type] // 4, device=device)
    dist.all_reduce(values_N)
    _finish(device)
    begun = time.perf_counter()
    for _ in range(TIMES):
        dist.all_reduce(values_N)
    _finish(device)
    seconds = (time.perf_counter() - begun) / TIMES
    right = float(values_N[0]) == float(values_N[-1]) == float(world ** (TIMES + 1))
    dist.destroy_process_group()
    return judge(backend, world, 2 * (world - 1) / world * values_N.nbytes / seconds, LEAST[device.type], right)


def judge(backend: str, world: int, speed: float, least: float, right: bool) -> Finding:
    """A finding about `speed` in byte/s."""
    detail = f"{backend} sums over {world} processes at {speed / 1e9:.1f} GB/s"
    figures = {"bytes_per_second": speed, "processes": world}
    if not right:
        return bad("link", f"{detail}, and the sum is wrong", "a GPU or a link is broken: take this node out of use", **figures)
    if speed < least:
        remedy = "NCCL_DEBUG=INFO says which way it takes, `nvidia-smi topo -m` which ways there are"
        return bad("link", f"{detail}, less than {least / 1e9:.0f}", remedy, **figures)
    return good("link", detail, **figures)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measures as one of the processes, and writes the finding as a line of JSON to the file descriptor that --report names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", choices=BYTES, required=True)
    parser.add_argument("--report", type=int, required=True)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    found = guarded("link", lambda: measure(asked.rank, asked.world, asked.port, device))
    with os.fdopen(asked.report, "w") as report:
        report.write(json.dumps(found.to_json()) + "\n")


if __name__ == "__main__":
    main()
