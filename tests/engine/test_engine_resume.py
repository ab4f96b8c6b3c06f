"""A checkpoint of two ranks continues with two, one or three, under any ZeRO stage, as if nothing had happened."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_ranks import Case, Outcome, away_under_zero3, policy_weights, relative, run_cases, weights_under_zero3
from ranks import run_ranks
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration

from visionr1.capacity.model import DEMO_BASE

pytestmark = pytest.mark.timeout(900)
SLOW = "optimiser.learning_rate=1e-4"
"""So that an update's rounding, which depends on machine and ranks, is far less than what a weight of bfloat16 can show."""
BFLOAT16 = ("model.dtype=bfloat16", SLOW)
FROZEN = "optimiser.freeze_vision_tower=true"
SAVED = {"zero2": (2, ()), "zero3": (3, ()), "bf16": (2, BFLOAT16), "bf16-zero3": (3, BFLOAT16), "frozen": (1, (FROZEN,))}
"""Checkpoint folders: ZeRO stage and other settings of the run that wrote them after its first step."""


OFFLOADED = ("zero2", "bf16")
"""Of these, runs that move their states away and back after each step."""


def settings(zero_stage: int, *others: str) -> tuple[str, ...]:
    return (f"optimiser.zero_stage={zero_stage}", *others)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return policy_weights(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def outcomes(policy: str, folder: Path) -> dict[str, Outcome]:
    """Outcomes after step 2: of whole runs, and of runs that start from the whole runs' checkpoint after step 1."""
    whole, again, others = [], [], []
    for name, (stage, other) in SAVED.items():
        path = str(folder / name)
        Path(path).mkdir()
        whole.append(Case(name, settings=settings(stage, *other), steps=(1, 2), save_after=1, folder=path))
        again.append(Case(f"{name} again", settings=settings(stage, *other), start=path, steps=(2,)))
        others.append(Case(f"{name} with", settings=settings(stage, *other), start=path, steps=(2,)))
    for name in OFFLOADED:
        stage, other = SAVED[name]
        path = str(folder / f"{name} offloaded")
        Path(path).mkdir()
        chosen = settings(stage, *other)
        whole.append(Case(f"{name} offloaded", settings=chosen, steps=(1, 2), save_after=1, folder=path, offloads=True))
        again.append(Case(f"{name} offloaded again", settings=chosen, start=path, steps=(2,), offloads=True))
    across = [
        Case("zero3 by ZeRO 2", settings=settings(2), start=str(folder / "zero3"), steps=(2,)),
        Case("zero2 by ZeRO 3", settings=settings(3), start=str(folder / "zero2"), steps=(2,)),
    ]
    first, _ = run_ranks(run_cases, 2, [*whole, *again, *across], policy, seconds=240)
    found = dict(first)
    lost = Case("bf16 without masters", settings=settings(2, *BFLOAT16), start=without_masters(folder / "bf16"), steps=(2,))
    for world in (1, 3):
        alone, *_ = run_ranks(run_cases, world, [*others, lost], policy, seconds=240)
        found |= {f"{name} {world}": outcome for name, outcome in alone.items()}
    return found


def without_masters(saved: Path) -> str:
    """A copy of a checkpoint whose master weights are no finer than its weights."""
    copy = Path(shutil.copytree(saved, saved.with_name(f"{saved.name} without masters")))
    for file in (copy / "trainer").iterdir():
        state = {key: value.bfloat16().float() if "/master/" in key else value for key, value in load_file(file).items()}
        save_file(state, file, metadata={"updates": "1"})
    return str(copy)


@pytest.mark.parametrize("name", OFFLOADED)
def test_states_that_left_and_came_back_are_saved_and_trained_on(outcomes: dict[str, Outcome], name: str) -> None:
    """On a GPU they leave after each step, and every checkpoint is written after that."""
    undisturbed = outcomes[name]
    for other in (f"{name} offloaded", f"{name} offloaded again"):
        assert outcomes[other].stats[-1] == undisturbed.stats[-1]
        for key, expected in undisturbed.weights.items():
            assert np.array_equal(outcomes[other].weights[key], expected), (other, key)


@pytest.mark.parametrize("name", SAVED)
def test_the_same_ranks_go_on_bit_by_bit(outcomes: dict[str, Outcome], name: str) -> None:
    whole, again = outcomes[name], outcomes[f"{name} again"]
    assert again.stats[-1] == whole.stats[-1]
    for key, expected in whole.weights.items():
        assert np.array_equal(again.weights[key], expected), key


@pytest.mark.parametrize("name", ["zero2", "zero3", "frozen"])
@pytest.mark.parametrize("world", [1, 3])
def test_another_number_of_ranks_goes_on(outcomes: dict[str, Outcome], name: str, world: int) -> None:
    assert_same_step(outcomes[f"{name} with {world}"], outcomes[name])


@pytest.mark.parametrize(("across", "name"), [("zero3 by ZeRO 2", "zero3"), ("zero2 by ZeRO 3", "zero2")])
def test_another_zero_stage_goes_on(outcomes: dict[str, Outcome], across: str, name: str) -> None:
    assert_same_step(outcomes[across], outcomes[name])


def assert_same_step(ours: Outcome, theirs: Outcome) -> None:
    assert ours.stats[-1] == pytest.approx(theirs.stats[-1], rel=1e-6, abs=1e-9)
    assert relative(ours.weights, theirs.weights) <= 1e-6


@pytest.mark.parametrize("world", [1, 3])
def test_bfloat16_masters_survive_another_number_of_ranks(outcomes: dict[str, Outcome], world: int) -> None:
    """Rounded weights alone would lose what float32 masters have: the second step would start elsewhere."""
    ours, theirs = outcomes[f"bf16 with {world}"], outcomes["bf16"]
    assert ours.stats[-1]["loss"] == pytest.approx(theirs.stats[-1]["loss"], rel=1e-2)
    assert changed(ours, theirs) < 0.05
    assert changed(outcomes[f"bf16 without masters {world}"], theirs) > 0.2, "the control"


def changed(ours: Outcome, theirs: Outcome) -> float:
    """The share of weights that are not equal, as a mean over all tensors."""
    return float(np.mean([np.mean(ours.weights[name] != value) for name, value in theirs.weights.items()]))


def test_without_the_trainers_state_the_next_step_is_another(outcomes: dict[str, Outcome], policy: str, folder: Path) -> None:
    """The control: what the tests above compare does depend on the moments."""
    empty = Case("weights alone", settings=settings(2), start=None, steps=(2,))
    [alone] = run_ranks(run_cases, 1, [empty], str(folder / "zero2"))
    assert relative(alone["weights alone"].weights, outcomes["zero2"].weights) > 1e-4


@pytest.mark.parametrize("name", ["zero2", "bf16-zero3"])
def test_the_folder_is_a_whole_model_for_transformers(outcomes: dict[str, Outcome], folder: Path, name: str) -> None:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / name, dtype="auto")
    assert model.dtype == (torch.bfloat16 if "bf16" in name else torch.float32)
    base = AutoProcessor.from_pretrained(DEMO_BASE)
    processor = AutoProcessor.from_pretrained(folder / name)
    assert processor.chat_template == base.chat_template
    assert processor.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert processor.image_processor.to_dict() == base.image_processor.to_dict()
    ours, theirs = (GenerationConfig.from_pretrained(path) for path in (folder / name, DEMO_BASE))
    assert ours.eos_token_id == theirs.eos_token_id


