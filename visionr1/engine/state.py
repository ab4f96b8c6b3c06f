"""Saving and restoring a trainer, independent of world size and ZeRO stage.

Weights go into a Hugging Face directory that vLLM and transformers read as they are. Float32 master
weights and AdamW's moments go into safetensors beside it, whole tensors under their Hugging Face
names, each rank writing its share; so two workers' checkpoint is read by one or by three, and no
pickle is ever read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from visionr1.engine.zero import MOMENTS, full_weights
from visionr1.model.policy import Policy
from visionr1.rundir.layout import MANIFEST, TRAINER
from visionr1.storage.store import os_errors

_COMPANIONS = ("*.json", "*.txt", "*.jinja", "tokenizer*")


def read_companions(model_dir: Path) -> dict[str, bytes]:
    """All of a Hugging Face directory but its weights: config, processor, chat template, generation config.

    To be read before training begins: the directory may be a checkpoint that is dropped before the next one is saved.
    """
    files = {file for pattern in _COMPANIONS for file in model_dir.glob(pattern)}
    left = (MANIFEST, "model.safetensors.index.json")
    return {file.name: file.read_bytes() for file in sorted(files) if file.name not in left}


def save_weights(policy: Policy, zero_stage: int, companions: dict[str, bytes], target: Path) -> list[str]:
    """Writes a Hugging Face directory on rank 0; collective.

    Args:
        companions: what `read_companions` found beside the weights that training began with.

    Returns:
        The names of the files that this rank wrote.
    """
    first = dist.get_rank() == 0
    weights = {}
    for name, tensor in full_weights(policy, zero_stage):
        if first:
            weights[name] = tensor.to("cpu", copy=True).contiguous()
    if not first:
        return []
    if policy.inner.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    with _writing(target):
        for name, data in companions.items():
            (target / name).write_bytes(data)
        _tell_dtype(target / "config.json", str(policy.inner.dtype).removeprefix("torch."))
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return [*companions, "model.safetensors"]


def _tell_dtype(config_file: Path, dtype: str) -> None:
    """The base may have been trained in another type; whoever loads with dtype="auto" gets what the config says."""
    config = json.loads(config_file.read_text())
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    config_file.write_text(json.dumps(config, indent=2) + "\n")


def save_trainer(engine: Any, target: Path) -> list[str]:
    """Writes this rank's share of master weights and moments; collective.

    Returns:
        The name of the file that this rank wrote, in a list.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    share: dict[str, torch.Tensor] = {}
    for index, (name, parameter) in enumerate(_trainable(engine)):
        values = {"master": safe_get_full_fp32_param(parameter)}
        values |= {moment: safe_get_full_optimizer_state(parameter, moment) for moment in MOMENTS}
        if index % world == rank:
            share |= {f"{name}/{kind}": value.to("cpu", copy=True).reshape(_shape(parameter)) for kind, value in values.items()}
    # In a folder of its own: vLLM reads every safetensors file that lies beside the weights.
    file = f"{TRAINER}/rank-{rank:05d}-of-{world:05d}.safetensors"
    with _writing(target):
        (target / file).parent.mkdir(exist_ok=True)
        save_file(share, target / file, metadata={"updates": str(_updates(engine))})
    return [file]


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Errors for people also from safetensors, which tells of a full disk in words alone."""
    with os_errors(target):
        try:
            yield
        except SafetensorError as error:
            if not (number := re.search(r"\(os error (\d+)\)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def load_trainer(engine: Any, folder: Path) -> None:
    """Restores what `save_trainer` wrote, from any world size."""
    where: dict[str, Path] = {}
    updates = 0
    for file in sorted((folder / TRAINER).glob("rank-*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            where |= dict.fromkeys(opened.keys(), file)
            updates = int(opened.metadata()["updates"])
    _make_states(engine, updates)
    for name, parameter in _trainable(engine):
        with safe_open(where[f"{name}/master"], framework="pt") as opened:
            _set(parameter, opened.get_tensor(f"{name}/master").to(engine.device))
            for moment in MOMENTS:
                _set(parameter, opened.get_tensor(f"{name}/{moment}").to(engine.device), moment)


def _set(parameter: Any, value: torch.Tensor, moment: str | None = None) -> None:
    """Takes over this rank's part of a whole master weight, or of one of its moments."""
    if not engine_partitions(parameter):
        set_full = safe_set_full_fp32_param if moment is None else partial(safe_set_full_optimizer_state, optim_state_key=moment)
        set_full(parameter, value)
        return
    # DeepSpeed's own setter of whole tensors fails where the ranks do not divide a parameter evenly.
    size = parameter.ds_tensor.numel()
    padded = torch.nn.functional.pad(value.flatten(), (0, size * dist.get_world_size() - value.numel()))
    set_part = safe_set_local_fp32_param if moment is None else partial(safe_set_local_optimizer_state, optim_state_key=moment)
    set_part(parameter, padded.narrow(0, size * dist.get_rank(), size))


def _trainable(engine: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in engine.module.inner.named_parameters() if p.requires_grad]


def _shape(parameter: Any) -> torch.Size:
    # A ZeRO-3 parameter is an empty stub between its uses.
    return parameter.ds_shape if engine_partitions(parameter) else parameter.shape


def engine_partitions(parameter: Any) -> bool:
    """Whether ZeRO-3 holds this parameter in parts."""
    return "ds_shape" in vars(parameter)


def _flat_states(engine: Any) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """This rank's flat partitions with AdamW's state for each."""
    optimizer = engine.optimizer.optimizer
    if engine.zero_optimization_stage() == 3:
        partitions = engine.optimizer.fp32_partitioned_groups_flat
    else:
        partitions = engine.optimizer.single_partition_of_fp32_groups
    return [(partition, optimizer.state[partition]) for partition in partitions]


def _updates(engine: Any) -> int:
    return max(int(state["step"]) for _, state in _flat_states(engine))


def _make_states(engine: Any, updates: int) -> None:
    """AdamW makes its state in its first step; a restored one needs it before."""
    for partition, state in _flat_states(engine):
        state["step"] = torch.tensor(float(updates))
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(partition)
    if engine.zero_optimization_stage() < 3:
        engine.optimizer._lazy_init_hp_params_optimizer_state()
