"""Are a model's weights whole, and those of a Qwen2.5-VL? Reads the headers of safetensors files, never the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visionr1.capacity.model import ModelSizes, read_model_sizes
from visionr1.errors import BadInput
from visionr1.preflight.base import read_config, read_json
from visionr1.storage.store import open_regular

Shape = tuple[int, ...]

_ONE_FILE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_LARGEST_HEADER: Final = 100_000_000
"""Bytes, as in the safetensors library."""
_TYPES: Final = ("F32", "F16", "BF16", "F64")
_NAMED: Final = 3
"""How many names a message lists."""
_HEAD: Final = "lm_head.weight"
_EMBEDDING: Final = "model.language_model.embed_tokens.weight"


@dataclass(frozen=True)
class Tensor:
    """A tensor as a header describes it."""

    type: str
    shape: Shape


def check_weights(directory: Path) -> None:
    """Sees that a model's folder has every tensor of its config.json, in its shape, in files that are whole.

    transformers fills what is missing with random values and only logs a warning, so every loader asks this first.

    Raises:
        BadInput: one line with the first few names and how many there are.
    """
    config = read_config(directory)
    wanted = tensor_shapes(config, read_model_sizes(directory))
    found = read_headers(directory)
    fault = weights_fault(wanted, found)
    if fault:
        raise BadInput(f"model.base: {directory} {fault}; copy or download the whole model, or correct its config.json")


def weights_fault(wanted: Mapping[str, Shape], found: Mapping[str, Tensor]) -> str | None:
    """What is wrong with the tensors that were found, as the rest of a sentence; None if nothing is.

    Args:
        wanted: shapes by their names in transformers; a head that is tied to the embedding is left out.
        found: by their names in the files, as published or as transformers writes them.
    """
    known = {current_name(name): tensor for name, tensor in found.items() if not name.endswith(".inv_freq")}
    missing = [name for name in wanted if name not in known]
    extra = [name for name in known if name not in wanted and name != _HEAD]
    wrong = [name for name in wanted if name in known and known[name].shape != wanted[name]]
    packed = [name for name, tensor in known.items() if tensor.type not in _TYPES]
    parts = []
    if missing:
        parts.append(f"lacks {len(missing)} of the {len(wanted)} tensors of its config.json ({_listed(missing)})")
    if extra:
        parts.append(f"has {len(extra)} tensors that it does not know ({_listed(extra)})")
    if wrong:
        first = wrong[0]
        shapes = f"{first} is {list(known[first].shape)}, not {list(wanted[first])}"
        parts.append(f"has {len(wrong)} tensors of another shape ({shapes}{', ...' if len(wrong) > 1 else ''})")
    if packed and not parts:
        parts.append(f"has {len(packed)} tensors of a type that cannot be trained ({packed[0]} is {known[packed[0]].type})")
    return " and ".join(parts) or None


def current_name(name: str) -> str:
    """A tensor's name in transformers: published weights have `visual.` and `model.`, newer ones `model.visual.` and so on."""
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(("model.language_model.", "model.visual.")):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def tensor_shapes(config: Mapping[str, Any], sizes: ModelSizes) -> dict[str, Shape]:
    """Every tensor of a Qwen2.5-VL and its shape; without the head where it is the embedding.

    Raises:
        BadInput: the config.json lacks a size.
    """
    shapes: dict[str, Shape] = {_EMBEDDING: (sizes.vocabulary, sizes.width)}
    for layer in range(sizes.layers):
        shapes |= {f"model.language_model.layers.{layer}.{name}": shape for name, shape in _text_layer(sizes).items()}
    shapes["model.language_model.norm.weight"] = (sizes.width,)
    if not sizes.tied:
        shapes[_HEAD] = (sizes.vocabulary, sizes.width)
    vision = config["vision_config"]
    side, channels = vision["patch_size"], vision.get("in_channels", vision.get("in_chans", 3))
    width, merged = sizes.vision_width, sizes.merged * sizes.vision_width
    shapes["model.visual.patch_embed.proj.weight"] = (width, channels, vision.get("temporal_patch_size", 2), side, side)
    for block in range(sizes.vision_layers):
        shapes |= {f"model.visual.blocks.{block}.{name}": shape for name, shape in _vision_block(sizes).items()}
    merger: dict[str, Shape] = {
        "ln_q.weight": (width,),
        "mlp.0.weight": (merged, merged),
        "mlp.0.bias": (merged,),
        "mlp.2.weight": (sizes.vision_out, merged),
        "mlp.2.bias": (sizes.vision_out,),
    }
    return shapes | {f"model.visual.merger.{name}": shape for name, shape in merger.items()}


