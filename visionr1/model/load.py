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
    packed = model.attention in ("shared", "plain")
    if packed and device.type == "cuda" and model.dtype == "float32":
        raise BadInput(
            f"model.attention: {model.attention} needs model.dtype bfloat16 on a GPU, where its kernel takes no float32: set "
            "model.attention: sdpa"
        )
    # Any: transformers wraps `to` so that type checkers lose its arguments.
    with _readable(directory, "model"):
        loaded: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            directory,
            dtype=DTYPES[model.dtype],
            attn_implementation=model.attention if model.attention in ("sdpa", "eager") else "sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    if packed:
        use_packed_attention(loaded)
    if model.gradient_checkpointing:
        loaded.gradient_checkpointing_enable({"use_reentrant": False})
    return loaded.to(device).train()


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
