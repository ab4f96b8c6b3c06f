"""A model that is not whole, or of another family, is refused in one line; transformers would train it from random values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from visionr1.capacity.model import DEMO_BASE, read_model_sizes
from visionr1.errors import BadInput
from visionr1.model.load import load_model
from visionr1.preflight.base import read_config
from visionr1.preflight.weights import check_weights, current_name, tensor_shapes
from visionr1.recipe.schema import Model

Tensors = dict[str, torch.Tensor]
SETTINGS = Model(base="demo", dtype="float32")
FILE = "model.safetensors"
CPU = torch.device("cpu")
NORM = "model.layers.1.input_layernorm.weight"


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(folder / FILE)), folder / FILE, metadata={"format": "pt"})


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def without(tensors: Tensors, *names: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def split(folder: Path) -> dict[str, str]:
    """The same weights in two files with an index."""
    tensors = load_file(folder / FILE)
    (folder / FILE).unlink()
    places = {name: f"model-0000{number % 2 + 1}-of-00002.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file(
            {name: tensor for name, tensor in tensors.items() if places[name] == file}, folder / file, metadata={"format": "pt"}
        )
    (folder / f"{FILE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


@pytest.mark.parametrize("tied", [True, False])
def test_the_table_of_tensors_is_that_of_transformers(tied: bool, base: Path) -> None:
    change_config(base, lambda config: config.update(tie_word_embeddings=tied))
    with torch.device("meta"):
        model: Any = cast(Any, AutoModelForImageTextToText).from_config(AutoConfig.from_pretrained(base))
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if tied:
        del theirs["lm_head.weight"]
    assert tensor_shapes(read_config(base), read_model_sizes(base)) == theirs


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda tensors: without(tensors, NORM), "lacks 1 of the 81 tensors"),
        (lambda tensors: {k: v for k, v in tensors.items() if "visual" not in k}, "lacks 30 of the 81 tensors"),
        (
            lambda tensors: without(tensors, "lm_head.weight"),
            "lacks 1 of the 81 tensors of its config.json (lm_head.weight)",
        ),
        (renamed(lambda name: f"base_model.{name}"), "has 81 tensors that it does not know (base_model."),
        (renamed(lambda name: name.replace("gate_proj", "w1")), "layers.0.mlp.w1.weight"),
        (lambda tensors: tensors | {"v_head.weight": torch.zeros(1)}, "has 1 tensors that it does not know (v_head.weight)"),
        (
            lambda tensors: tensors | {NORM: torch.ones(64)},
            "has 1 tensors of another shape (model.language_model.layers.1.input_layernorm.weight is [64], not [128])",
        ),
        (lambda tensors: tensors | {NORM: torch.ones(128, dtype=torch.int8)}, "of a type that cannot be trained"),
    ],
)
def test_weights_that_are_not_a_whole_model(change: Callable[[Tensors], Tensors], line: str, base: Path) -> None:
    change_weights(base, change)
    with pytest.raises(BadInput) as refused:
        load_model(base, SETTINGS, CPU)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def published(name: str) -> str:
    """As Qwen publishes it."""
    now = current_name(name)
    return now.removeprefix("model.") if now.startswith("model.visual.") else now.replace("model.language_model.", "model.")


def half(name: str) -> str:
    """Each second name as published, the others as transformers has them."""
    return published(name) if len(name) % 2 else current_name(name)


@pytest.mark.parametrize("spelling", [published, current_name, half])
def test_every_spelling_of_the_names_loads_the_same_numbers(spelling: Callable[[str], str], base: Path) -> None:
    change_weights(base, renamed(spelling))
    ours, theirs = load_model(base, SETTINGS, CPU), load_model(DEMO_BASE, SETTINGS, CPU)
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_tied_head_may_be_there_or_not(base: Path) -> None:
    change_config(base, lambda config: config.update(tie_word_embeddings=True))
    check_weights(base)
    change_weights(base, lambda tensors: without(tensors, "lm_head.weight"))
    check_weights(base)
    assert load_model(base, SETTINGS, CPU).lm_head.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda config: config.update(model_type="qwen2_vl"), "is a model of the type 'qwen2_vl'"),
        (lambda config: config.pop("model_type"), "is a model of the type None"),
        (lambda config: config["text_config"].update(num_hidden_layers=2), "has 24 tensors that it does not know"),
        (lambda config: config["text_config"].update(num_hidden_layers=6), "lacks 24 of the 105 tensors"),
        (lambda config: config["text_config"].update(vocab_size=999), "has 2 tensors of another shape"),
        (lambda config: config.pop("vision_config"), "is not the config.json of a Qwen2.5-VL"),
    ],
)
def test_a_config_of_another_model(change: Callable[[dict[str, Any]], object], line: str, base: Path) -> None:
    change_config(base, change)
    with pytest.raises(BadInput, match="model.base") as refused:
        load_model(base, SETTINGS, CPU)
    assert line in str(refused.value)


def cut(folder: Path) -> None:
    file = next(folder.glob("model-00002*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1000])


def lose_a_shard(folder: Path) -> None:
    next(folder.glob("model-00002*.safetensors")).unlink()


def pointer(folder: Path) -> None:
    next(folder.glob("model-00002*.safetensors")).write_text("version https://git-lfs.github.com/spec/v1\nsize 123\n")


def empty(folder: Path) -> None:
    next(folder.glob("model-00002*.safetensors")).write_bytes(b"")


def misplaced(folder: Path) -> None:
    index = folder / f"{FILE}.index.json"
    places = json.loads(index.read_text())["weight_map"]
    places["model.extra"] = places["lm_head.weight"]
    index.write_text(json.dumps({"weight_map": places}))


def no_weights(folder: Path) -> None:
    (folder / f"{FILE}.index.json").unlink()


def no_index(folder: Path) -> None:
    (folder / f"{FILE}.index.json").write_text("{}")


def leads_out(folder: Path) -> None:
    index = folder / f"{FILE}.index.json"
    index.write_text(index.read_text().replace("model-00002", "../model-00002"))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (cut, "bytes where its header asks for"),
        (lose_a_shard, "lacks 1 of the 2 files that its model.safetensors.index.json names (model-00002-of-00002.safetensors)"),
        (pointer, "is no safetensors file"),
        (empty, "is no safetensors file"),
        (misplaced, "1 tensors are not in the files where"),
        (no_weights, "has neither model.safetensors nor model.safetensors.index.json"),
        (no_index, "has no weight_map"),
        (leads_out, "lacks 1 of the 2 files"),
    ],
)
def test_damaged_files(damage: Callable[[Path], None], line: str, base: Path) -> None:
    split(base)
    load_model(base, SETTINGS, CPU)
    damage(base)
    with pytest.raises(BadInput) as refused:
        load_model(base, SETTINGS, CPU)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"is an adapter \(LoRA\), not a model"):
        check_weights(tmp_path)