def _text_layer(sizes: ModelSizes) -> dict[str, Shape]:
    width, inner = sizes.width, sizes.inner
    return {
        "self_attn.q_proj.weight": (sizes.queries, width),
        "self_attn.q_proj.bias": (sizes.queries,),
        "self_attn.k_proj.weight": (sizes.keys, width),
        "self_attn.k_proj.bias": (sizes.keys,),
        "self_attn.v_proj.weight": (sizes.keys, width),
        "self_attn.v_proj.bias": (sizes.keys,),
        "self_attn.o_proj.weight": (width, sizes.queries),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
        "input_layernorm.weight": (width,),
        "post_attention_layernorm.weight": (width,),
    }


def _vision_block(sizes: ModelSizes) -> dict[str, Shape]:
    width, inner = sizes.vision_width, sizes.vision_inner
    return {
        "norm1.weight": (width,),
        "norm2.weight": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.gate_proj.bias": (inner,),
        "mlp.up_proj.weight": (inner, width),
        "mlp.up_proj.bias": (inner,),
        "mlp.down_proj.weight": (width, inner),
        "mlp.down_proj.bias": (width,),
    }


def read_headers(directory: Path) -> dict[str, Tensor]:
    """Every tensor in the files that transformers would load.

    Raises:
        BadInput: a file is missing, cut or no safetensors file, or lacks a tensor that the index places there.
    """
    if (directory / _ONE_FILE).is_file():
        return _header(directory / _ONE_FILE)
    if not (directory / _INDEX).is_file():
        raise BadInput(
            f"model.base: {directory} has neither {_ONE_FILE} nor {_INDEX}: only weights in safetensors are read; convert them"
        )
    places = read_json(directory, _INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise BadInput(f"model.base: {directory / _INDEX} has no weight_map from tensors to files: copy or download it again")
    files = sorted(set(places.values()))
    absent = [file for file in files if Path(file).name != file or not os.path.isfile(directory / file)]
    if absent:
        raise BadInput(
            f"model.base: {directory} lacks {len(absent)} of the {len(files)} files that its {_INDEX} names "
            f"({_listed(absent)}): copy or download them"
        )
    headers = {file: _header(directory / file) for file in files}
    lost = [name for name, file in places.items() if name not in headers[file]]
    if lost:
        raise BadInput(
            f"model.base: {len(lost)} tensors are not in the files where {directory / _INDEX} places them ({_listed(lost)}): "
            "copy or download the whole model"
        )
    return {name: tensor for header in headers.values() for name, tensor in header.items()}


def _header(file: Path) -> dict[str, Tensor]:
    """The tensors of one file, whose length is what its header says."""
    again = "copy or download it again"
    try:
        with open_regular(file) as data:
            length = int.from_bytes(data.read(8), "little")
            if not 2 <= length <= _LARGEST_HEADER:
                raise ValueError("its first bytes are no length")
            entries = json.loads(data.read(length))
            entries.pop("__metadata__", None)
            tensors = {name: Tensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
            wanted = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
            there = file.stat().st_size
    except BadInput as error:
        raise BadInput(f"model.base: {error}") from None
    except OSError as error:
        raise BadInput(f"model.base: {file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise BadInput(f"model.base: {file} is no safetensors file ({type(error).__name__}), or it is cut: {again}") from None
    if there != wanted:
        raise BadInput(f"model.base: {file} has {there} bytes where its header asks for {wanted}: {again}")
    return tensors


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
