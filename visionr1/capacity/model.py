"""Sizes of a Qwen2.5-VL, from the numbers of its config.json."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from visionr1.errors import BadInput
from visionr1.recipe.schema import Model
from visionr1.storage.store import open_regular

DEMO_BASE: Final = Path(__file__).parents[1] / "demo" / "base"
"""The tiny model in this package."""
FULL_ATTENTION: Final = (7, 15, 23, 31)
"""Layers of the vision tower with full attention, where config.json leaves them to the library (so in transformers)."""
WINDOW_PIXELS: Final = 112
"""Side of a window of the vision tower, where config.json leaves it to the library (so in transformers)."""


_MOST_CONFIG_BYTES: Final = 1 << 20
_MOST_LAYERS: Final = 256
_MOST_WIDTH: Final = 1 << 24
_MOST_PARAMETERS: Final = 1 << 40


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Widths and depths; what they add up to are properties, in parameters, as are the sizes of single tensors.

    Attributes:
        width, inner: hidden size of the text model, and of its feed-forward layers.
        queries, keys: heads times head dimension, of queries, and of keys (and values).
        tied: whether the head is the embedding.
        vision_full_layers: layers of the vision tower that attend to the whole picture, the others to a window.
        patch: numbers of a picture's patch.
        merged: patches that become one token.
        window: patches of a window.
    """

    layers: int
    width: int
    inner: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool
    vision_layers: int
    vision_width: int
    vision_inner: int
    vision_out: int
    vision_full_layers: int = 4
    patch: int = 3 * 2 * 14 * 14
    merged: int = 4
    window: int = 64

    @property
    def layer_tensors(self) -> tuple[int, ...]:
        """One layer of the text model: projections with the biases of three, feed-forward, two norms."""
        width, queries, keys, inner = self.width, self.queries, self.keys, self.width * self.inner
        attention = (width * queries, queries, width * keys, keys, width * keys, keys, queries * width)
        return (*attention, inner, inner, inner, width, width)

    @property
    def layer(self) -> int:
        """One layer of the text model."""
        return sum(self.layer_tensors)

    @property
    def embedding(self) -> int:
        """The largest tensor; the head is as large."""
        return self.vocabulary * self.width

    @property
    def text(self) -> int:
        """All layers and the last norm, without embedding and head."""
        return self.layers * self.layer + self.width

    @property
    def vision_tensors(self) -> tuple[int, ...]:
        """The vision tower with its merger."""
        width, inner = self.vision_width, self.vision_width * self.vision_inner
        attention = (3 * width * width, 3 * width, width * width, width)
        block = (*attention, inner, self.vision_inner, inner, self.vision_inner, inner, width, width, width)
        merged = self.merged * width
        merger = (width, merged * merged, merged, merged * self.vision_out, self.vision_out)
        return (self.patch * width, *(block * self.vision_layers), *merger)

    @property
    def vision(self) -> int:
        """The vision tower with its merger."""
        return sum(self.vision_tensors)

    @property
    def tensors(self) -> tuple[int, ...]:
        """All of the model; a tied head counts once."""
        ends = (self.embedding,) if self.tied else (self.embedding, self.embedding)
        return (*ends, *(self.layer_tensors * self.layers), self.width, *self.vision_tensors)

    @property
    def parameters(self) -> int:
        """All of the model; a tied head counts once."""
        return sum(self.tensors)

    def trained(self, *, vision: bool) -> int:
        """Parameters that the optimiser has, with or without the vision tower."""
        return self.parameters if vision else self.parameters - self.vision


