"""The model's weights on disk: a Hugging Face directory with the published names, of which each rank writes its files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.core_model_loading import revert_weight_conversion

from visionr1.capacity.shards import Shard, weight_shards
from visionr1.engine.zero import gathered_on, whole_shape
from visionr1.model.policy import Policy
from visionr1.rundir.layout import MANIFEST
from visionr1.storage.store import os_errors

INDEX: Final = "model.safetensors.index.json"
_COMPANIONS = ("*.json", "*.txt", "*.jinja", "tokenizer*")


def read_companions(model_dir: Path) -> dict[str, bytes]:
    """All of a Hugging Face directory but its weights: config, processor, chat template, generation config.

    To be read before training begins: the directory may be a checkpoint that is dropped before the next one is saved.
    """
    files = {file for pattern in _COMPANIONS for file in model_dir.glob(pattern)}
    return {file.name: file.read_bytes() for file in sorted(files) if file.name not in (MANIFEST, INDEX)}


def published_names(inner: Qwen2_5_VLForConditionalGeneration) -> dict[str, str]:
    """For each parameter's name in the module, that in the published checkpoints, by transformers' own rules."""
    kind: Any = type(inner)  # its constructor has no types
    names = [name for name, _ in inner.named_parameters()]
    with torch.device("meta"):
        # Of a model that was loaded, transformers would bring back the names that it was loaded with.
        fresh = kind(type(inner.config).from_dict(inner.config.to_dict()))
        numbered = {name: torch.empty(number) for number, name in enumerate(names)}
    return {names[value.numel()]: published for published, value in revert_weight_conversion(fresh, numbered).items()}


def save_weights(policy: Policy, companions: Mapping[str, bytes], target: Path) -> list[str]:
    """Writes this rank's files of a Hugging Face directory; collective.

    Under ZeRO-3 the tensors of one file at a time come to the rank that writes it.

    Args:
        companions: what `read_companions` found beside the weights that training began with; rank 0 writes them.

    Returns:
        The names of the files that this rank wrote.
    """
    rank = dist.get_rank()
    names = published_names(policy.inner)
    parameters: dict[str, Any] = {names[name]: parameter for name, parameter in policy.inner.named_parameters()}
    sizes = {name: whole_shape(parameter).numel() * parameter.element_size() for name, parameter in parameters.items()}
    shards = weight_shards(sizes, dist.get_world_size())
    written = []
    with writing(target):
        if rank == 0:
            dtype = str(policy.inner.dtype).removeprefix("torch.")
            written += _write_companions(target, companions, dtype, shards)
        for shard in shards:
            tensors = {name: gathered_on(shard.rank, parameters[name]) for name in shard.names}
            if shard.rank == rank:
                here = {name: tensor.to("cpu").contiguous() for name, tensor in tensors.items() if tensor is not None}
                save_file(here, target / shard.file, metadata={"format": "pt"})
                written.append(shard.file)
    return written


def _write_companions(target: Path, companions: Mapping[str, bytes], dtype: str, shards: Sequence[Shard]) -> list[str]:
    files = dict(companions)
    # The base may have been trained in another type; whoever loads with dtype="auto" gets what the config says.
    config = json.loads(files["config.json"])
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    files["config.json"] = _json(config)
    if len(shards) > 1:
        where = {name: shard.file for shard in shards for name in shard.names}
        files[INDEX] = _json({"metadata": {"total_size": sum(shard.bytes for shard in shards)}, "weight_map": where})
    for name, data in files.items():
        (target / name).write_bytes(data)
    return list(files)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Errors for people also from safetensors, which tells of a full disk in words alone."""
    with os_errors(target):
        try:
            yield
        except SafetensorError as error:
            if not (number := re.search(r"\(os error (\d+)\)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
