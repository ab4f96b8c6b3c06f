"""Saving and restoring a trainer, independent of world size and ZeRO stage.

Float32 master weights and AdamW's moments go into safetensors beside the weights. Each rank writes the parts of tensors that it
holds, under the parameters' names in the module and their places in the whole tensors, so nothing moves between ranks and two
workers' checkpoint is read by one or by three. No pickle is ever read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file

from visionr1.engine.weights import writing
from visionr1.engine.zero import MOMENTS
from visionr1.errors import BadInput
from visionr1.rundir.layout import TRAINER

_MASTER = "master"


class Piece(NamedTuple):
    """What this rank holds of one parameter's state.

    Attributes:
        name: the parameter's, in the module.
        start: place of the piece in the whole tensor, which is counted flat.
        values: master weight and moments [n], float32, as parts of the optimiser's own tensors.
    """

    name: str
    start: int
    values: dict[str, torch.Tensor]


def save_trainer(engine: Any, target: Path) -> list[str]:
    """Writes this rank's share of master weights and moments, from where they are, be it a GPU or the host.

    Returns:
        The name of the file that this rank wrote, in a list.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    share = {
        f"{piece.name}/{kind}/{piece.start}": value.to("cpu") for piece in pieces(engine) for kind, value in piece.values.items()
    }
    # In a folder of its own: vLLM reads every safetensors file that lies beside the weights.
    file = f"{TRAINER}/rank-{rank:05d}-of-{world:05d}.safetensors"
    with writing(target):
        (target / file).parent.mkdir(exist_ok=True)
        save_file(share, target / file, metadata={"updates": str(_updates(engine))})
    return [file]


def load_trainer(engine: Any, folder: Path) -> None:
    """Restores what `save_trainer` wrote, from any world size.

    Raises:
        BadInput: the folder has not all that this engine trains.
    """
    stored: dict[str, list[tuple[int, Any, str]]] = defaultdict(list)
    updates = 0
    with ExitStack() as files:
        for file in sorted((folder / TRAINER).glob("rank-*.safetensors")):
            opened = files.enter_context(safe_open(file, framework="pt"))
            updates = int(opened.metadata()["updates"])
            for key in opened.keys():  # noqa: SIM118 (no mapping)
                name, kind, *start = key.split("/")
                # Older checkpoints have whole tensors, without a place.
                stored[f"{name}/{kind}"].append((int(start[0]) if start else 0, opened, key))
        _make_states(engine, updates)
        for piece in pieces(engine):
            for kind, value in piece.values.items():
                if _fill(value, piece.start, stored[f"{piece.name}/{kind}"]) < value.numel():
                    raise BadInput(
                        f"{folder / TRAINER} has not all of {kind} of {piece.name}: other parameters were trained when it was "
                        "saved; set freeze_vision_tower as it was then, or start a new run"
                    )


def _fill(value: torch.Tensor, start: int, stored: list[tuple[int, Any, str]]) -> int:
    """Copies what the files have of a piece; returns how many numbers that was."""
    found = 0
    for place, opened, key in stored:
        length = torch.Size(opened.get_slice(key).get_shape()).numel()
        first, last = max(start, place), min(start + value.numel(), place + length)
        if first < last:
            value[first - start : last - start].copy_(opened.get_tensor(key).reshape(-1)[first - place : last - place])
            found += last - first
    return found


def pieces(engine: Any) -> Iterator[Piece]:
    """All that this rank holds, also while it is away from the GPU.

    DeepSpeed's own access by parameter gathers whole tensors on every rank, and loses the moments where states were offloaded.
    """
    names = {id(parameter): name for name, parameter in engine.module.inner.named_parameters()}
    rank, optimizer = dist.get_rank(), engine.optimizer
    flat = [{_MASTER: master} | {name: state[name] for name in MOMENTS} for master, state in flat_states(engine)]
    if engine.zero_optimization_stage() == 3:
        for name, parameter in engine.module.inner.named_parameters():
            if parameter.requires_grad:
                group, offset, padded = optimizer.grad_position[optimizer.get_param_id(parameter)]
                length = min(padded, parameter.ds_numel - rank * padded)
                if length > 0:
                    yield Piece(name, rank * padded, _narrow(flat[group], offset, length))
        return
    for values, group, offsets in zip(flat, optimizer.round_robin_bit16_groups, optimizer.round_robin_bit16_offsets, strict=True):
        size = values[_MASTER].numel()
        for parameter, offset in zip(group, offsets, strict=True):
            first, last = max(offset, rank * size), min(offset + parameter.numel(), (rank + 1) * size)
            if first < last:
                yield Piece(names[id(parameter)], first - offset, _narrow(values, first - rank * size, last - first))


def _narrow(values: dict[str, torch.Tensor], start: int, length: int) -> dict[str, torch.Tensor]:
    return {kind: value.detach().narrow(0, start, length) for kind, value in values.items()}


def flat_states(engine: Any) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """This rank's flat partitions of master weights, with AdamW's state for each."""
    optimizer = engine.optimizer.optimizer
    if engine.zero_optimization_stage() == 3:
        partitions = engine.optimizer.fp32_partitioned_groups_flat
    else:
        partitions = engine.optimizer.single_partition_of_fp32_groups
    return [(partition, optimizer.state[partition]) for partition in partitions]


def _updates(engine: Any) -> int:
    return max(int(state["step"]) for _, state in flat_states(engine))


def _make_states(engine: Any, updates: int) -> None:
    """AdamW makes its state in its first step; a restored one needs it before."""
    for partition, state in flat_states(engine):
        state["step"] = torch.tensor(float(updates))
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(partition)
