"""Sizes that follow from a config.json are those of the real models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from visionr1.capacity.model import DEMO_BASE, QWEN2_5_VL, model_sizes, read_model_sizes
from visionr1.errors import BadInput

PUBLISHED_BYTES = {"3B": 7_509_245_952, "7B": 16_584_333_312, "32B": 66_905_436_672, "72B": 146_821_554_688}
"""`total_size` in the models' model.safetensors.index.json, in bfloat16."""


@pytest.mark.parametrize("name", PUBLISHED_BYTES)
def test_the_parameters_of_the_published_models(name: str) -> None:
    assert 2 * QWEN2_5_VL[name].parameters == PUBLISHED_BYTES[name]


@pytest.mark.parametrize("tied", [False, True])
def test_the_parts_of_the_demo_are_those_that_transformers_builds(tied: bool) -> None:
    config = json.loads((DEMO_BASE / "config.json").read_text()) | {"tie_word_embeddings": tied}
    kind: Any = Qwen2_5_VLForConditionalGeneration  # its constructor has no types
    with torch.device("meta"):
        model = kind(Qwen2_5_VLConfig.from_dict(config))
    model.tie_weights()
    sizes = model_sizes(config)

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert sizes.parameters == count(model)
    assert sizes.vision == count(model.model.visual)
    assert sizes.layer == count(model.model.language_model.layers[0])
    assert sorted(sizes.tensors) == sorted(parameter.numel() for parameter in model.parameters())
    assert sizes.trained(vision=False) == count(model) - count(model.model.visual)


def test_the_published_layout_of_a_config_is_read_too() -> None:
    nested = json.loads((DEMO_BASE / "config.json").read_text())
    flat = nested["text_config"] | {key: nested[key] for key in ("vision_config", "tie_word_embeddings")}
    assert model_sizes(flat) == model_sizes(nested)


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"vision_config": {}}', '{"vision_config": 3, "hidden_size": "x"}'])
def test_a_config_of_something_else_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"^model.base: .*config.json is not the config.json of a Qwen2.5-VL: .*$"):
        read_model_sizes(tmp_path)
