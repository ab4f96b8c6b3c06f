"""What the look before phase 1 finds, and that a run and `recipe check --deep` both take it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from visionr1.capacity.model import DEMO_BASE
from visionr1.cli import app
from visionr1.errors import BadInput
from visionr1.preflight.base import base_dir, local_base
from visionr1.preflight.check import check_run, notes, reads_base, recipe_faults
from visionr1.recipe import load_recipe, phases
from visionr1.recipe.schema import Model


def faults(*settings: str) -> list[str]:
    recipe = load_recipe("demo", list(settings))
    return recipe_faults(recipe, phases(recipe))


@pytest.mark.parametrize("preset", ["demo", "demo-zero", "demo-long", "demo-ci", "vision-r1", "zero", "long", "ci"])
def test_no_preset_has_a_fault(preset: str) -> None:
    recipe = load_recipe(preset, ["coldstart.problems.path=a"] if preset in ("vision-r1", "long", "ci") else [])
    assert [line for line in recipe_faults(recipe, phases(recipe)) if "sft.data" not in line] == []


def test_a_cold_start_that_nobody_reads() -> None:
    [line] = faults("sft.data={path: /data/a.jsonl}")
    assert line.startswith("coldstart: nobody reads what it writes, because sft.data is /data/a.jsonl: set coldstart to null")
    [line] = faults("sft=null")
    assert line.startswith("coldstart: nobody reads what it writes, because sft is null")
    assert faults("sft.data={path: /data/a.jsonl}", "coldstart=null") == []
    recipe = load_recipe("demo", ["sft.data={path: /data/a.jsonl}"])
    assert recipe_faults(recipe, phases(recipe)[1:]) == [], "a cold start that is done harms nobody"


@pytest.mark.parametrize("function", ["accuracy", "hfrf", "mine.py", "mine:good", "mine.py:a b", ":f"])
def test_a_reward_that_does_not_exist(function: str) -> None:
    [line] = faults(f"reward.function='{function}'")
    assert line.endswith("is not hfrrf, zero or path/file.py:function")


def test_every_fault_is_a_line(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/" + "long" * 30)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    (tmp_path / "there.jsonl").touch()
    settings = [
        f"data.train={{path: {tmp_path}/nowhere.jsonl, image_root: {tmp_path}/no-images}}",
        f"data.held_out.path={tmp_path}/there.jsonl",
        f"coldstart.prompts_dir={tmp_path}/prompts",
        f"coldstart.filters.evaluation_sets=[demo://digits/held-out, {tmp_path}/exam.parquet]",
        f"data.train.difficulty.path={tmp_path}/difficulty.jsonl",
        f"evaluation.benchmarks=[{{name: mathvista}}, {{name: we-math, path: {tmp_path}/we-math.parquet}}]",
        "stages.0.max_completion_tokens=4000",
        f"reward.function={tmp_path}/mine.py:f",
    ]
    recipe = load_recipe("demo", settings)
    with pytest.raises(BadInput) as refused:
        check_run(recipe, phases(recipe), base)
    assert str(refused.value).split("\n") == [
        f"data.train.path: there is nothing at {tmp_path}/nowhere.jsonl: correct the path",
        f"data.train.difficulty.path: there is nothing at {tmp_path}/difficulty.jsonl: correct the path",
        f"coldstart.filters.evaluation_sets.1: there is nothing at {tmp_path}/exam.parquet: correct the path",
        f"evaluation.benchmarks.1.path: there is nothing at {tmp_path}/we-math.parquet: correct the path",
        f"data.train.image_root: there is no folder {tmp_path}/no-images: correct the path",
        f"coldstart.prompts_dir: there is no folder {tmp_path}/prompts: correct the path",
        f"reward.function: there is no file {tmp_path}/mine.py: correct the path",
        str(refused.value).split("\n")[7],
        "data.max_prompt_tokens + stages.0.max_completion_tokens: stage 1 may need 4256 tokens, and the model takes 2048: lower "
        "them",
    ]
    assert "TMPDIR: /tmp/long" in str(refused.value)


def test_a_good_recipe_has_no_fault() -> None:
    recipe = load_recipe("demo")
    check_run(recipe, phases(recipe), DEMO_BASE)
    assert notes(recipe, phases(recipe), DEMO_BASE) == []


def test_only_what_is_still_to_come_is_looked_at() -> None:
    recipe = load_recipe("demo", ["data.train.path=/nowhere", "stages.0.max_completion_tokens=9999"])
    check_run(recipe, phases(recipe)[-1:], None)
    assert not reads_base(recipe, phases(recipe)[2:])
    assert reads_base(recipe, phases(recipe)[1:])
    assert reads_base(load_recipe("demo-zero"), phases(load_recipe("demo-zero")))


def test_a_base_that_is_neither_a_folder_nor_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="there is no folder '/models/none', and it is no Hugging Face name"):
        base_dir(Model(base="/models/none"))
    with pytest.raises(BadInput, match="is a file: give the folder of a model"):
        base_dir(Model(base=str(tmp_path / "file")))
    assert local_base(Model(base="Qwen/Qwen2.5-VL-3B-Instruct")) is None


@pytest.mark.parametrize("words", [["recipe", "check", "--deep"], ["run"]])
def test_both_commands_look_before_phase_1(words: list[str], tmp_path: Path, base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"")
    file = tmp_path / "r.yaml"
    file.write_text("preset: demo\nname: r\nmodel: {base: base}\n")
    where = ["--run", str(tmp_path / "run")] if words == ["run"] else []
    done = CliRunner().invoke(app, [*words, str(file), *where])
    assert done.exit_code == 64
    assert "model.safetensors is no safetensors file" in done.output
    assert not (tmp_path / "run").exists(), "a run that has not begun leaves nothing behind, so its recipe can be corrected"


def test_a_look_without_deep_finds_what_the_recipe_shows() -> None:
    done = CliRunner().invoke(app, ["recipe", "check", "demo", "--set", "reward.function=accuracy"])
    assert (done.exit_code, done.output) == (64, "reward.function 'accuracy' is not hfrrf, zero or path/file.py:function\n")
