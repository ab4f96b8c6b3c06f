"""Loading Qwen2.5-VL; only weights in safetensors, never code from a model repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from visionr1.data.badrow import one_line
from visionr1.errors import BadInput
from visionr1.model.attention import use_packed_attention
from visionr1.preflight.weights import check_weights
from visionr1.recipe.schema import Model

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def load_model(directory: Path, model: Model, device: torch.device) -> Qwen2_5_VLForConditionalGeneration:
    """The trainable model, in `model.dtype` on `device`, in training mode without dropout.

    Raises:
        BadInput: the directory has no whole model as safetensors, or the attention cannot compute in this type on a GPU.
    """
    check_weights(directory)
    _require_kernel(model, device)
    # Any: transformers wraps `to` so that type checkers lose its arguments.
    with _readable(directory, "model"):
        loaded: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            directory,
            dtype=DTYPES[model.dtype],
            attn_implementation=_attention(model),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    return _ready(loaded, model).to(device)


def empty_model(directory: Path, model: Model, device: torch.device) -> Qwen2_5_VLForConditionalGeneration:
    """The same as `load_model`, with parameters that have shapes alone (on the device meta); buffers are real.

    Raises:
        BadInput: as `load_model`.
    """
    check_weights(directory)
    _require_kernel(model, device)
    kind: Any = Qwen2_5_VLForConditionalGeneration
    with _readable(directory, "model"), torch.device("meta"):
        config = kind.config_class.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        empty = kind._from_config(config, dtype=DTYPES[model.dtype], attn_implementation=_attention(model))
    for name, module in list(empty.named_modules()):
        if list(module.buffers(recurse=False)):  # rotary frequencies, which no file has
            empty.set_submodule(name, type(module)(module.config).to(device))
    return _ready(empty, model)


def _require_kernel(model: Model, device: torch.device) -> None:
    if _packed(model) and device.type == "cuda" and model.dtype == "float32":
        raise BadInput(
            f"model.attention: {model.attention} needs model.dtype bfloat16 on a GPU, where its kernel takes no float32: set "
            "model.attention: sdpa"
        )


def _packed(model: Model) -> bool:
    return model.attention in ("shared", "plain")


def _attention(model: Model) -> str:
    return "sdpa" if _packed(model) else model.attention


def _ready(loaded: Any, model: Model) -> Any:
    if _packed(model):
        use_packed_attention(loaded)
    if model.gradient_checkpointing:
        loaded.gradient_checkpointing_enable({"use_reentrant": False})
    return loaded.train()


def load_processor(directory: Path) -> Any:
    """The model's processor: tokenizer, image processor and chat template.

    Raises:
        BadInput: it has none that can be read without running code from the directory.
    """
    with _readable(directory, "processor"):
        return AutoProcessor.from_pretrained(directory, trust_remote_code=False, local_files_only=True)


@contextmanager
def _readable(directory: Path, what: str) -> Iterator[None]:
    """Files that transformers cannot take are the user's to fix; a disk (an OSError with a number) may be better next time."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadInput(
            f"model.base: {directory} has no {what} that can be loaded as safetensors and plain settings, "
            f"without code of its own: {one_line(str(error))}"
        ) from error
