"""Models under ZeRO-3 that no rank can hold: each parameter is divided among the ranks before the next one comes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from transformers import Qwen2_5_VLForConditionalGeneration

from visionr1.model.load import DTYPES, empty_model
from visionr1.model.policy import Policy
from visionr1.preflight.weights import current_name
from visionr1.recipe.schema import Model

_CONFIG = {"train_micro_batch_size_per_gpu": 1, "steps_per_print": 1_000_000_000, "zero_optimization": {"stage": 3}}


def load_divided(directory: Path, model: Model, device: torch.device) -> Qwen2_5_VLForConditionalGeneration:
    """What `load_model` gives, of which each rank holds its part; collective.

    Rank 0 reads one tensor at a time and sends it to all; a rank never holds more than its part and one whole tensor.

    Raises:
        BadInput: as `load_model`.
    """
    import deepspeed

    inner = empty_model(directory, model, device)
    dtype = DTYPES[model.dtype]
    first: Any = None
    with ExitStack() as stack:
        files = _open(directory, stack)
        for name, shape in [(name, parameter.shape) for name, parameter in inner.named_parameters()]:
            if dist.get_rank() == 0:
                opened, key = files[name]
                value = opened.get_tensor(key).to(device=device, dtype=dtype)
            else:
                value = torch.empty(shape, dtype=dtype, device=device)
            module_name, _, leaf = name.rpartition(".")
            module = inner.get_submodule(module_name)
            setattr(module, leaf, torch.nn.Parameter(value))
            if first is None:
                deepspeed.zero.Init(module=module, config_dict_or_path=_CONFIG, dtype=dtype)
                first = module.get_parameter(leaf)
            else:
                first.convert_to_zero_parameters(param_list=[module.get_parameter(leaf)])
    inner.tie_weights()
    return inner


def _open(directory: Path, stack: ExitStack) -> dict[str, tuple[Any, str]]:
    """The open file of each tensor, and the tensor's name in it, by its name in transformers."""
    files: dict[str, tuple[Any, str]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        opened = stack.enter_context(safe_open(path, framework="pt"))
        files |= {current_name(key): (opened, key) for key in opened.keys()}  # noqa: SIM118 (no mapping)
    return files


def frozen_engine(policy: Policy) -> Any:
    """A DeepSpeed engine around a divided model that is never trained; a pass gathers a few layers at a time."""
    import deepspeed

    engine, *_ = deepspeed.initialize(model=policy, config=_CONFIG, dist_init_required=False)
    return engine
