"""A model that is divided while it loads is the model that is loaded whole, and no rank ever holds more than a part of it."""

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partition_parameters import Init
from engine_ranks import CPU, ROWS, recipe_of
from ranks import run_ranks
from safetensors.torch import load_file, save_file

from visionr1.capacity.model import DEMO_BASE
from visionr1.engine.divided import frozen_engine, load_divided
from visionr1.engine.zero import gathered_on, join_process_group
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import load_model
from visionr1.model.pack import TrainSequence, pack, prompt_tensors
from visionr1.model.policy import Policy

MODEL = recipe_of(()).model


def copy_of_base(folder: Path, **config: Any) -> Path:
    shutil.copytree(DEMO_BASE, folder)
    settings = json.loads((folder / "config.json").read_text()) | config
    settings["text_config"] |= config
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def sharded(folder: Path) -> Path:
    """The base in several files, as the published models are."""
    module = load_model(copy_of_base(folder), MODEL, CPU)
    (folder / "model.safetensors").unlink()
    module.save_pretrained(folder, max_shard_size="2MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder


def with_module_names(folder: Path) -> Path:
    """The base as older releases of this program saved models."""
    module = load_model(copy_of_base(folder), MODEL, CPU)
    save_file({name: parameter.detach() for name, parameter in module.named_parameters()}, folder / "model.safetensors")
    return folder


def tied(folder: Path) -> Path:
    """A model with one tensor for embedding and head, as the published 3B has."""
    weights = load_file(copy_of_base(folder, tie_word_embeddings=True) / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")
    return folder


def compared(folder: Path) -> tuple[list[str], float]:
    """What differs between the divided model and the whole one, and how far their log-probs are apart."""
    join_process_group(CPU)
    whole, divided = load_model(folder, MODEL, CPU), load_divided(folder, MODEL, CPU)
    different = [name for name, buffer in whole.named_buffers() if not torch.equal(buffer, divided.get_buffer(name))]
    names = [name for name, _ in whole.named_parameters()]
    assert names == [name for name, _ in divided.named_parameters()]
    for name, parameter in whole.named_parameters():
        found = gathered_on(0, divided.get_parameter(name))
        if found is not None and not torch.equal(found, parameter):
            different.append(name)
    builder = PromptBuilder(DEMO_BASE, MODEL)
    prompt = builder.build(ROWS[0])
    tensors = prompt_tensors(whole.model, builder.expand(prompt), builder.image_inputs(prompt.images), builder.image_token_id)
    row = pack([tensors], [TrainSequence(0, [40, 41, 42]), TrainSequence(0, [50])], shared=True)
    one, other = (Policy(model, builder.banned_token_ids, 1.0).eval().requires_grad_(False) for model in (whole, divided))
    with torch.no_grad():
        return different, float((one(row).logps_N - frozen_engine(other)(row).logps_N).abs().max())


@pytest.mark.parametrize(("make", "world"), [(sharded, 2), (with_module_names, 1), (tied, 2)])
def test_a_divided_model_is_the_whole_one(tmp_path: Path, make: Any, world: int) -> None:
    assert run_ranks(compared, world, make(tmp_path / "model")) == [([], 0.0)] * world


def most_held(folder: Path) -> int:
    """Bytes of all tensors that this rank made, while a parameter is whole, at their most."""
    join_process_group(CPU)
    gc.freeze()  # what was there before is not looked at
    most = 0
    divide = Init._zero_init_param

    def watched(self: Init, parameter: Any) -> None:
        nonlocal most
        most = max(most, tensor_bytes())
        divide(self, parameter)

    Init._zero_init_param = watched
    model = load_divided(folder, MODEL, CPU)
    assert most > 0 and dist.is_initialized()
    del model
    return most


def tensor_bytes() -> int:
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if type(one) in (torch.Tensor, torch.nn.Parameter) and one.device == CPU
    }
    return sum(storages.values())


def test_a_rank_never_holds_more_than_its_part_and_one_tensor() -> None:
    weights = load_file(DEMO_BASE / "model.safetensors")
    sizes = [2 * tensor.nbytes for tensor in weights.values()]  # the base is bfloat16, the demo trains in float32
    buffers_and_rounding = 0.02 * sum(sizes)
    for most in run_ranks(most_held, 3, DEMO_BASE):
        assert sum(sizes) / 3 < most <= sum(sizes) / 3 + max(sizes) + buffers_and_rounding


def refused(folder: Path) -> str:
    join_process_group(CPU)
    try:
        load_divided(folder, MODEL, CPU)
    except BadInput as error:
        return str(error)
    return "nothing"


def test_a_model_without_a_tensor_is_one_line_on_every_rank(tmp_path: Path) -> None:
    folder = copy_of_base(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.3.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    for said in run_ranks(refused, 2, folder):
        assert said.startswith(f"model.base: {folder} lacks 1 of the 81 tensors of its config.json")
