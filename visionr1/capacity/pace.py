"""How near an engine comes to its device's peaks, and what takes a fixed time. All of it is estimated, but for what says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What is expected of a device.

    Attributes:
        compute: part of the peak FLOP/s that a pass over packed rows reaches, recomputation counted as work.
        decode: part of the peak byte/s that decoding reaches.
        token_seconds: of a decoded token of a batch, beside reading weights and cache: launches, scheduling, sampling.
        allreduce_seconds: of one exchange between GPUs that share an engine; a layer has two.
        row_seconds: of a pass over a row, beside its computing: launches, packing.
        link: part of a link's peak that a collective reaches.
        network: byte/s of a GPU to other nodes, one way.
        host: byte/s between a GPU and its host's pinned memory, one way.
        disk: byte/s of writing or reading files in a node.
        sync_seconds: of a weight sync, beside copying: the engine's loader, waking up.
        grades: answers that one grading process grades per second.
        start_seconds: of a phase before its first step: processes, weights, vLLM's profile and graphs.
    """

    compute: float
    decode: float
    token_seconds: float
    allreduce_seconds: float
    row_seconds: float
    link: float
    network: float
    host: float
    disk: float
    sync_seconds: float
    grades: float
    start_seconds: float


CPU = Pace(
    compute=0.5,
    decode=0.3,
    token_seconds=0.02,
    allreduce_seconds=0.0,
    row_seconds=0.05,
    link=0.5,
    network=1e9,
    host=10e9,
    disk=0.5e9,
    sync_seconds=0.1,
    grades=500.0,
    start_seconds=30.0,
)
"""Of a process with a core of its own, as in the demo on a laptop."""
GPU = Pace(
    compute=0.4,  # so that EasyR1's published steps of a 7B model on H100 and L20 come out (tests/capacity)
    decode=0.7,
    token_seconds=0.004,
    allreduce_seconds=15e-6,
    row_seconds=0.1,
    link=0.8,
    network=50e9,  # 400 Gbit/s
    host=25e9,
    disk=1e9,
    sync_seconds=2.0,
    grades=500.0,  # benchmarks/reward_speed.py: 1.2 ms of a core per answer, and some waiting
    start_seconds=180.0,
)