def test_the_trainers_state_is_safetensors_in_a_folder_of_its_own(outcomes: dict[str, Outcome], folder: Path) -> None:
    """vLLM reads every safetensors file beside the weights; a pickle could run code."""
    for name in SAVED:
        files = sorted(str(path.relative_to(folder / name)) for path in (folder / name).rglob("*") if path.is_file())
        assert [file for file in files if file.endswith((".safetensors", ".pt", ".bin", ".pkl"))] == [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "trainer/rank-00000-of-00002.safetensors",
            "trainer/rank-00001-of-00002.safetensors",
        ]
        names = json.loads((folder / name / "config.json").read_text())
        assert names["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]


@pytest.mark.parametrize("name", SAVED)
def test_the_weights_have_the_names_that_transformers_itself_writes(
    outcomes: dict[str, Outcome], folder: Path, tmp_path: Path, name: str
) -> None:
    """Releases of transformers from before 5 and other programs know the published names alone."""
    load: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained  # its types know no loading info
    model, found = load(folder / name, dtype="auto", output_loading_info=True)
    assert not any(found.values()), found
    for key, value in outcomes[name + " again"].weights.items():
        assert model.get_parameter(key).shape == value.shape
    model.save_pretrained(tmp_path)
    assert weights_in(folder / name).keys() == weights_in(tmp_path).keys() == weights_in(DEMO_BASE).keys()
    for key, tensor in weights_in(tmp_path).items():
        assert torch.equal(weights_in(folder / name)[key], tensor), key
    index = json.loads((folder / name / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in weights_in(tmp_path).values())
    for file in set(index["weight_map"].values()):
        assert load_file(folder / name / file).keys() == {key for key, place in index["weight_map"].items() if place == file}


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_each_rank_writes_its_share_of_weights_and_state(outcomes: dict[str, Outcome], folder: Path) -> None:
    for name in ("zero2", "zero3"):
        states = [load_file(folder / name / f"trainer/rank-0000{rank}-of-00002.safetensors") for rank in (0, 1)]
        weights = [load_file(folder / name / f"model-0000{number}-of-00002.safetensors") for number in (1, 2)]
        for shares in (states, weights):
            sizes = [sum(tensor.nbytes for tensor in share.values()) for share in shares]
            assert sizes[0] == pytest.approx(sizes[1], rel=0.05), (name, sizes)
        module = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / name, dtype="auto")
        for key, parameter in module.named_parameters():
            parts = {int(place): share[f"{key}/master/{place}"] for share in states for place in places(share, f"{key}/master/")}
            assert torch.equal(torch.cat([parts[start] for start in sorted(parts)]), parameter.detach().flatten()), key


def places(share: dict[str, torch.Tensor], prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in share if key.startswith(prefix)]


def test_a_checkpoint_of_an_older_release_goes_on(outcomes: dict[str, Outcome], folder: Path, tmp_path: Path) -> None:
    """They had one file of weights under the module's own names, and whole tensors in the trainer's state."""
    shutil.copytree(folder / "zero2", tmp_path / "old", ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    module = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "zero2", dtype="auto")
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    save_file({name: parameter.detach() for name, parameter in module.named_parameters()}, tmp_path / "old/model.safetensors")
    states: dict[str, dict[int, torch.Tensor]] = {}
    for file in (folder / "zero2/trainer").iterdir():
        for key, part in load_file(file).items():
            name, kind, place = key.split("/")
            states.setdefault(f"{name}/{kind}", {})[int(place)] = part
    whole = {key: torch.cat([parts[start] for start in sorted(parts)]) for key, parts in states.items()}
    whole = {key: tensor.reshape(shapes[key.split("/")[0]]) for key, tensor in whole.items()}
    names = sorted(whole)
    for rank in (0, 1):
        share = {name: whole[name] for name in names[rank::2]}
        save_file(share, tmp_path / f"old/trainer/rank-0000{rank}-of-00002.safetensors", metadata={"updates": "1"})
    case = Case("old", settings=settings(2), start=str(tmp_path / "old"), steps=(2,), save_after=2, folder=str(tmp_path / "new"))
    (tmp_path / "new").mkdir()
    first, _ = run_ranks(run_cases, 2, [case], str(tmp_path / "old"))
    for key, expected in outcomes["zero2"].weights.items():
        assert np.array_equal(first["old"].weights[key], expected), key
    assert weights_in(tmp_path / "new").keys() == weights_in(DEMO_BASE).keys(), "the next checkpoint has the published names"


def test_a_state_of_other_parameters_is_refused_in_one_line(outcomes: dict[str, Outcome], folder: Path) -> None:
    case = Case("thawed", settings=settings(1), start=str(folder / "frozen"), steps=(2,))
    with pytest.raises(AssertionError, match=r"BadInput: .*/frozen/trainer has not all of master of model\.visual\."):
        run_ranks(run_cases, 1, [case], str(folder / "frozen"))


def test_whole_weights_under_zero3_are_the_loaded_ones_on_every_rank(policy: str) -> None:
    expected = dict(Qwen2_5_VLForConditionalGeneration.from_pretrained(policy, dtype="auto").named_parameters())
    for weights in run_ranks(weights_under_zero3, 2, policy):
        assert weights.keys() == expected.keys()
        for name, value in weights.items():
            assert torch.equal(torch.from_numpy(value), expected[name]), name


def test_under_zero3_master_weights_and_moments_go_away_and_whole_weights_can_still_be_handed_on(policy: str) -> None:
    assert run_ranks(away_under_zero3, 2, policy) == [({torch.float64}, {torch.float32})] * 2
