"""Paths in a recipe mean the same from everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionr1.errors import BadInput
from visionr1.recipe import load_recipe, parse_recipe, to_yaml

FILE = """
preset: demo
model: {base: models/mine}
data:
  train: {path: train.jsonl, image_root: "my images"}
  held_out: {path: ../held-out}
coldstart: {problems: {path: $PROBLEMS/a.parquet}, prompts_dir: ~/prompts}
reward: {function: "rewards/mine.py:good"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here/models/mine").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "here/r.yaml"
    file.write_text(FILE)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PROBLEMS", "/problems")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return file


@pytest.mark.parametrize("name", ["{folder}/r.yaml", "../here/r.yaml", "../here/../here/r.yaml"])
def test_relative_paths_mean_the_folder_of_the_recipe_file(name: str, file: Path) -> None:
    folder = file.parent
    recipe = load_recipe(name.format(folder=folder))
    assert Path(recipe.model.base).resolve() == folder / "models/mine"
    assert Path(recipe.data.train.path).resolve() == folder / "train.jsonl"
    assert Path(str(recipe.data.train.image_root)).resolve() == folder / "my images"
    assert recipe.data.held_out and Path(recipe.data.held_out.path).resolve() == folder.parent / "held-out"
    assert recipe.coldstart and recipe.coldstart.problems.path == "/problems/a.parquet"
    assert recipe.coldstart.prompts_dir == "/home/me/prompts"
    assert Path(recipe.reward.function).resolve() == folder / "rewards/mine.py:good"


def test_what_a_run_directory_holds_means_the_same_from_everywhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(file))
    monkeypatch.chdir("/")
    assert parse_recipe(to_yaml(recipe), "recipe.yaml", ["rollout.workers=1"], Path.cwd()).data == recipe.data


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("~/mymodel", "/home/me/mymodel"),
        ("$HOME/mymodel", "/home/me/mymodel"),
        ("${HOME}/m/../n", "/home/me/m/../n"),
        ("my models/qwen vl", "{folder}/my models/qwen vl"),
        ("models/mine", "{folder}/models/mine"),
        ("a/b/c", "{folder}/a/b/c"),
        ("./mine", "{folder}/mine"),
        ("/models/mine", "/models/mine"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("demo", "demo"),
    ],
)
def test_a_base_is_a_folder_or_a_name(base: str, expected: str, file: Path) -> None:
    file.write_text(f'preset: demo\nmodel: {{base: "{base}"}}\n')
    assert load_recipe(str(file)).model.base == expected.format(folder=file.parent)


@pytest.mark.parametrize("path", ["s3://bucket/a.jsonl", "hf://Osilly/Vision-R1-rl@train", "demo://digits/train"])
def test_addresses_stay(path: str, file: Path) -> None:
    file.write_text(f"preset: demo\ndata: {{train: {{path: '{path}'}}}}\n")
    assert load_recipe(str(file)).data.train.path == path


def test_paths_of_the_command_line_are_relative_to_the_current_folder(file: Path) -> None:
    recipe = load_recipe(str(file), ["data.train.path=b.jsonl", "sft.data={path: c.jsonl}", "reward.function=r.py:f"])
    here = Path.cwd()
    assert recipe.data.train.path == f"{here}/b.jsonl"
    assert recipe.sft and recipe.sft.data and recipe.sft.data.path == f"{here}/c.jsonl"
    assert recipe.reward.function == f"{here}/r.py:f"
    assert recipe.data.held_out and recipe.data.held_out.path == f"{file.parent}/../held-out"


def test_the_text_of_a_recipe_for_pods_keeps_its_paths(file: Path) -> None:
    recipe = parse_recipe(FILE, "spec.recipe", ["name=a", "data.train.limit=3"])
    assert (recipe.data.train.path, recipe.model.base) == ("train.jsonl", "models/mine")


def test_a_variable_that_is_not_set(file: Path) -> None:
    file.write_text("preset: demo\ndata: {held_out: {path: $NO_SUCH_THING/a.jsonl}}\n")
    line = r"r.yaml: data.held_out.path: \$NO_SUCH_THING/a.jsonl: the variable NO_SUCH_THING is not set"
    with pytest.raises(BadInput, match=line):
        load_recipe(str(file))
    with pytest.raises(BadInput, match="--set model.base=.NO_SUCH_THING: model.base: .NO_SUCH_THING: the variable"):
        load_recipe("demo", ["model.base=$NO_SUCH_THING"])
