"""A model with random weights of the recipe's size: costs what the real one costs, and needs no download."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from visionr1.capacity.choose import Gpus, choose_stage
from visionr1.capacity.model import DEMO_BASE, ModelSizes
from visionr1.errors import BadInput
from visionr1.model.load import DTYPES, load_processor
from visionr1.recipe.schema import Model, Recipe

HEAD: Final = 128
"""Dimensions of an attention head in the published models' text part."""
VISION_HEAD: Final = 80
"""The same in their vision tower."""


@dataclass(frozen=True)
class Trial:
    """The model to try: sizes that fit, and how many of the recipe's layers they have."""

    sizes: ModelSizes
    of_layers: int

    def __str__(self) -> str:
        all_layers = self.sizes.layers == self.of_layers
        layers = "" if all_layers else f", {self.sizes.layers} of {self.of_layers} layers, the most that fit on one GPU"
        return f"random weights, {self.sizes.parameters / 1e9:.2f} billion parameters{layers}"


def that_fits(recipe: Recipe, sizes: ModelSizes, gib: float) -> Trial:
    """The recipe's model, or the same with half, a quarter, ... of its layers where one GPU of `gib` GiB cannot train it.

    Raises:
        BadInput: not even a single layer fits.
    """
    tried = sizes
    while True:
        try:
            choose_stage(recipe, recipe.stages[0], tried, Gpus(gib, 1))
            return Trial(tried, sizes.layers)
        except BadInput:
            if tried.layers == 1:
                raise
            tried = replace(tried, layers=tried.layers // 2)


def write_random_model(sizes: ModelSizes, model: Model, device: torch.device, folder: Path) -> None:
    """Makes the model on `device` and writes a Hugging Face directory; its tokenizer is the base's where that is a directory.

    Args:
        sizes: what `find_model_sizes` says of `model`, maybe with fewer layers.
    """
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    local = Path(model.base).is_dir()
    source = Path(model.base) if local else DEMO_BASE
    settings = Qwen2_5_VLConfig.from_pretrained(source).to_dict()
    settings = with_layers(settings, sizes.layers) if local else published_config(sizes, settings)
    make: Any = Qwen2_5_VLForConditionalGeneration  # transformers' types do not say what it takes
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[model.dtype])
    try:
        with device:
            made = make(Qwen2_5_VLConfig(**settings))
    finally:
        torch.set_default_dtype(before)
    made.generation_config = GenerationConfig.from_pretrained(DEMO_BASE)
    made.save_pretrained(folder)
    load_processor(source).save_pretrained(folder)
    fill_vocabulary(folder / "tokenizer.json", sizes.vocabulary)


def fill_vocabulary(file: Path, size: int) -> None:
    """Gives every id that a model of so many words can sample a word in the tokenizer, for a random model samples them all."""
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    words: dict[str, int] = tokenizer["model"]["vocab"]
    known = {*words.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    words |= {f"<unused-{number}>": number for number in range(size) if number not in known}
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def with_layers(settings: dict[str, Any], layers: int) -> dict[str, Any]:
    """The same configuration with so many layers in its text part."""
    text = settings["text_config"] | {"num_hidden_layers": layers, "layer_types": None, "max_window_layers": layers}
    return _without_version(settings | {"text_config": text})


def published_config(sizes: ModelSizes, demo: dict[str, Any]) -> dict[str, Any]:
    """A configuration of a published model's sizes; all else, such as the ids of special tokens, is the demo model's."""
    text = {
        "hidden_size": sizes.width,
        "intermediate_size": sizes.inner,
        "num_attention_heads": sizes.queries // HEAD,
        "num_key_value_heads": sizes.keys // HEAD,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "initializer_range": 0.02,
        "tie_word_embeddings": sizes.tied,
    }
    vision = {
        "depth": sizes.vision_layers,
        "hidden_size": sizes.vision_width,
        "intermediate_size": sizes.vision_inner,
        "num_heads": sizes.vision_width // VISION_HEAD,
        "out_hidden_size": sizes.vision_out,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "initializer_range": 0.02,
    }
    parts = {"text_config": demo["text_config"] | text, "vision_config": demo["vision_config"] | vision}
    return with_layers(demo | parts | {"tie_word_embeddings": sizes.tied}, sizes.layers)


def _without_version(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "transformers_version"}
