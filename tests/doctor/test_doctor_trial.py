"""The checks that train and sample: whole on a CPU, and the model that they would make on a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from typer.testing import CliRunner

from visionr1.capacity.model import DEMO_BASE, QWEN2_5_VL, read_model_sizes
from visionr1.cli import app
from visionr1.doctor.models import fill_vocabulary, published_config, that_fits, write_random_model
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import load_model
from visionr1.recipe import load_recipe


@pytest.mark.timeout(600)
def test_a_cpu_is_examined_from_end_to_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    done = CliRunner().invoke(
        app, ["doctor", "demo", "--set", "rollout.engine=hf", "--json", "--seconds", "400", "--log", str(log)]
    )
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.exit_code == 0, found
    unseen = {"driver", "memory", "sleep", "vllm", "link", "pair"} | ({"nccl"} if torch.version.cuda is None else set())
    assert {check for check, finding in found.items() if finding["state"] == "not seen"} == unseen
    assert {check for check, finding in found.items() if finding["state"] == "good"} == (
        {"torch", "nccl", "shm", "disk", "home", "model", "start", "greedy", "parity", "update", "save", "speed", "resume"}
        - unseen
    )
    assert found["greedy"]["figures"]["tokens"] > 10
    assert 0 < found["parity"]["figures"]["mean_nats"] < 3e-5
    assert found["resume"]["figures"]["apart_relative"] < 1e-6
    assert min(found["speed"]["figures"].values()) > 0
    assert log.stat().st_size > 0


@pytest.mark.parametrize("size", ["3B", "7B"])
def test_a_random_model_has_the_published_size(size: str) -> None:
    demo = Qwen2_5_VLConfig.from_pretrained(DEMO_BASE).to_dict()
    make: Any = Qwen2_5_VLForConditionalGeneration
    with torch.device("meta"):
        made = make(Qwen2_5_VLConfig(**published_config(QWEN2_5_VL[size], demo)))
    assert sum(parameter.numel() for parameter in made.parameters()) == QWEN2_5_VL[size].parameters


def test_a_random_model_can_be_trained_and_sampled(tmp_path: Path) -> None:
    """A published model's form with small numbers: it is written, and read by the trainer's own loader."""
    text: dict[str, Any] = {"layers": 1, "width": 256, "inner": 64, "queries": 256, "keys": 128, "vocabulary": 2000}
    vision = {"vision_layers": 2, "vision_width": 160, "vision_inner": 64, "vision_out": 256}
    small = replace(QWEN2_5_VL["3B"], **(text | vision))
    model = load_recipe("vision-r1", ["model.dtype=float32"]).model
    write_random_model(small, model, torch.device("cpu"), tmp_path)
    assert read_model_sizes(tmp_path) == small
    loaded = load_model(tmp_path, model, torch.device("cpu"))
    assert sum(parameter.numel() for parameter in loaded.parameters()) == small.parameters
    assert len(PromptBuilder(tmp_path, model).tokenizer) == 2000


def test_every_id_has_a_word_once(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text((DEMO_BASE / "tokenizer.json").read_text())
    fill_vocabulary(file, 1000)
    fill_vocabulary(file, 1000)
    tokenizer = json.loads(file.read_text())
    ids = [*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]
    assert set(ids) == set(range(1000))


def test_layers_are_halved_until_one_gpu_can_train_them() -> None:
    recipe = load_recipe("vision-r1")
    three, seven = (that_fits(recipe, QWEN2_5_VL[size], 79.2) for size in ("3B", "7B"))
    assert three.sizes == QWEN2_5_VL["3B"] and "layers" not in str(three)
    assert seven.sizes.layers in (14, 7) and f"{seven.sizes.layers} of 28 layers" in str(seven)
    with pytest.raises(BadInput, match="does not fit"):
        that_fits(recipe, QWEN2_5_VL["72B"], 16.0)