def model_sizes(config: Mapping[str, Any]) -> ModelSizes:
    """From a config.json, with the text model's values at its top (as published) or under `text_config`.

    Raises:
        KeyError: a size is missing.
    """
    text = config.get("text_config", config)
    vision = config["vision_config"]
    head = text["hidden_size"] // text["num_attention_heads"]
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    return ModelSizes(
        layers=text["num_hidden_layers"],
        width=text["hidden_size"],
        inner=text["intermediate_size"],
        queries=text["num_attention_heads"] * head,
        keys=text["num_key_value_heads"] * head,
        vocabulary=text["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
        vision_layers=vision["depth"],
        vision_width=vision["hidden_size"],
        vision_inner=vision["intermediate_size"],
        vision_out=vision["out_hidden_size"],
        vision_full_layers=len(vision.get("fullatt_block_indexes", FULL_ATTENTION)),
        patch=channels * vision.get("temporal_patch_size", 2) * vision["patch_size"] ** 2,
        merged=vision.get("spatial_merge_size", 2) ** 2,
        window=(vision.get("window_size", WINDOW_PIXELS) // vision["patch_size"]) ** 2,
    )


def read_model_sizes(directory: Path) -> ModelSizes:
    """Sizes of the model in a Hugging Face directory.

    Raises:
        BadInput: its config.json cannot be read, or is no Qwen2.5-VL's.
    """
    file = directory / "config.json"
    try:
        with open_regular(file) as opened:
            sizes = model_sizes(json.loads(opened.read(_MOST_CONFIG_BYTES)))
        _refuse_no_model(sizes)
        return sizes
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, RecursionError) as error:
        raise BadInput(f"model.base: {file} is not the config.json of a Qwen2.5-VL: {type(error).__name__}: {error}") from error


def _refuse_no_model(sizes: ModelSizes) -> None:
    """The operator counts tensor by tensor: a file with a billion layers must not take its memory."""
    for field in fields(sizes):
        value = getattr(sizes, field.name)
        least = 0 if field.name in ("tied", "vision_full_layers") else 1
        most = _MOST_LAYERS if field.name.endswith("layers") else _MOST_WIDTH
        if type(value) is not (bool if field.name == "tied" else int) or not least <= value <= most:
            raise ValueError(f"{field.name} cannot be {value!r:.40}")
    if sizes.parameters > _MOST_PARAMETERS:
        raise ValueError(f"{sizes.parameters:,} parameters")


def _published(layers: int, width: int, inner: int, keys: int, vision_inner: int, **other: Any) -> ModelSizes:
    defaults = {"vocabulary": 152_064, "tied": False, "queries": width, "vision_layers": 32, "vision_width": 1280}
    own = {"layers": layers, "width": width, "inner": inner, "keys": keys, "vision_inner": vision_inner, "vision_out": width}
    return ModelSizes(**(defaults | own | other))


QWEN2_5_VL: Final = {
    "3B": _published(36, 2048, 11_008, 256, 3420, vocabulary=151_936, tied=True),
    "7B": _published(28, 3584, 18_944, 512, 3420),
    "32B": _published(64, 5120, 27_648, 1024, 3456),
    "72B": _published(80, 8192, 29_568, 1024, 3456),
}
"""Qwen/Qwen2.5-VL-*-Instruct, as their config.json say."""


def find_model_sizes(model: Model) -> ModelSizes:
    """Sizes of `model.base` without a download: of a local directory, of what the Hub's cache has, or of a published model.

    Raises:
        BadInput: its config.json cannot be read, or is nowhere here.
    """
    local = DEMO_BASE if model.base == "demo" else Path(model.base)
    if os.path.isdir(local):  # not the method of Path, which raises for a name that is too long
        return read_model_sizes(local)
    folder = _hub_cache() / f"models--{model.base.replace('/', '--')}" / "snapshots"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model.base) and os.path.isdir(folder):
        there = [one for one in sorted(folder.iterdir()) if model.revision in (None, one.name)]
        if cached := [one for one in there if os.path.isfile(one / "config.json")]:
            return read_model_sizes(cached[-1])
    published = re.fullmatch(r"Qwen/Qwen2\.5-VL-(\w+)-Instruct", model.base)
    if published and published[1] in QWEN2_5_VL:
        return QWEN2_5_VL[published[1]]
    raise BadInput(
        f"model.base: the sizes of {model.base!r} are not known here; give a directory that has its config.json, or download "
        f"that file: hf download {model.base} config.json"
    )


def _hub_cache() -> Path:
    """Where huggingface_hub keeps downloads, by the same variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
